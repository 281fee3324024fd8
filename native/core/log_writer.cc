// The engine's threads: the writer flushes, the housekeeper prepares segments and stores
// watermarks, tasks run in turn.
#include <algorithm>
#include <cstring>
#include <utility>

#include "log.h"
#include "planted.h"

namespace walmirror {

using Clock = std::chrono::steady_clock;

namespace {

/// Bytes of one flush: enough for the device's best rate, little enough that the ring drains
/// steadily.
constexpr uint64_t kMostPerFlush = 8u << 20;
constexpr uint64_t kWatermarkEvery = 64u << 20;
constexpr auto kIdleWatermark = std::chrono::milliseconds(50);
constexpr double kSlowFlushMs = 1000;
constexpr auto kSpaceRetry = std::chrono::milliseconds(100);
/// Ticks without an append before the ticker sleeps.
constexpr int kIdleTicks = 20;

}  // namespace

std::optional<WalFailure> Log::failure() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return failure_;
}

bool Log::has_failed() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return failure_.has_value();
}

Place Log::flushed() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return flushed_;
}

LogStatistics Log::statistics() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return statistics_;
}

void Log::fail(const WalFailure& failure) {
  {
    std::lock_guard<std::mutex> guard(mutex_);
    try {
      if (!failure_) failure_ = failure;
    } catch (const std::bad_alloc&) {
      failure_ = std::move(out_of_memory_);
    }
  }
  flush_moved_.notify_all();
  progress_();
}

/// What is being caught is final for the log. Takes no memory: there may be none.
void Log::fail_as_caught() {
  try {
    throw;
  } catch (const WalFailure& failure) {
    fail(failure);
  } catch (...) {
    {
      std::lock_guard<std::mutex> guard(mutex_);
      if (!failure_) failure_ = std::move(out_of_memory_);
    }
    flush_moved_.notify_all();
    progress_();
  }
}

/// The furthest batch end that one flush takes. Called with mutex_ held and pending_ not empty.
Place Log::take_target() const {
  Place target = pending_.front();
  for (const Place& end : pending_) {
    if (end.position > flushed_.position + kMostPerFlush) break;
    target = end;
  }
  return target;
}

void Log::writer_main() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    tick(surroundings_->now());
    if (between_) {
      std::function<void()> job = std::exchange(between_, nullptr);
      lock.unlock();
      job();
      lock.lock();
      continue;
    }
    if (!pending_.empty() && !failure_) {
      flush_to(take_target(), lock);
      continue;
    }
    if (stopping_) return;
    writer_waits_ = true;
    if (tick_.load(std::memory_order_relaxed) == kAsleep) {
      writer_wakes_.wait(lock);
    } else {
      writer_wakes_.wait_until(lock, next_tick_);
    }
    writer_waits_ = false;
  }
}

/// Flushes up to `target` and tells so. False: it failed. `lock` is let go of meanwhile.
bool Log::flush_to(Place target, std::unique_lock<std::mutex>& lock) {
  Place from = flushed_;
  lock.unlock();
  auto began = surroundings_->now();
  bool done = flush(from, target);
  auto ended = surroundings_->now();
  lock.lock();
  if (!done) return false;
  if (PLANTED(flushed_with_those_before)) target = pending_.back();
  flushed_ = target;
  while (!pending_.empty() && pending_.front().position <= target.position) pending_.pop_front();
  flush_position_.store(target.position, std::memory_order_release);
  last_flush_ = ended;
  statistics_.flushes++;
  statistics_.flushed_bytes += target.position - from.position;
  double took = std::chrono::duration<double, std::milli>(ended - began).count();
  statistics_.total_ms += took;
  statistics_.durations.add(ended - began);
  flush_count_.store(statistics_.flushes, std::memory_order_release);
  flush_nanoseconds_.fetch_add(static_cast<uint64_t>((ended - began).count()),
                               std::memory_order_release);
  statistics_.slowest_flush_ms = std::max(statistics_.slowest_flush_ms, took);
  if (took >= kSlowFlushMs) {
    statistics_.last_slow_flush_ms = took;
    slow_flushes_.store(++statistics_.slow_flushes, std::memory_order_release);
  }
  bool wake_housekeeper = watermark_due(ended) || stored_watermark_.position == from.position ||
                          (from.position % identity_.segment_bytes <= spares_from() &&
                           target.position % identity_.segment_bytes > spares_from());
  lock.unlock();
  progress_();
  flush_moved_.notify_all();
  if (wake_housekeeper) housekeeper_wakes_.notify_one();
  lock.lock();
  return true;
}

