// System calls of the core that do less than they were asked to: the n-th of a kind, once.
#pragma once

#include <atomic>
#include <cstdint>

namespace walmirror::test {

enum class ShortCall {
  kHalf,         // a half, in whole blocks
  kOneSector,    // 512 bytes
  kNothing,      // returns 0
  kInterrupted,  // EINTR
};

struct ShortCalls {
  std::atomic<int> write_in{0};
  std::atomic<int> read_in{0};
  std::atomic<ShortCall> how{ShortCall::kHalf};
};

ShortCalls& short_calls();

}  // namespace walmirror::test
