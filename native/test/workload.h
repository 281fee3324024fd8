// Workloads of a few operations on a log of the smallest legal segments, and what may be found of
// them after a crash.
#pragma once

#include <optional>

#include "log_fixture.h"
#include "recorder.h"

namespace walmirror::test {

enum class Op { kAppend, kCommit, kRoll, kRecycle, kTruncate, kPromote, kClose };
constexpr size_t kOps = 7;
using Ops = std::vector<Op>;
std::string text_of(const Ops& ops);

/// Who wrote a record, and how long it is: with its LSN, that gives its bytes.
using Tag = uint32_t;
Tag tag_of(uint32_t writer, uint32_t size);
std::string record_of_tag(Tag tag, uint64_t lsn);

/// What a log was found to hold; `tags` stands for the records, each of which was checked whole.
struct Holding {
  uint64_t first_lsn = 1;
  uint64_t last_lsn = 0;
  uint64_t position = 0;
  uint64_t tags = 0;
  Term term;
  bool history_is_right = false;
};
Holding holding_of(Log& log);

/// What may be found after a crash at this instant.
struct Known {
  std::vector<Tag> tags;  // of each LSN from 1 on, appended or about to be
  Place acknowledged;
  uint64_t trimmed = 0;  // records up to here may be gone at the front
  Term term;             // stored; none below may come back
  /// A cut is under way: the log ends here, or still where it ended.
  std::optional<Place> fork;

  /// Throws CheckFailed.
  void check(const Holding& found) const;
};

/// A primary's log, as it is sent to a standby.
struct Source {
  LogOptions options;
  std::string bytes;  // from the first batch on
  std::vector<Tag> tags;
  std::vector<Place> ends;  // of each batch
  History history;
  Term term;
};

/// Six segments, a second term in the middle of the second.
Source make_source(bool padded);

/// Where a workload begins: a standby that is not running. Its primary goes on as `source`; the
/// primary that it may be told of, as `other`, which left that log at `fork`.
struct Start {
  std::string name;
  DiskState disk;
  /// What a crash may leave on it.
  std::vector<DiskModel> disks;
  Known known;
  Source source;
  Source other;
  Place fork;
};

/// A log without a record, closed cleanly, and one of several segments and terms, killed, with old
/// bytes in its spare; then the same with padded batches, for disks that leave a sector half old,
/// half new. Nothing in them depends on the time or on chance, nor does what is made of them.
std::vector<Start> make_starts();
/// The second of them alone.
Start make_used_start();
LogOptions workload_options(bool padded = false);

/// Runs operations one by one; each is durable or failed when it returns, but for appends.
class Run {
 public:
  explicit Run(const Start& start);
  ~Run();

  /// False: the operation is not legal here, or would do nothing.
  bool apply(Op op);
  /// From here on instants are recorded.
  void record();
  std::vector<InstantOf<Known>>& instants() { return recorder_.instants(); }
  const Known& known() const { return recorder_.known(); }
  DiskState disk() { return files_->state(); }
  /// The log has failed for good.
  bool stopped() { return owner_ != nullptr && (*owner_)->failure(); }
  /// Reads all, and appends and commits a record where this is a primary.
  void go_on();
  /// Ends the process, as it were.
  void drop() { owner_.reset(); }
  /// Waits until no thread of the log changes the disk any more, and ends the recording.
  void stop_recording();

 private:
  bool append();
  bool commit();
  bool roll();
  bool recycle();
  bool truncate();
  bool promote();
  bool close();
  void open();
  void add_record(uint32_t size);
  const Place* next_end(uint64_t after) const;
  void receive(Place end);
  void follow(const Source& source);
  uint64_t lsn_before(uint64_t position);
  uint64_t segment_bytes() const { return start_.source.options.segment_bytes; }
  void acknowledge();

  const Start& start_;
  const Source* source_;  // nullptr: the log went its own way, from left_at_ on
  uint64_t left_at_ = 0;
  std::shared_ptr<MemoryFileSystem> files_;
  RecorderOf<Known> recorder_;
  std::unique_ptr<Owner> owner_;
  bool primary_ = false;
  bool follows_ = false;
  bool was_cut_ = false;
  bool waiting_ = false;  // appended, not committed
  Place queued_;          // standby: to be received at the next commit
  uint64_t commit_ = 0;
  uint32_t writer_ = 10;
};

/// Opens what is found and checks it. `instants`: goes on with a term of its own and two records,
/// and tells each instant of the opening and of that; before them the one between the two, and at
/// the end the last.
Holding recover(const std::shared_ptr<MemoryFileSystem>& files, const Known& known,
                std::vector<InstantOf<Known>>* instants);

}  // namespace walmirror::test