/// False: it failed, and that is final for the log.
bool Log::flush(const Place& from, const Place& target) {
  try {
    try {
      write_range(from.position, target.position);
      return true;
    } catch (const WalFailure& cause) {
      if (PLANTED(failed_flush_believed)) return true;
      WalFailure failure("WAL_FLUSH_FAILED", std::string("a flush failed: ") + cause.what());
      failure.at(cause.file, from.position, from.lsn + 1).error_number = cause.error_number;
      throw failure;
    }
  } catch (...) {
    fail_as_caught();
    return false;
  }
}

/// Tells the owner that its open batch is due, so that a loop that never yields is flushed too.
/// mutex_ held.
void Log::tick(Clock::time_point now) {
  int32_t word = tick_.load(std::memory_order_relaxed);
  if (word == kAsleep || now < next_tick_) return;
  next_tick_ = now + batch_delay_;
  if (word == kRunning) {
    idle_ticks_ = 0;
    tick_.store(kDue, std::memory_order_relaxed);
  } else if (++idle_ticks_ >= kIdleTicks) {
    tick_.store(kAsleep, std::memory_order_relaxed);
  }
}

void Log::write_range(uint64_t from, uint64_t to) {
  while (from < to) {
    uint64_t number = identity_.segment_of(from);
    uint64_t end = std::min(to, identity_.segment_end(from));
    std::shared_ptr<Segment> segment = segments_->find(number);
    if (segment == nullptr) {
      SegmentHeader header;
      std::memcpy(&header, ring_->at(number * identity_.segment_bytes), sizeof header);
      segment = segments_->activate(header);
    }
    write_part(segment, from, end);
    from = end;
  }
}

/// One durable write of [from, to), within a segment. Memory under a write never changes: the last
/// block, into which the owner may be appending, is written from a private copy, zeros after `to`
/// (SAFETY 5.3).
void Log::write_part(const std::shared_ptr<Segment>& segment, uint64_t from, uint64_t to) {
  uint64_t first = align_down(from, kBlock);
  uint64_t whole = align_down(to, kBlock);
  Slice slices[2];
  size_t count = 0;
  if (whole > first) slices[count++] = {ring_->at(first), whole - first};
  if (to > whole) {
    std::memcpy(tail_block_.data(), ring_->at(whole), to - whole);
    std::memset(tail_block_.data() + (to - whole), 0, kBlock - (to - whole));
    slices[count++] = {tail_block_.data(), kBlock};
  }
  uint64_t offset = first % identity_.segment_bytes;
  if (PLANTED(acknowledged_before_flush)) {
    segment->file()->write(offset, slices, count, false);
  } else {
    segment->file()->write_batches(offset, slices, count);
  }
}

bool Log::watermark_due(Clock::time_point now) const {
  if (stored_watermark_.position == flushed_.position) return false;
  return flushed_.position - stored_watermark_.position >= kWatermarkEvery ||
         identity_.segment_of(flushed_.position) !=
             identity_.segment_of(stored_watermark_.position) ||
         now - last_flush_ >= kIdleWatermark;
}

/// What the control file says of the log's state, as of now. Takes mutex_.
/// Before the history changes: a rule that the records of its last term were judged by says nothing
/// of those of another. A promotion goes by it still, as long as nobody has opened the next epoch.
static void note_last_term(Control& control, const History& history) {
  if (!control.rule_of_earlier_term || control.history.empty() || history.empty()) return;
  if (control.history.back().term == history.back().term || PLANTED(rule_of_another_term)) return;
  if (control.term.incarnation == 0) {
    control.rule_of_earlier_term = false;
  } else {
    control.forget_rule();
  }
}

void Log::refresh_control(Control& control) const {
  std::lock_guard<std::mutex> guard(mutex_);
  control.watermark = flushed_;
  if (PLANTED(watermark_ahead) && !pending_.empty()) control.watermark = pending_.back();
  control.commit = commit_;
  control.commit_exact = commit_exact_;
  note_last_term(control, history_);
  control.history = history_;
  control.wall_clock_us = wall_clock_us_.load(std::memory_order_relaxed);
}

void Log::store_watermark(bool clean) {
  Place stored;
  control_->update(clean ? ControlFile::Copies::kBoth : ControlFile::Copies::kOne,
                   [&](Control& control) {
                     refresh_control(control);
                     control.clean = clean;
                     stored = control.watermark;
                   });
  std::lock_guard<std::mutex> guard(mutex_);
  stored_watermark_ = stored;
}

/// Spares to have ready as of now. mutex_ held.
size_t Log::spares_due() const {
  return flushed_.position % identity_.segment_bytes > spares_from() ? 2 : 0;
}

