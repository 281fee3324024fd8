// The keeper: notices a directory that is gone, and fills a copy beside the appends (SAFETY 7).
#include <algorithm>
#include <array>

#include "copy_filler.h"
#include "copy_opening.h"
#include "log.h"
#include "random.h"

namespace walmirror {

using Clock = std::chrono::steady_clock;

namespace {

/// A directory that cannot be filled is tried again less and less often.
constexpr int kLastRetry = 60;
/// So much is copied while appends wait.
constexpr uint64_t kLastPart = 4u << 20;
/// A log that outruns the filling is made to wait after so many passes.
constexpr int kMostPasses = 16;
/// A log that holds less gets its copies while it is opened.
constexpr uint64_t kFillAtOnce = 64u << 20;

}  // namespace

void Log::fill_new_copies() {
  if (copies_ == nullptr || flushed_.position - start_position_ > kFillAtOnce) return;
  for (size_t copy = 0; copy < copies_->count(); copy++) {
    if (copies_->in(copy)) continue;
    try {
      try_fill(copy);
    } catch (const WalFailure& failure) {
      if (!is_of_the_disk(failure)) throw;
      copies_->note(copy, reason_of(failure).reason, failure.what());
    }
  }
}

void Log::keeper_main() {
  std::array<Retry, kMaxCopies> retries;  // no memory: nobody would hear that there is none
  uint64_t told = copies_->news();
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_ && !failure_) {
    lock.unlock();
    try {
      drop_what_is_gone();
      for (size_t copy = 0; copy < copies_->count(); copy++) keep(copy, retries[copy]);
    } catch (...) {
      fail_as_caught();
    }
    uint64_t news = copies_->news();
    if (news != told) progress_();
    told = news;
    lock.lock();
    if (!stopping_ && !failure_) keeper_wakes_.wait_for(lock, copy_look_);
  }
}

/// Files that are open can be written after they were removed, with nothing to tell of it.
void Log::drop_what_is_gone() {
  copies_->drop_what_lags();
  for (size_t copy : copies_->all_in()) {
    WalFailure gone("WAL_IO", copies_->directory(copy) + "/control is gone");
    gone.error_number = ENOENT;
    try {
      if (disks_->exists(copies_->directory(copy) + "/control")) continue;
    } catch (const WalFailure& failure) {
      gone = failure;
    }
    copies_->drop(copy, reason_of(gone), gone.what());
  }
  copies_->settle();
}

/// Does not verify: filled anew, as one that comes back. False: it is the last one.
bool Log::give_up(size_t copy, const std::string& why) {
  WalFailure damaged("WAL_CORRUPT", why);
  if (!copies_->drop(copy, reason_of(damaged), why)) return false;
  copies_->settle();
  return true;
}

void Log::keep(size_t copy, Retry& retry) {
  if (copies_->in(copy)) {
    retry = Retry{};
    return;
  }
  if (Clock::now() < retry.next) return;
  try {
    try_fill(copy);
    retry = Retry{};
    return;
  } catch (const WalFailure& failure) {
    copies_->note_filling(copy, false, 0, 0);
    copies_->note(copy, reason_of(failure).reason, failure.what());
  }
  retry.wait = std::clamp(retry.wait * 2, copy_look_, copy_look_ * kLastRetry);
  retry.next = Clock::now() + retry.wait;
}

/// Throws where the directory is not there, or may hold what this log lacks.
void Log::try_fill(size_t copy) {
  const std::string& directory = copies_->directory(copy);
  // A call that hung may still write to it.
  if (!copies_->quiet(copy))
    throw WalFailure("WAL_IO", directory + ": a call has not returned yet");
  copies_->keep_lock(copy, nullptr);
  if (copies_->may_create(copy)) disks_->prepare_directory(directory, true);
  GivenCopy found = look_at_copy(*disks_, directory);
  if (!found.exists) {
    WalFailure gone("WAL_IO", directory + " is not there");
    gone.error_number = ENOENT;
    throw gone;
  }
  Control now = control_->current();
  if (found.control) {
    const Control& theirs = *found.control;
    if (theirs.log_id != now.log_id || theirs.salt != now.salt || theirs.node_id != now.node_id)
      throw WalFailure("WAL_NOT_A_LOG", directory + " holds another log");
    if (!theirs.membership.same_line(now.membership) &&
        !is_stale(now.membership, theirs.membership)) {
      throw WalFailure("WAL_COPY_SPLIT", directory +
                                             " was used without the other copies and may hold "
                                             "records that they lack")
          .advise("Empty the directory once nothing in it is needed: it is filled again.");
    }
  }
  if (found.lock == nullptr) found.lock = disks_->lock(directory + "/lock");
  copies_->keep_lock(copy, std::move(found.lock));
  fill_copy(copy);
}

