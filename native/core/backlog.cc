#include "backlog.h"

#include <utility>

#include "planted.h"

namespace walmirror {

/// Under one lock: whoever finds no call under way (Lanes::quiet) finds nothing that waits either,
/// and a write for which there is no thread has never come.
void Backlog::push(Lanes& lanes, Write write) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (failure_ || given_up_) {
    const WalFailure refused = failure_ ? *failure_ : dropped_;
    lock.unlock();
    return write.round->fail(write.index, refused);
  }
  writes_.push_back(std::move(write));
  if (writes_.size() == 1) {
    if (PLANTED(write_waits_unseen)) lock.unlock();
    try {
      lanes.run([self = shared_from_this()] { self->drain(); });
    } catch (...) {
      Write never = std::move(writes_.front());
      writes_.pop_front();
      lock.unlock();  // it may be the last to hold what it uses
      throw;
    }
  }
  bytes_ += writes_.back().bytes;
  came_++;
}

/// On a thread of the copy, until nothing waits. Takes no memory.
void Backlog::drain() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!writes_.empty()) {
    Write& write = writes_.front();  // stays where it is while others come
    lock.unlock();
    std::optional<WalFailure> failure;
    bool good = write.round->make(write.index, write.call, write.lock, failure);
    lock.lock();
    bytes_ -= write.bytes;
    done_++;
    writes_.pop_front();
    if (!good) failure_ = failure ? std::move(*failure) : std::move(out_of_memory_);
    while (failure_ && !writes_.empty()) {
      Write never = take_last(*failure_);
      lock.unlock();
      never = {};  // it may be the last to hold what it uses
      lock.lock();
    }
    moved_.notify_all();
  }
}

/// With mutex_ held.
Backlog::Write Backlog::take_last(const WalFailure& why) {
  Write write = std::move(writes_.back());
  writes_.pop_back();
  bytes_ -= write.bytes;
  write.round->fail(write.index, why);
  return write;
}

uint64_t Backlog::came() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return came_;
}

void Backlog::wait_for(uint64_t count) {
  if (PLANTED(control_ahead_of_its_copy)) return;
  std::unique_lock<std::mutex> lock(mutex_);
  moved_.wait(lock, [&] { return done_ >= count || given_up_ || failure_; });
  if (failure_) throw *failure_;
  if (given_up_) throw dropped_;
}

bool Backlog::wait_until_done(uint64_t count, std::chrono::milliseconds most) {
  std::unique_lock<std::mutex> lock(mutex_);
  return moved_.wait_for(lock, most, [&] { return done_ >= count || given_up_ || failure_; });
}

void Backlog::wait_for_one(std::chrono::milliseconds most) { wait_until_done(done() + 1, most); }

uint64_t Backlog::done() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return done_;
}

bool Backlog::idle() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return writes_.empty() && !failure_ && !given_up_;
}

bool Backlog::behind() const {
  std::lock_guard<std::mutex> guard(mutex_);
  if (failure_) return true;
  return !writes_.empty() && writes_.front().round->answered();
}

uint64_t Backlog::bytes() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return bytes_;
}

bool Backlog::late(std::chrono::milliseconds limit) const {
  std::lock_guard<std::mutex> guard(mutex_);
  return !writes_.empty() && writes_.front().round->late(limit);
}

std::optional<WalFailure> Backlog::failure() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return failure_;
}

void Backlog::give_up() {
  std::lock_guard<std::mutex> guard(mutex_);
  given_up_ = true;
  while (writes_.size() > 1) take_last(dropped_);
  moved_.notify_all();
}

void Backlog::begin() {
  std::lock_guard<std::mutex> guard(mutex_);
  given_up_ = false;
  failure_.reset();
  out_of_memory_ = WalFailure("WAL_IO", "out of memory");
  done_ = came_;
}

}  // namespace walmirror