/// One round. `lock` is let go of meanwhile.
Log::House Log::keep_house(std::unique_lock<std::mutex>& lock) {
  size_t target = spares_due();
  bool due = watermark_due(surroundings_->now());
  // Large pages take no more memory from there on.
  bool lapped = flushed_.position >= lap_ends_;
  lock.unlock();
  bool more = false;
  bool wanted = segments_->wanted();
  bool failed = false;
  try {
    if (due) store_watermark(false);
    more = segments_->prepare(target) || (lapped && ring_->enlarge_pages());
  } catch (...) {
    fail_as_caught();
    failed = true;
  }
  // The owner waits for a segment, or for word that there is no space for one.
  uint64_t told = std::exchange(spares_told_, segments_->spares_kept());
  if (wanted || spares_told_ != told) progress_();
  lock.lock();
  if (failed) return House::kFailed;
  return more ? House::kMore : House::kDone;
}

void Log::housekeeper_main() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    House outcome = keep_house(lock);
    if (outcome == House::kFailed) return;
    if (outcome == House::kMore || stopping_) continue;
    // Looked at with mutex_ held, under which whoever changes it notifies.
    if (segments_->wanted()) {
      housekeeper_wakes_.wait_for(lock, kSpaceRetry);
    } else if (stored_watermark_.position != flushed_.position) {
      housekeeper_wakes_.wait_for(lock, kIdleWatermark);
    } else {
      housekeeper_wakes_.wait(lock);
    }
  }
}

void Log::wake_housekeeper() {
  { std::lock_guard<std::mutex> guard(mutex_); }
  housekeeper_wakes_.notify_one();
}

bool Log::post(std::function<void()> task) {
  {
    std::lock_guard<std::mutex> guard(mutex_);
    if (stopping_) return false;
    tasks_.push_back(std::move(task));
  }
  task_wakes_.notify_one();
  return true;
}

/// False: there is none. `lock` is let go of meanwhile.
bool Log::run_task(std::unique_lock<std::mutex>& lock) {
  if (tasks_.empty()) return false;
  std::function<void()> task = std::move(tasks_.front());
  tasks_.pop_front();
  lock.unlock();
  try {
    task();
  } catch (...) {  // A task tells its errors itself: this one found no memory to.
    fail_as_caught();
  }
  task = nullptr;
  lock.lock();
  return true;
}

void Log::task_main() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    if (run_task(lock)) continue;
    if (stopping_) return;
    task_wakes_.wait(lock);
  }
}

void Log::wait_until_flushed() {
  if (!surroundings_->has_threads()) step_flushes();
  std::unique_lock<std::mutex> lock(mutex_);
  flush_moved_.wait(lock, [this] { return pending_.empty() || failure_; });
  if (failure_) throw *failure_;
}

void Log::close() {
  {
    // No append is in the middle of what it does: it is taken whole before this, or refused.
    std::unique_lock<std::mutex> owning = own();
    publish_at_the_end();
    std::unique_lock<std::mutex> lock(mutex_);
    if (closed_down_) {
      owning.unlock();
      flush_moved_.wait(lock, [this] { return all_ended_; });
      return;
    }
    closed_down_ = true;
    stopping_ = true;
    // The writer leaves only when nothing is pending.
    writer_wakes_.notify_all();
    housekeeper_wakes_.notify_all();
    task_wakes_.notify_all();
    keeper_wakes_.notify_all();
  }
  if (scrubber_ != nullptr) scrubber_->stop();
  if (started_ && !surroundings_->has_threads()) step_to_the_end();
  if (keeper_.joinable()) keeper_.join();
  if (task_.joinable()) task_.join();
  if (writer_.joinable()) writer_.join();
  if (housekeeper_.joinable()) housekeeper_.join();
  if (control_ != nullptr && segments_ != nullptr && ring_ != nullptr && !has_failed()) {
    try {
      store_watermark(true);
    } catch (...) {
      fail_as_caught();
    }
  }
  // The object may live on in JavaScript for long; its files must not.
  if (segments_ != nullptr) segments_->close_files();
  if (control_ != nullptr) control_->close_file();
  if (copies_ != nullptr) copies_->give_up_backlogs();
  lock_.reset();
  for (size_t copy = 0; copies_ != nullptr && copy < copies_->count(); copy++)
    copies_->keep_lock(copy, nullptr);
  std::lock_guard<std::mutex> guard(mutex_);
  all_ended_ = true;
  flush_moved_.notify_all();
}

Log::~Log() {
  if (started_) close();
  // An opening that failed while a call hangs: what that refers to lives on, but for the locks.
  if (copies_ != nullptr) copies_->give_up_backlogs();
  for (size_t copy = 0; copies_ != nullptr && copy < copies_->count(); copy++)
    copies_->keep_lock(copy, nullptr);
}

}  // namespace walmirror
