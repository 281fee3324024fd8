#include "crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace walmirror {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;

using Table = std::array<uint32_t, 256>;

constexpr Table byte_table() {
  Table table{};
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; bit++) crc = (crc & 1) != 0 ? (crc >> 1) ^ kPolynomial : crc >> 1;
    table[i] = crc;
  }
  return table;
}

constexpr std::array<Table, 8> slice_tables() {
  std::array<Table, 8> tables{};
  tables[0] = byte_table();
  for (size_t k = 1; k < 8; k++) {
    for (uint32_t i = 0; i < 256; i++) {
      tables[k][i] = (tables[k - 1][i] >> 8) ^ tables[0][tables[k - 1][i] & 0xff];
    }
  }
  return tables;
}

constexpr std::array<Table, 8> kSlices = slice_tables();

/// Eight bytes a step ("slicing by 8", Kounavis and Berry 2005), on processors without an
/// instruction for it.
uint32_t crc32c_table(uint32_t crc, const void* data, size_t size) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  crc = ~crc;
  while (size >= 8) {
    uint64_t word;
    std::memcpy(&word, bytes, 8);
    word ^= crc;
    crc = 0;
    for (size_t k = 0; k < 8; k++) crc ^= kSlices[7 - k][(word >> (8 * k)) & 0xff];
    bytes += 8;
    size -= 8;
  }
  while (size-- > 0) crc = (crc >> 8) ^ kSlices[0][(crc ^ *bytes++) & 0xff];
  return ~crc;
}

#if defined(__x86_64__) || defined(__aarch64__)

/// The instruction has a latency of three cycles and a throughput of one: three chains over
/// neighbouring lanes run at once, and are joined by advancing a chain over a lane's length of
/// zeros, which is linear in its bits.
constexpr size_t kLane = 1024;

struct Advance {
  std::array<Table, 4> tables{};

  Advance() {
    std::array<uint32_t, 32> basis{};
    for (uint32_t bit = 0; bit < 32; bit++) {
      uint32_t crc = 1u << bit;
      for (size_t i = 0; i < kLane; i++) crc = (crc >> 8) ^ kSlices[0][crc & 0xff];
      basis[bit] = crc;
    }
    for (uint32_t k = 0; k < 4; k++) {
      for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = 0;
        for (uint32_t bit = 0; bit < 8; bit++) {
          if ((i >> bit & 1) != 0) crc ^= basis[8 * k + bit];
        }
        tables[k][i] = crc;
      }
    }
  }

  uint32_t operator()(uint32_t crc) const {
    return tables[0][crc & 0xff] ^ tables[1][crc >> 8 & 0xff] ^ tables[2][crc >> 16 & 0xff] ^
           tables[3][crc >> 24];
  }
};

const Advance& advance_one_lane() {
  static const Advance advance;
  return advance;
}

#if defined(__x86_64__)
#define WALMIRROR_CRC_TARGET __attribute__((target("sse4.2")))
WALMIRROR_CRC_TARGET inline uint32_t step8(uint32_t crc, uint64_t word) {
  return static_cast<uint32_t>(_mm_crc32_u64(crc, word));
}
WALMIRROR_CRC_TARGET inline uint32_t step1(uint32_t crc, uint8_t byte) {
  return _mm_crc32_u8(crc, byte);
}
#else
#define WALMIRROR_CRC_TARGET __attribute__((target("+crc")))
WALMIRROR_CRC_TARGET inline uint32_t step8(uint32_t crc, uint64_t word) {
  return __crc32cd(crc, word);
}
WALMIRROR_CRC_TARGET inline uint32_t step1(uint32_t crc, uint8_t byte) {
  return __crc32cb(crc, byte);
}
#endif

inline uint64_t load8(const uint8_t* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, 8);
  return word;
}

WALMIRROR_CRC_TARGET uint32_t crc32c_instruction(uint32_t crc, const void* data, size_t size) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  crc = ~crc;
  if (size >= 3 * kLane) {
    const Advance& advance = advance_one_lane();
    do {
      uint32_t second = 0;
      uint32_t third = 0;
      for (size_t i = 0; i < kLane; i += 8) {
        crc = step8(crc, load8(bytes + i));
        second = step8(second, load8(bytes + kLane + i));
        third = step8(third, load8(bytes + 2 * kLane + i));
      }
      crc = advance(advance(crc) ^ second) ^ third;
      bytes += 3 * kLane;
      size -= 3 * kLane;
    } while (size >= 3 * kLane);
  }
  for (; size >= 8; size -= 8, bytes += 8) crc = step8(crc, load8(bytes));
  for (; size > 0; size--, bytes++) crc = step1(crc, *bytes);
  return ~crc;
}

bool has_instruction() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("sse4.2") != 0;
#else
  return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
#endif
}
#endif

std::vector<Crc32cImplementation> find_implementations() {
  std::vector<Crc32cImplementation> found;
#if defined(__x86_64__)
  if (has_instruction()) found.push_back({"sse4.2", crc32c_instruction});
#elif defined(__aarch64__)
  if (has_instruction()) found.push_back({"armv8", crc32c_instruction});
#endif
  found.push_back({"table", crc32c_table});
  return found;
}

}  // namespace

const std::vector<Crc32cImplementation>& crc32c_implementations() {
  static const std::vector<Crc32cImplementation> found = find_implementations();
  return found;
}

uint32_t crc32c(uint32_t crc, const void* data, size_t size) {
  static const Crc32cFunction run = crc32c_implementations().front().run;
  return run(crc, data, size);
}

}  // namespace walmirror
