#include "crc32c.h"

#include <cstring>
#include <random>
#include <vector>

#include "test.h"

namespace walmirror::test::crc32c_test {
namespace {

/// Bit by bit from the polynomial: too slow for anything but being right.
uint32_t by_definition(uint32_t crc, const uint8_t* bytes, size_t size) {
  crc = ~crc;
  for (size_t i = 0; i < size; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
  }
  return ~crc;
}

std::vector<uint8_t> random_bytes(size_t size) {
  std::mt19937_64 random(size);
  std::vector<uint8_t> bytes(size);
  for (auto& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

TEST(Crc32cEveryImplementationGivesThePublishedVectors) {
  std::vector<uint8_t> zeros(32, 0), ones(32, 0xff), up(32), down(32);
  for (uint8_t i = 0; i < 32; i++) {
    up[i] = i;
    down[i] = static_cast<uint8_t>(31 - i);
  }
  for (const auto& [name, run] : crc32c_implementations()) {
    CHECK_EQ(run(0, zeros.data(), 32), 0x8a9136aau);
    CHECK_EQ(run(0, ones.data(), 32), 0x62a8ab43u);
    CHECK_EQ(run(0, up.data(), 32), 0x46dd794eu);
    CHECK_EQ(run(0, down.data(), 32), 0x113fdb5cu);
    CHECK_EQ(run(0, "123456789", 9), 0xe3069283u);
    CHECK_EQ(run(0, "", 0), 0u);
  }
}

TEST(Crc32cImplementationsAgreeAtEveryShortLengthAndAlignment) {
  auto bytes = random_bytes(400);
  for (size_t offset = 0; offset < 16; offset++) {
    for (size_t size = 0; offset + size <= bytes.size(); size++) {
      uint32_t expected = by_definition(0, bytes.data() + offset, size);
      for (const auto& [name, run] : crc32c_implementations()) {
        CHECK_EQ(run(0, bytes.data() + offset, size), expected);
      }
    }
  }
}

TEST(Crc32cImplementationsAgreeAroundTheInterleavedLanes) {
  auto bytes = random_bytes(20000);
  for (size_t lanes = 1; lanes <= 6; lanes++) {
    for (size_t size = lanes * 3072 - 20; size <= lanes * 3072 + 20; size++) {
      for (size_t offset : {0, 1, 7, 8}) {
        uint32_t expected = by_definition(0, bytes.data() + offset, size);
        for (const auto& [name, run] : crc32c_implementations()) {
          CHECK_EQ(run(0, bytes.data() + offset, size), expected);
        }
      }
    }
  }
}

TEST(Crc32cGoesOnFromTheChecksumOfTheBytesBefore) {
  auto bytes = random_bytes(10000);
  uint32_t whole = by_definition(0, bytes.data(), bytes.size());
  for (const auto& [name, run] : crc32c_implementations()) {
    for (size_t cut = 0; cut <= bytes.size(); cut += 97) {
      uint32_t first = run(0, bytes.data(), cut);
      CHECK_EQ(run(first, bytes.data() + cut, bytes.size() - cut), whole);
    }
  }
}

TEST(Crc32cHasATableImplementationEverywhere) {
  CHECK_EQ(std::string(crc32c_implementations().back().name), std::string("table"));
}

}  // namespace
}  // namespace walmirror::test::crc32c_test
