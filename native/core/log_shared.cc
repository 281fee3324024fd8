// Appending by several threads: the open batch is the engine's, and each append is one call under
// `own()`. What decides whether there is room, the open batch included, is looked at by the very
// call that takes it; a record is whole when the lock is let go of, so that a thread that ends
// leaves nothing half done.
#include <algorithm>
#include <cstring>

#include "log.h"
#include "planted.h"

namespace walmirror {

void Log::share() {
  if (shared_) return;
  shared_ = true;
  open_payload_ = 0;
  open_count_ = 0;
}

void Log::check_taken() {
  {
    std::lock_guard<std::mutex> guard(mutex_);
    if (failure_) throw WalFailure("WAL_FAILED", "the log has failed: " + failure_->message);
    if (stopping_) throw WalFailure("WAL_CLOSED", "the log is closed");
  }
  if (!shared_) throw WalFailure("WAL_CLOSED", "the log is not shared");
  if (!taking_) throw refusal_ ? *refusal_ : WalFailure("WAL_CLOSED", "the log takes no appends");
  if (!appending_) throw WalFailure("WAL_IS_STANDBY", "the log takes no appends in this role");
}

/// Whether the open batch has outlived a tick, be it one after which the ticker went to sleep.
bool Log::batch_due() const {
  return open_count_ > 0 && tick_.load(std::memory_order_relaxed) != kRunning;
}

/// The first record of a batch: a tick that found none open says nothing about this one.
void Log::begin_shared_batch() {
  int32_t due = kDue;
  tick_.compare_exchange_strong(due, kRunning, std::memory_order_relaxed);
  if (tick_.load(std::memory_order_relaxed) == kAsleep) wake_ticker();
}

uint64_t Log::append(const uint8_t* data, uint64_t size) {
  check_taken();
  if (size > max_record_bytes_)
    throw std::out_of_range("the record is larger than the log's largest");
  uint64_t need = record_bytes(size);
  if (batch_due() || open_payload_ + need > capacity_) {
    if (!reserve(0, 0, need)) return 0;
  }
  if (open_count_ == 0) begin_shared_batch();
  write_record(open_payload_, data, size);
  open_payload_ += need;
  open_count_++;
  return appended();
}

/// Log bytes that these records take behind the closed end, batch by batch as `reserve` makes them.
uint64_t Log::space_of(const uint8_t* records, uint64_t bytes) const {
  uint64_t at = chain_.position;
  uint64_t payload = 0;
  uint64_t capacity = 0;
  auto end_batch = [&] {
    if (payload > 0) at += align_up(kBatchHeaderBytes + payload, identity_.align);
    payload = 0;
  };
  for (uint64_t i = 0; i < bytes;) {
    uint32_t length;
    std::memcpy(&length, records + i, sizeof length);
    uint64_t size = record_bytes(length);
    if (payload + size > capacity) {
      end_batch();
      if (size > room(at)) at = identity_.segment_end(at) + kSegmentHeaderBytes;
      capacity = std::min(std::max(max_batch_bytes_, size), room(at));
    }
    payload += size;
    i += size;
  }
  end_batch();
  return at - chain_.position;
}

uint64_t Log::append_group(const uint8_t* records, uint64_t bytes, uint32_t count) {
  check_taken();
  if (count == 0 || !records_fill(records, bytes, count))
    throw std::invalid_argument("the record lengths do not add up to the group");
  for (uint64_t i = 0; i < bytes;) {
    uint32_t length;
    std::memcpy(&length, records + i, sizeof length);
    if (length > max_record_bytes_)
      throw std::out_of_range("a record is larger than the log's largest");
    i += record_bytes(length);
  }
  if (batch_due() || open_payload_ + bytes > capacity_) {
    // Closed first: where the next batch starts is exact then.
    if (!PLANTED(group_beside_the_open_batch)) close_batch(0, 0);
    if (!promise(space_of(records, bytes))) return 0;
    if (PLANTED(group_beside_the_open_batch)) close_batch(0, 0);
    capacity_ = 0;
  }
  uint64_t first = appended() + 1;
  try {
    for (uint64_t i = 0; i < bytes;) {
      uint32_t length;
      std::memcpy(&length, records + i, sizeof length);
      uint64_t size = record_bytes(length);
      if (open_payload_ + size > capacity_ && !reserve(0, 0, size)) {
        if (appended() < first) return 0;
        throw WalFailure("WAL_FAILED", "the log memory had less room than was promised");
      }
      if (open_count_ == 0) begin_shared_batch();
      write_record(open_payload_, records + i + 4, length);
      open_payload_ += size;
      open_count_++;
      i += size;
    }
  } catch (...) {
    if (chain_.lsn < first) {
      // None of it is published: the batch that is open, if there is one, holds nothing else.
      if (appended() >= first) open_payload_ = open_count_ = 0;
      throw;
    }
    // A part of it may be on its way to the disk: nothing may follow.
    fail_as_caught();
    if (PLANTED(part_of_a_group_refused)) throw;
    throw PartTaken();
  }
  return first;
}

void Log::close_shared() {
  if (!shared_ || !taking_ || !appending_ || has_failed()) return;
  {
    std::lock_guard<std::mutex> guard(mutex_);
    if (stopping_) return;
  }
  close_batch(0, 0);
}

void Log::publish_at_the_end() {
  if (PLANTED(open_batch_left_at_the_end)) return;
  try {
    close_shared();
  } catch (...) {
    // The log has failed, or memory is short: nobody was told that this is safe.
  }
}

uint64_t Log::open_bytes() const {
  if (open_count_ == 0) return 0;
  return align_up(kBatchHeaderBytes + open_payload_, identity_.align);
}

bool Log::nearly_full() const {
  if (!appending_ || !taking_) return false;
  uint64_t open = open_bytes();
  uint64_t free = ring_free();
  if (free < open + ring_->size() / 4) return true;
  uint64_t at = chain_.position + open;
  uint64_t largest = record_bytes(max_record_bytes_);
  uint64_t space = align_up(kBatchHeaderBytes + largest, identity_.align);
  if (largest > room(at)) space += identity_.segment_end(at) - at + kSegmentHeaderBytes;
  return open + space > std::min(free, segment_free());
}

}  // namespace walmirror
