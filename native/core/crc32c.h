// CRC32C (Castagnoli, reflected polynomial 0x82f63b78; RFC 3720, appendix B.4).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace walmirror {

using Crc32cFunction = uint32_t (*)(uint32_t crc, const void* data, size_t size);

struct Crc32cImplementation {
  const char* name;
  Crc32cFunction run;
};

/// Those that this processor can run, fastest first; `table` is always the last.
const std::vector<Crc32cImplementation>& crc32c_implementations();

/// Checksum of `data`, continuing from `crc` (0 to begin).
uint32_t crc32c(uint32_t crc, const void* data, size_t size);

}  // namespace walmirror
