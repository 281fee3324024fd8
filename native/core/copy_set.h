// The directories of one log that is open: which are in, and calls to all that are, at the same
// time (SAFETY 7.1).
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "backlog.h"
#include "file_system.h"
#include "lanes.h"
#include "membership.h"

namespace walmirror {

/// What the status tells of a copy.
struct CopyStatus {
  std::string directory;
  bool in = true;
  bool filling = false;
  std::string reason;  // empty: it is in
  uint64_t since_us = 0;
  uint64_t filled = 0;   // bytes, while it is being filled
  uint64_t to_fill = 0;  // of so many
  uint64_t bad_reads = 0;
  uint64_t behind = 0;  // bytes that others have and this one has yet to write
};

/// Thread-safe. A copy is dropped in memory at once; nothing may be acknowledged without it before
/// that is stored too: `settle`.
class CopySet {
 public:
  /// `quorum`: copies that a batch waits for, 0 for all; the others may be behind by as many bytes.
  CopySet(std::chrono::milliseconds lag_limit, uint32_t quorum, uint64_t most_behind)
      : lag_limit_(lag_limit), quorum_(quorum), most_behind_(most_behind) {}
  ~CopySet();
  CopySet(const CopySet&) = delete;
  CopySet& operator=(const CopySet&) = delete;

  /// Before anything is called.
  void add(const std::string& directory, std::shared_ptr<DirectoryLock> lock,
           const CopyRecord& record);
  /// What the control files tell of, until something is stored: so many of its copies have to go
  /// on, at least.
  void begin_with(const Membership& recorded, bool some_accepted);
  /// The one that is read first.
  void prefer(size_t copy) { preferred_.store(copy); }

  size_t count() const { return copies_.size(); }
  const std::string& directory(size_t copy) const { return copies_[copy]->directory; }
  bool in(size_t copy) const { return copies_[copy]->in.load(std::memory_order_acquire); }
  size_t count_in() const { return number_in(); }
  /// Copies that are in, the preferred one first.
  std::vector<size_t> all_in() const;
  /// Those of them that have all that was acknowledged; waits where none has.
  std::vector<size_t> readable() const;
  bool behind(size_t copy) const;
  /// Waits until each copy that is in has all that was acknowledged so far, or is dropped.
  void catch_up();
  Id id(size_t copy) const;
  /// Released when no call holds it any more: one that hangs keeps others away.
  void keep_lock(size_t copy, std::shared_ptr<DirectoryLock> lock);
  /// Whether no call to it is under way.
  bool quiet(size_t copy) const { return copies_[copy]->lanes->quiet(); }
  /// Whether the operator named the directory for a copy that is yet to be.
  bool may_create(size_t copy) const;

  /// Makes the call for each copy that is in, all at the same time, on each after the batches that
  /// came before; returns when each is done or dropped. One that fails, or is still not done at the
  /// limit after another was, is dropped. Where too few would be left, or none succeeds, none is
  /// dropped, and the first failure is thrown. `call` may outlive this call: it owns all that it
  /// uses.
  void each(const std::function<void(size_t)>& call);
  /// The same for a batch of so many bytes; returns when the quorum has done it. The others follow,
  /// each after the batches that came before.
  void each_batch(uint64_t bytes, const std::function<void(size_t)>& call);
  /// Drops what is behind for longer than the limit, or failed meanwhile.
  void drop_what_lags();
  /// What waits for a copy that is behind is not written any more.
  void give_up_backlogs();

  /// False: too few would be left.
  bool drop(size_t copy, const CopyRecord& why, const std::string& text);
  void join(size_t copy, const Id& id);
  /// For one that is out: why it stays so.
  void note(size_t copy, OutReason reason, const std::string& text);
  void note_filling(size_t copy, bool filling, uint64_t filled, uint64_t to_fill);
  void note_bad_read(size_t copy) { copies_[copy]->bad_reads.fetch_add(1); }

  /// Grows with every change of what is in.
  uint64_t version() const { return version_.load(std::memory_order_acquire); }
  /// Brings a record up to date; a change of what is in begins a generation.
  void record(Membership& membership);
  void record_in(Membership& membership, size_t copy, const Id& id);
  bool all_stored() const { return stored_.load(std::memory_order_acquire) >= version(); }
  /// What was recorded at this version is stored by all that are in. False: that has changed.
  bool stored(uint64_t version);
  /// Stores what has changed, if anything: by `store`, which calls `stored`.
  void settle();
  void on_settle(std::function<void()> store) { store_ = std::move(store); }

  /// Copies that a batch waits for now.
  size_t acknowledging() const { return copies_to_acknowledge(number_in(), quorum_); }
  std::vector<CopyStatus> status() const;
  /// Grows whenever the status tells something new, but for progress.
  uint64_t news() const { return news_.load(std::memory_order_acquire); }

 private:
  struct Copy {
    std::string directory;
    std::shared_ptr<DirectoryLock> lock;
    CopyRecord record;
    std::string text;
    std::atomic<bool> in{false};
    bool counted = false;  // in the generation that was last stored by all
    bool filling = false;
    uint64_t filled = 0;
    uint64_t to_fill = 0;
    std::atomic<uint64_t> bad_reads{0};
    std::shared_ptr<Lanes> lanes = std::make_shared<Lanes>();
    std::shared_ptr<Backlog> backlog = std::make_shared<Backlog>();
  };

  std::shared_ptr<DirectoryLock> lock_of(size_t copy) const;
  void take_out(Copy& copy, const CopyRecord& why, const std::string& text);
  bool may_lose(const std::vector<size_t>& lost) const;
  void conclude(const std::vector<CopyRound::Call>& calls, bool late);
  void take_out_late(Copy& copy);
  bool enough(const std::vector<CopyRound::Call>& calls) const;
  void wait_for_room();
  size_t number_in() const;

  std::chrono::milliseconds lag_limit_;
  uint32_t quorum_;
  uint64_t most_behind_;
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Copy>> copies_;
  OutReason not_given_ = OutReason::kMissing;
  size_t least_counted_ = 0;  // must stay in, of those that are counted
  size_t least_in_ = 1;       // must stay in, by what was recorded since
  std::atomic<size_t> preferred_{0};
  std::atomic<uint64_t> version_{1};
  std::atomic<uint64_t> stored_{0};
  std::atomic<uint64_t> news_{1};
  std::function<void()> store_;
};

/// Why a call that failed takes its copy out.
CopyRecord reason_of(const WalFailure& failure);

}  // namespace walmirror
