// Receiving: a standby takes the log's bytes, cut anywhere, and publishes whole verified batches.
// The owner's thread.
#include <algorithm>
#include <cstring>

#include "log.h"
#include "planted.h"

namespace walmirror {

void Log::begin_ingest(History history) {
  check_usable();
  if (appending_) throw WalFailure("WAL_WAS_PRIMARY", "a primary takes no bytes from another");
  if (!history.empty() && !(history.back().term == term()) &&
      !term_may_follow(history.back().term, term())) {
    throw WalFailure("WAL_PEER_INVALID",
                     "the primary's history goes beyond the term of its session");
  }
  session_history_ = std::move(history);
  received_ = chain_.position;
  capacity_ = 0;
  ingesting_ = true;
}

bool Log::promise_segment() {
  bool ready = false;
  try {
    ready = segments_->promise();
  } catch (const WalFailure& failure) {
    if (failure.code != "WAL_NO_SPACE") throw;
  }
  if (!ready) wake_housekeeper();
  return ready;
}

uint64_t Log::ingest(const uint8_t* bytes, uint64_t size) {
  check_usable();
  if (!ingesting_) throw WalFailure("WAL_NOT_STANDBY", "no session was begun");
  uint64_t taken = 0;
  parse_or_drop();  // a roll may have waited for a segment
  while (taken < size) {
    uint64_t piece = std::min({size - taken, ring_free(), ring_->size() / 2});
    if (piece == 0) break;
    std::memcpy(ring_->at(received_), bytes + taken, piece);
    received_ += piece;
    touch(received_);
    taken += piece;
    parse_or_drop();
  }
  return taken;
}

void Log::parse_or_drop() {
  try {
    parse_received();
  } catch (...) {
    received_ = chain_.position;  // nothing of a bad batch is kept
    ingesting_ = false;
    throw;
  }
}

/// The term that a batch at this position must have, by the session's history (SAFETY 2.3).
static const HistoryEntry* entry_at(const History& history, uint64_t position) {
  const HistoryEntry* found = nullptr;
  for (const HistoryEntry& entry : history) {
    if (entry.position <= position) found = &entry;
  }
  return found;
}

void Log::parse_received() {
  for (;;) {
    uint64_t available = received_ - chain_.position;
    const uint8_t* batch = ring_->at(chain_.position);
    Check check = check_batch(identity_, chain_, batch, available);
    if (check.verdict == Verdict::kShort) {
      refuse_if_never_fits(check.need);
      return;
    }
    if (PLANTED(received_unverified) && std::strstr(check.reason, "checksum") != nullptr)
      check = {Verdict::kValid};
    if (check.verdict == Verdict::kBad) {
      throw WalFailure("WAL_PEER_INVALID",
                       "at position " + std::to_string(chain_.position) +
                           " the primary sent bytes that do not verify: " + check.reason);
    }
    BatchHeader header;
    std::memcpy(&header, batch, sizeof header);
    const HistoryEntry* expected = entry_at(session_history_, header.position);
    Term term{header.epoch, header.opener, header.incarnation};
    bool known = !session_history_.empty() && header.position >= session_history_.front().position;
    if (known && (expected == nullptr || !(expected->term == term))) {
      throw WalFailure("WAL_PEER_INVALID",
                       "at position " + std::to_string(chain_.position) +
                           " the primary sent a batch of a term that is not in its history");
    }
    uint64_t end = batch_end(identity_, header);
    if (is_filler(header)) {
      refuse_if_never_fits(end - chain_.position);
      if (received_ < end) return;  // the zeros and the next header belong to it
      finish_filler(end);
      // None ready: these bytes stay where they are, and are looked at again with the next ones. A
      // full disk pauses a standby, it does not end it.
      if (!promise_segment()) return;
    }
    std::optional<History> history = history_with(header, batch);
    last_clock_us_ = std::max(last_clock_us_, header.wall_clock_us);
    wall_clock_us_.store(last_clock_us_, std::memory_order_relaxed);
    note_index(chain_.position, chain_.lsn);
    Chain next = chain_;
    advance(identity_, next, header);
    publish(next.place(), std::move(history));
    chain_ = next;
  }
}

/// The history that the log itself tells, if this batch changes it.
std::optional<History> Log::history_with(const BatchHeader& header, const uint8_t* batch) const {
  Term term{header.epoch, header.opener, header.incarnation};
  History history = this->history();
  if (header.kind == static_cast<uint8_t>(Kind::kTermOpened)) {
    // It begins here, or with the filler before it.
    bool known = decode_history(batch + kBatchHeaderBytes, header.payload, history) &&
                 history.back().term == term;
    if (!known || (history.back().position != header.position && !(chain_.term == term))) {
      throw WalFailure("WAL_PEER_INVALID", "the primary sent a term without its history");
    }
  } else if (is_filler(header)) {
    note_term_of_filler(header, history);
  } else {
    return std::nullopt;
  }
  return history;
}

/// A batch is published whole: one that this ring can not hold would stall the session without a
/// word.
void Log::refuse_if_never_fits(uint64_t size) const {
  if (size + kBlock <= ring_->size()) return;
  throw WalFailure("WAL_PEER_INVALID", "at position " + std::to_string(chain_.position) +
                                           " the primary sent a batch of " + std::to_string(size) +
                                           " bytes, which is more than the log memory of " +
                                           std::to_string(ring_->size()) + " bytes here takes")
      .advise("Open the standby with a larger ringBytes.");
}

/// What follows a filler is a function of the log: anything else is not this log.
void Log::finish_filler(uint64_t end) {
  BatchHeader header;
  const uint8_t* batch = ring_->at(chain_.position);
  std::memcpy(&header, batch, sizeof header);
  uint64_t zeros = end - kSegmentHeaderBytes - chain_.position - header.length;
  uint8_t expected[kSegmentHeaderBytes];
  make_segment_header(identity_, end - kSegmentHeaderBytes, header.first_lsn - 1, header.crc,
                      expected);
  if (!all_zero(batch + header.length, zeros) ||
      std::memcmp(ring_->at(end - kSegmentHeaderBytes), expected, kSegmentHeaderBytes) != 0) {
    throw WalFailure("WAL_PEER_INVALID",
                     "at position " + std::to_string(chain_.position) +
                         " the primary sent a segment's end that does not verify");
  }
}

}  // namespace walmirror
