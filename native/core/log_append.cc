// Appending: room in the ring and the segment, framing, publishing (SAFETY 5.1, 5.2, 5.5, 5.6). The
// owner's thread.
#include <algorithm>
#include <cstring>

#include "crc32c.h"
#include "log.h"
#include "planted.h"

namespace walmirror {

void Log::check_usable() const {
  std::lock_guard<std::mutex> guard(mutex_);
  if (failure_) throw *failure_;
  if (stopping_) throw WalFailure("WAL_CLOSED", "the log is closed");
}

uint64_t Log::ring_floor() const {
  uint64_t open = capacity_ > 0 ? kBatchHeaderBytes + capacity_ : 0;
  uint64_t reserved = std::max({received_, chain_.position + open, promised_until_});
  // What was received or open, and came to nothing, has overwritten the ring all the same.
  if (!PLANTED(overwritten_and_forgotten)) reserved = std::max(reserved, ring_touched_);
  return std::max(ring_valid_from_, reserved > ring_->size() ? reserved - ring_->size() : 0);
}

uint64_t Log::ring_free() const {
  // The last block that was flushed stays: the next flush writes it again with what follows.
  uint64_t floor = align_down(flush_position_.load(std::memory_order_acquire), kBlock);
  for (const auto& pin : pins_) {
    if (!PLANTED(pin_ignored)) floor = std::min(floor, pin.load(std::memory_order_acquire));
  }
  uint64_t used = std::max(chain_.position, received_) - floor;
  return used >= ring_->size() ? 0 : ring_->size() - used;
}

uint64_t Log::segment_free() const {
  uint64_t ready = segments_->ready() * identity_.segment_bytes;
  return identity_.segment_end(chain_.position) + ready - chain_.position;
}

bool Log::promise(uint64_t bytes) {
  check_usable();
  if (!appending_) throw WalFailure("WAL_IS_STANDBY", "the log takes no appends in this role");
  uint64_t left = identity_.segment_end(chain_.position) - chain_.position;
  if (bytes > left) {
    uint64_t count = align_up(bytes - left, identity_.segment_bytes) / identity_.segment_bytes;
    if (!segments_->want(count)) {
      wake_housekeeper();
      return false;
    }
  }
  if (bytes > ring_free()) return false;
  promised_until_ = chain_.position + bytes;
  return true;
}

/// Payload bytes that a batch at `position` may have at most, by its segment.
uint64_t Log::room(uint64_t position) const {
  uint64_t left =
      identity_.batch_limit(position) > position ? identity_.batch_limit(position) - position : 0;
  left = align_down(left, identity_.align);
  return left > kBatchHeaderBytes ? left - kBatchHeaderBytes : 0;
}

void Log::set_capacity(uint64_t need) {
  uint64_t free = align_down(ring_free(), identity_.align);
  uint64_t in_ring = free > kBatchHeaderBytes ? free - kBatchHeaderBytes : 0;
  uint64_t most = std::min({std::max(max_batch_bytes_, need), in_ring, room(chain_.position)});
  most = align_down(most, 4);  // or a record could fit, and not its padding
  capacity_ = most < 4 || most < need ? 0 : most;
  if (capacity_ > 0) touch(chain_.position + kBatchHeaderBytes + capacity_);
}

bool Log::reserve(uint64_t payload, uint32_t count, uint64_t need) {
  check_usable();
  if (!appending_) throw WalFailure("WAL_IS_STANDBY", "the log takes no appends in this role");
  if (need > record_bytes(max_record_bytes_))
    throw std::out_of_range("the record is larger than the log's largest");
  close_batch(payload, count);
  if (need <= capacity_) return true;
  if (need > room(chain_.position)) {
    if (!roll(need)) return false;
  }
  set_capacity(need);
  return capacity_ >= need && capacity_ > 0;
}

/// Ends the segment with a filler, zeros and the next segment's header.
bool Log::roll(uint64_t need) {
  uint64_t next = identity_.segment_end(chain_.position) + kSegmentHeaderBytes;
  uint64_t total = next - chain_.position + align_up(kBatchHeaderBytes + need, identity_.align);
  if (total > ring_free()) return false;
  if (!segments_->promise()) {
    wake_housekeeper();
    return false;
  }
  capacity_ = 0;
  frame_filler();
  return true;
}

void Log::frame_filler() {
  uint64_t end = identity_.segment_end(chain_.position);
  uint64_t at = chain_.position + align_up(kBatchHeaderBytes, identity_.align);
  std::memset(ring_->at(at), 0, end - at);
  frame(Kind::kFiller, 0, 0);
}

uint64_t Log::clock_us() {
  uint64_t us = surroundings_->wall_clock_us();
  last_clock_us_ = PLANTED(clock_falls) ? us : std::max(last_clock_us_, us);
  wall_clock_us_.store(last_clock_us_, std::memory_order_relaxed);
  return last_clock_us_;
}

void Log::close_batch(uint64_t payload, uint32_t count) {
  if (shared_) {
    if (count > 0) throw std::invalid_argument("the open batch of a shared log is the engine's");
    payload = open_payload_;
    count = open_count_;
  }
  if (count == 0) return;
  check_usable();
  if (!appending_) throw WalFailure("WAL_IS_STANDBY", "the log takes no appends in this role");
  if (payload > capacity_)
    throw std::invalid_argument("the batch is larger than what was reserved");
  if (!records_fill(ring_->at(chain_.position) + kBatchHeaderBytes, payload, count)) {
    throw std::invalid_argument("the record lengths do not add up to the batch");
  }
  frame(Kind::kData, payload, count);
  open_payload_ = 0;
  open_count_ = 0;
  set_capacity(0);
  int32_t due = kDue;
  tick_.compare_exchange_strong(due, kRunning, std::memory_order_relaxed);
}

/// Header and checksum around a payload that lies in the ring; from then on the batch may be sent.
/// `history`: with this batch. Where memory runs out, nothing has changed.
void Log::frame(Kind kind, uint64_t payload, uint32_t count, std::optional<History> history) {
  uint8_t* batch = ring_->at(chain_.position);
  uint64_t length = align_up(kBatchHeaderBytes + payload, identity_.align);
  std::memset(batch + kBatchHeaderBytes + payload, 0, length - kBatchHeaderBytes - payload);
  // A term begins where its opening does or, where that needs a segment of its own, at the filler
  // before it (docs/adr/0004). Nothing else is framed in a term that is not opened.
  Term term = opening_ ? this->term() : chain_.term;
  BatchHeader header{};
  header.magic = kBatchMagic;
  header.length = static_cast<uint32_t>(length);
  header.version = kFormatVersion;
  header.kind = static_cast<uint8_t>(kind);
  header.flags = identity_.align == kBlock ? kFlagPadded : 0;
  header.log_id = identity_.log_id;
  header.salt = identity_.salt;
  header.position = chain_.position;
  header.epoch = term.epoch;
  header.first_lsn = chain_.lsn + 1;
  header.opener = term.opener;
  header.incarnation = term.incarnation;
  header.count = count;
  header.payload = static_cast<uint32_t>(payload);
  header.raw_bytes = header.payload;
  header.wall_clock_us = clock_us();
  header.watermark = flush_position_.load(std::memory_order_acquire);
  header.prev_crc = chain_.crc;
  std::memcpy(header.framer, node_id_.data(), sizeof header.framer);
  std::memcpy(batch, &header, sizeof header);
  header.crc = crc32c(0, batch + 8, length - 8);
  std::memcpy(batch + offsetof(BatchHeader, crc), &header.crc, sizeof header.crc);
  note_index(chain_.position, chain_.lsn);
  Chain next = chain_;
  advance(identity_, next, header);
  if (kind == Kind::kFiller) {
    // Known from here on: a watermark may be stored before the opening is framed.
    if (opening_ && !PLANTED(term_of_a_filler_forgotten))
      note_term_of_filler(header, history.emplace(this->history()));
    uint64_t start = next.position - kSegmentHeaderBytes;
    make_segment_header(identity_, start, next.lsn, next.crc, ring_->at(start));
  }
  publish(next.place(), std::move(history));
  chain_ = next;
  received_ = chain_.position;
}

void Log::note_index(uint64_t position, uint64_t lsn) {
  constexpr uint64_t kSpacing = 256u << 10;
  bool fresh = identity_.segment_of(position) != identity_.segment_of(last_indexed_);
  if (!fresh && position < last_indexed_ + kSpacing) return;
  segments_->note_batch({position, lsn});
  last_indexed_ = position;
}

void Log::publish(const Place& end, std::optional<History> history) {
  bool wake;
  {
    std::lock_guard<std::mutex> guard(mutex_);
    pending_.push_back(end);
    if (history) history_ = std::move(*history);
    wake = writer_waits_;
    writer_waits_ = false;
  }
  if (wake) writer_wakes_.notify_one();
}

void Log::wake_ticker() {
  std::lock_guard<std::mutex> guard(mutex_);
  if (tick_.load(std::memory_order_relaxed) != kAsleep) return;
  tick_.store(kRunning, std::memory_order_relaxed);
  next_tick_ = surroundings_->now() + batch_delay_;
  idle_ticks_ = 0;
  writer_wakes_.notify_one();
}

void Log::put(uint64_t at, const uint8_t* data, uint64_t size) {
  check_usable();
  if (shared_) throw std::invalid_argument("the open batch of a shared log is the engine's");
  if (at % 4 != 0 || size > max_record_bytes_ || at > capacity_ ||
      record_bytes(size) > capacity_ - at) {
    throw std::invalid_argument("the record does not fit what was reserved");
  }
  write_record(at, data, size);
}

void Log::write_record(uint64_t at, const uint8_t* data, uint64_t size) {
  uint8_t* record = ring_->at(chain_.position) + kBatchHeaderBytes + at;
  auto length = static_cast<uint32_t>(size);
  std::memcpy(record, &length, sizeof length);
  if (size > 0) std::memcpy(record + 4, data, size);  // an empty record has no address
  std::memset(record + 4 + size, 0, record_bytes(size) - 4 - size);
}

bool Log::frame_opening() {
  check_usable();
  opening_ = true;
  History history = this->history();
  received_ = chain_.position;  // what was received of a batch that never came whole
  ingesting_ = false;
  // It begins here, or with the filler that was framed for it.
  if (history.empty() || !(history.back().term == term()))
    history.push_back({term(), chain_.position, chain_.lsn});
  if (history.size() > kMaxHistory) history.erase(history.begin());
  uint64_t size = encode_history(history).size();
  if (size > room(chain_.position)) {
    if (!roll(size)) return false;
    // A window wide enough to be found in.
    if (PLANTED(term_of_a_filler_forgotten))
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    if (size > room(chain_.position))
      throw WalFailure("WAL_UNSUPPORTED", "the history does not fit into a segment");
  }
  if (kBatchHeaderBytes + size + identity_.align > ring_free()) return false;
  std::string payload = encode_history(history);
  capacity_ = 0;
  std::memcpy(ring_->at(chain_.position) + kBatchHeaderBytes, payload.data(), payload.size());
  frame(Kind::kTermOpened, payload.size(), 0, std::move(history));
  opened_ = chain_.position;
  opening_ = false;
  appending_ = true;
  set_capacity(0);
  return true;
}

bool Log::frame_forced(const std::string& why) {
  check_usable();
  if (!appending_) throw WalFailure("WAL_IS_STANDBY", "the log takes no appends in this role");
  if (why.size() > kMaxForcedBytes) throw std::out_of_range("the reason is too long");
  uint64_t size = why.size();
  if (size > room(chain_.position) && !roll(size)) return false;
  if (kBatchHeaderBytes + size + identity_.align > ring_free()) return false;
  capacity_ = 0;
  if (size > 0) std::memcpy(ring_->at(chain_.position) + kBatchHeaderBytes, why.data(), size);
  frame(Kind::kForcedPromotion, size, 0);
  set_capacity(0);
  return true;
}

}  // namespace walmirror
