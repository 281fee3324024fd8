// What a log has of the world beside its disk: clocks, random numbers, and whether it has threads.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace walmirror {

/// The real ones. A simulator overrides them, so that one seed decides all of it. Thread-safe.
class Surroundings {
 public:
  using Time = std::chrono::steady_clock::time_point;

  virtual ~Surroundings() = default;
  virtual Time now();
  virtual uint64_t wall_clock_us();
  /// Numbers that nobody can guess. Throws WAL_IO.
  virtual void random(void* out, size_t size);
  /// Without threads the owner of the log steps what they would do (`Log::step`).
  virtual bool has_threads() const { return true; }
};

std::shared_ptr<Surroundings> real_surroundings();

}  // namespace walmirror
