// One call to several copies of a log, and what became of it on each.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "file_system.h"
#include "types.h"

namespace walmirror {

/// Thread-safe. Outlives the caller for as long as a call hangs.
class CopyRound {
 public:
  struct Call {
    size_t copy;
    bool done = false;
    std::optional<WalFailure> failure;
    std::exception_ptr other;  // not the copy's fault
    bool good() const { return done && !failure && !other; }
  };
  enum class Ended { kAll, kEnough, kLate };
  using Clock = std::chrono::steady_clock;

  explicit CopyRound(const std::vector<size_t>& copies);

  /// Makes the call, and lets go of all that belongs to it before it says that it is done. False:
  /// it failed, with this where it is the copy's fault.
  bool make(size_t index, std::function<void(size_t)>& call, std::shared_ptr<DirectoryLock>& lock,
            std::optional<WalFailure>& failure);
  /// It was not made.
  void fail(size_t index, const WalFailure& failure);

  using Enough = std::function<bool(const std::vector<Call>&)>;
  /// Returns what is known when all are done, when `enough` is true of it, or at the limit after
  /// the first success.
  Ended wait(std::chrono::milliseconds limit, const Enough& enough, std::vector<Call>& calls);

  /// Its caller was told that it is done: a copy that has not done it is behind.
  void answer() { answered_.store(true, std::memory_order_release); }
  bool answered() const { return answered_.load(std::memory_order_acquire); }
  /// Whether it succeeded on some copy longer ago than that.
  bool late(std::chrono::milliseconds limit) const;

 private:
  bool end(size_t index, const std::optional<WalFailure>& failure, std::exception_ptr other);

  mutable std::mutex mutex_;
  std::condition_variable moved_;
  std::vector<Call> calls_;
  size_t open_;
  std::optional<Clock::time_point> succeeded_;
  std::atomic<bool> answered_{false};
};

}  // namespace walmirror