void Log::fill_copy(size_t copy) {
  CopyFiller filler(*mirror_, directory_, *segments_, identity_, *disks_, copies_->directory(copy));
  const int claim = retain(0);
  try {
    uint64_t begin;
    uint64_t cuts;
    {
      std::lock_guard<std::mutex> guard(mutex_);
      begin = claims_.at(claim);
      cuts = cuts_;
    }
    Pace pace{Clock::now(), 0, writer_.joinable() ? fill_rate_ : 0};
    mirror_->let_go(copy);
    filler.write_aside();
    filler.on_piece([&](uint64_t bytes) { pace_fill(copy, begin, bytes, pace); });
    uint64_t at = begin;
    for (int pass = 0; pass < kMostPasses; pass++) {
      uint64_t end = flushed().position;
      if (pass > 0 && end - at <= kLastPart) break;
      filler.copy(at, end);
      at = end;
      if (pass == 0) filler.clear_after(at);
      pace.rate = 0;  // what came meanwhile is little, and must be less each time
    }
    filler.match_files(begin);
    between_flushes([&] {
      filler.copy(at, flushed().position);
      filler.publish();
      filler.on_piece(nullptr);
      // From here on no lock of the log or its segments is taken: who waits here holds some.
      std::unique_lock<std::shared_mutex> held = mirror_->hold();
      if (cuts != cuts_) throw WalFailure("WAL_IO", "the log was cut while a copy was filled");
      filler.match_files(begin);
      Id id;
      random_bytes(id.data(), id.size());
      control_->join(copy, id);
    });
  } catch (...) {
    release(claim);
    filler.abandon();
    throw;
  }
  release(claim);
  // It is in: nobody waits for this, and nothing depends on it.
  try {
    filler.remove_below();
  } catch (...) {
    // They are before its start by now: an opening makes spares of them.
  }
}

/// Runs it on the writer's thread, so that nothing is being flushed. Throws what it throws.
void Log::between_flushes(const std::function<void()>& job) {
  if (!writer_.joinable()) return job();
  std::exception_ptr failure;
  bool done = false;
  std::unique_lock<std::mutex> lock(mutex_);
  if (stopping_ || failure_) throw WalFailure("WAL_CLOSED", "the log is closed");
  between_ = [&] {
    try {
      job();
    } catch (...) {
      failure = std::current_exception();
    }
    std::lock_guard<std::mutex> guard(mutex_);
    done = true;
    keeper_wakes_.notify_all();
  };
  writer_wakes_.notify_one();
  keeper_wakes_.wait(lock, [&] { return done; });
  lock.unlock();
  if (failure) std::rethrow_exception(failure);
}

/// A filling goes on at its rate, and ends with the log.
void Log::pace_fill(size_t copy, uint64_t begin, uint64_t bytes, Pace& pace) {
  pace.bytes += bytes;
  std::unique_lock<std::mutex> lock(mutex_);
  uint64_t all = flushed_.position - begin;
  copies_->note_filling(copy, true, std::min(pace.bytes, all), all);
  if (stopping_ || failure_) throw WalFailure("WAL_CLOSED", "the log is closed");
  if (pace.rate == 0) return;
  auto due = pace.began + std::chrono::microseconds(pace.bytes * 1'000'000 / pace.rate);
  keeper_wakes_.wait_until(lock, due, [this] { return stopping_ || failure_; });
}

}  // namespace walmirror
