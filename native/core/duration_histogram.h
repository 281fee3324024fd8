// How often something took how long, in buckets that grow with the duration: each ends within a
// quarter above the one before. Counting costs a few instructions and no memory.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace walmirror {

/// Buckets end at whole numbers of 1/1024 ms, every power of two among them: so at 1 ms and its
/// doublings. A duration that is a bucket's end belongs to it. Not synchronized.
class DurationHistogram {
 public:
  /// The last one holds all that took longer than 229 s.
  static constexpr size_t kBuckets = 108;

  void add(std::chrono::nanoseconds took) { counts_[bucket_of(took)]++; }
  uint64_t count(size_t bucket) const { return counts_[bucket]; }

  static size_t bucket_of(std::chrono::nanoseconds took) {
    // Of the units that it takes, rounded up, all but the last.
    constexpr int64_t kLongest = 1'000'000'000'000'000;
    int64_t nanoseconds = std::clamp<int64_t>(took.count(), 1, kLongest);
    uint64_t below = static_cast<uint64_t>(nanoseconds * 1024 - 1) / 1'000'000;
    if (below < 4) return below;
    size_t octave = static_cast<size_t>(std::bit_width(below)) - 1;
    size_t bucket = 4 * (octave - 1) + ((below >> (octave - 2)) & 3);
    return bucket < kBuckets ? bucket : kBuckets - 1;
  }

  /// Longest duration that it holds, in milliseconds.
  static double limit_ms(size_t bucket) {
    if (bucket == kBuckets - 1) return std::numeric_limits<double>::infinity();
    if (bucket < 4) return static_cast<double>(bucket + 1) / 1024;
    size_t octave = bucket / 4 + 1;
    return static_cast<double>((5 + bucket % 4) << (octave - 2)) / 1024;
  }

 private:
  std::array<uint64_t, kBuckets> counts_{};
};

}  // namespace walmirror
