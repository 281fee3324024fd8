// What one copy of a log has yet to write: the batches that a quorum of the others may have
// already.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "copy_round.h"
#include "lanes.h"

namespace walmirror {

/// Thread-safe. The writes are made one after the other, as they came: each is on stable storage
/// before the next one begins, so that a copy that is behind holds a beginning of the log, and no
/// two writes under way touch the same block (SAFETY 5.3). One that fails ends them all: what comes
/// after it would leave a hole.
class Backlog : public std::enable_shared_from_this<Backlog> {
 public:
  struct Write {
    std::function<void(size_t)> call;
    std::shared_ptr<DirectoryLock> lock;
    std::shared_ptr<CopyRound> round;
    size_t index = 0;  // in the round
    uint64_t bytes = 0;
  };

  /// Throws where there is no thread or no memory for it: then it has not come.
  void push(Lanes& lanes, Write write);
  /// How many writes have come so far.
  uint64_t came() const;
  /// Waits until the first `count` writes are done. Throws what one of them failed with, and
  /// WAL_IO where the copy was given up.
  void wait_for(uint64_t count);
  /// False: it may still be so after this time.
  bool wait_until_done(uint64_t count, std::chrono::milliseconds most);
  /// Waits until one more is done, so long at most.
  void wait_for_one(std::chrono::milliseconds most);

  bool idle() const;
  /// Whether a write waits that its caller was told is done.
  bool behind() const;
  uint64_t bytes() const;
  /// Whether the oldest write was done by another copy longer ago than that.
  bool late(std::chrono::milliseconds limit) const;
  std::optional<WalFailure> failure() const;

  /// What waits is not written any more. A write under way goes on, whenever it ends.
  void give_up();
  /// As new: for a copy that joins, to which no call is under way.
  void begin();

 private:
  uint64_t done() const;
  void drain();
  Write take_last(const WalFailure& why);

  mutable std::mutex mutex_;
  std::condition_variable moved_;
  std::deque<Write> writes_;  // the first one is under way
  uint64_t bytes_ = 0;
  uint64_t came_ = 0;
  uint64_t done_ = 0;
  bool given_up_ = false;
  std::optional<WalFailure> failure_;
  /// Made ahead: when they are needed, there may be no memory to make them.
  WalFailure out_of_memory_{"WAL_IO", "out of memory"};
  const WalFailure dropped_{"WAL_IO", "the copy was dropped"};
};

}  // namespace walmirror
