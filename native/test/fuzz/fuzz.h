// What the fuzz targets share: the log that their inputs pretend to be of, and a mutator that mends
// checksums and chains, since fuzzing stops at the first checksum otherwise.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "batch.h"
#include "crc32c.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

namespace walmirror::fuzz {

#define FUZZ_CHECK(condition)                                                      \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                \
    }                                                                              \
  } while (false)

constexpr uint64_t kSegmentBytes = 5 * kBlock;

inline LogIdentity fuzz_identity(uint32_t align = 8) {
  LogIdentity identity;
  identity.log_id.fill(0x11);
  identity.salt = 7;
  identity.segment_bytes = align == kBlock ? 7 * kBlock : kSegmentBytes;
  identity.align = align;
  return identity;
}

/// One data batch of two records at this end of a log.
inline std::string make_batch(const LogIdentity& identity, Chain& chain) {
  std::string payload("\x03\0\0\0abc\0\0\0\0\0", 12);
  BatchHeader header{};
  header.magic = kBatchMagic;
  header.length =
      static_cast<uint32_t>(align_up(kBatchHeaderBytes + payload.size(), identity.align));
  header.version = kFormatVersion;
  header.log_id = identity.log_id;
  header.salt = identity.salt;
  header.position = chain.position;
  header.first_lsn = chain.lsn + 1;
  header.count = 2;
  header.payload = header.raw_bytes = static_cast<uint32_t>(payload.size());
  header.prev_crc = chain.crc;
  std::string bytes(header.length, '\0');
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, payload.data(), payload.size());
  header.crc = crc32c(0, reinterpret_cast<uint8_t*>(bytes.data()) + 8, bytes.size() - 8);
  std::memcpy(bytes.data(), &header, sizeof header);
  advance(identity, chain, header);
  return bytes;
}

/// Walks what looks like batches from `data` on and mends what a change broke: of each the
/// checksum and, with `chain`, the place, the LSN and the link to the one before.
inline void mend_batches(const LogIdentity& identity, uint8_t* data, size_t size, bool chained) {
  Chain chain;
  for (size_t at = 0; at + kBatchHeaderBytes <= size;) {
    BatchHeader header;
    std::memcpy(&header, data + at, sizeof header);
    if (header.magic != kBatchMagic || header.length < kBatchHeaderBytes ||
        header.length > size - at) {
      return;
    }
    if (chained) {
      header.position = chain.position;
      header.first_lsn = chain.lsn + 1;
      header.prev_crc = chain.crc;
      std::memcpy(data + at, &header, sizeof header);
    }
    header.crc = crc32c(0, data + at + 8, header.length - 8);
    std::memcpy(data + at, &header, sizeof header);
    bool filler = header.kind == static_cast<uint8_t>(Kind::kFiller);
    advance(identity, chain, header);
    at = filler ? chain.position - kFirstBatch : at + header.length;
  }
}

/// Puts `bytes` in the place of the input.
inline size_t take(const std::string& bytes, uint8_t* data, size_t most) {
  size_t size = std::min(bytes.size(), most);
  std::memcpy(data, bytes.data(), size);
  return size;
}

}  // namespace walmirror::fuzz
