// A standby whose log begins later than the first record: what came before it is in a snapshot
// (SAFETY 8). A task.
#include <algorithm>
#include <cstring>

#include "log.h"

namespace walmirror {

void Log::require_may_begin(const Chain& start, const History& history) const {
  if (appending_ || control().role != Role::kStandby)
    throw WalFailure("WAL_NOT_STANDBY", "only the log of a standby begins elsewhere");
  if (start.position % identity_.segment_bytes != kSegmentHeaderBytes)
    throw WalFailure("WAL_PEER_INVALID", "a log begins where the batches of a segment do");
  if (history.empty() || history.back().position >= start.position ||
      history.back().lsn > start.lsn) {
    throw WalFailure("WAL_PEER_INVALID", "a log that begins later has a history before that");
  }
  // Nothing that is here may go: what it begins with follows on all that was ever acknowledged.
  if ((start.position <= chain_.position || start.lsn < chain_.lsn)) {
    throw WalFailure("WAL_DIVERGED", "the log reaches position " + std::to_string(chain_.position) +
                                         ": it cannot begin at " + std::to_string(start.position));
  }
}

void Log::begin_at(Chain start, const History& history) {
  wait_until_flushed();
  require_may_begin(start, history);
  start.term = history.back().term;
  if (!scrubber_->hold_repairs())
    throw WalFailure("WAL_IO", "a damaged range of the log is being repaired");
  std::shared_ptr<void> over(nullptr, [this](void*) { scrubber_->resume_repairs(); });
  try {
    store_beginning(start, history);
    // From here on a crash comes to the same: opening again finds these segments below the start,
    // and the header of the first one missing, and does what is done here.
    segments_->recycle_below(identity_.segment_of(start.position));
    take_beginning(start);
    write_first_header(start);
  } catch (...) {
    // Half done: what is in memory and on the disk may differ. Opening it again repeats it.
    fail_as_caught();
    throw;
  }
  wake_housekeeper();  // somebody may wait for a segment
}

/// In one write: a log begins here with this history, or as it did. What is in memory changes with
/// it: a watermark that the housekeeper stores meanwhile is of the one or of the other.
void Log::store_beginning(const Chain& start, const History& history) {
  const Term last = history.back().term;
  const uint64_t had = chain_.lsn;
  control_->update(ControlFile::Copies::kBoth, [&](Control& control) {
    {
      std::lock_guard<std::mutex> guard(mutex_);
      history_ = history;
      flushed_ = start.place();
      stored_watermark_ = flushed_;
      cuts_++;
      flush_position_.store(start.position);
      commit_ = start.place();
      commit_exact_ = false;
      start_position_ = start.position;
      start_lsn_ = start.lsn;
      if (term_may_follow(term_, last)) term_ = last;
    }
    // The rule in force stays: what was acknowledged under it is for its members to tell yet. That
    // of an earlier term goes with the records of that term (refresh_control).
    refresh_control(control);
    control.start_position = start.position;
    control.start_lsn = start.lsn;
    // An application that has state of this log goes on from none of it.
    if (had > 0) {
      control.rebuild_from = 1;
      control.rebuild_to = std::max(control.rebuild_to, start.lsn);
    }
    // Of the term of its last batch at least (SAFETY 2.2).
    if (term_may_follow(control.term, last)) control.term = last;
  });
}

void Log::take_beginning(const Chain& start) {
  std::unique_lock<std::mutex> owning = own();
  chain_ = start;
  received_ = start.position;
  ingesting_ = false;
  capacity_ = 0;
  ring_valid_from_ = start.position - kSegmentHeaderBytes;
  ring_touched_ = 0;
  promised_until_ = 0;
  last_indexed_ = start.position;
}

/// Its header follows from the log, and zeros follow on it: a spare may hold a batch yet that
/// another log of this directory had there.
void Log::write_first_header(const Chain& start) {
  const uint64_t from = start.position - kSegmentHeaderBytes;
  while (!segments_->promise()) segments_->prepare(1);
  make_segment_header(identity_, from, start.lsn, start.crc, ring_->at(from));
  std::memset(ring_->at(start.position), 0, kBlock);
  write_range(from, start.position + kBlock);
  ring_valid_from_ = start.position;
}

}  // namespace walmirror
