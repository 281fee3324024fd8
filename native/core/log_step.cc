// A log without threads: its owner steps what the writer, the housekeeper and the task thread would
// do, when and in what order it likes.
#include <utility>

#include "log.h"

namespace walmirror {

Log::Due Log::due() {
  Due due;
  std::lock_guard<std::mutex> guard(mutex_);
  auto now = surroundings_->now();
  tick(now);
  due.task = !tasks_.empty();  // which are told of the failure themselves
  if (stopping_ || failure_) return due;
  due.flush_begins = !pending_.empty() && !under_way_;
  due.flush_ends = under_way_.has_value();
  due.housekeeping = segments_->wanted() || watermark_due(now) || segments_->lacks(spares_due());
  due.watermark = stored_watermark_.position != flushed_.position;
  return due;
}

bool Log::step(Work which) {
  switch (which) {
    case Work::kFlushBegins: {
      std::lock_guard<std::mutex> guard(mutex_);
      if (pending_.empty() || failure_ || under_way_) return false;
      under_way_ = take_target();
      return true;
    }
    case Work::kFlushEnds: {
      std::unique_lock<std::mutex> lock(mutex_);
      if (!under_way_ || failure_) return false;
      Place target = *std::exchange(under_way_, std::nullopt);
      flush_to(target, lock);
      return true;
    }
    case Work::kHousekeeping: {
      std::unique_lock<std::mutex> lock(mutex_);
      if (stopping_ || failure_) return false;
      return keep_house(lock) == House::kMore;
    }
    case Work::kTask: {
      std::unique_lock<std::mutex> lock(mutex_);
      return run_task(lock);
    }
  }
  return false;
}

/// What the threads do before they end.
void Log::step_to_the_end() {
  while (step(Work::kTask)) {
  }
  step_flushes();
}

void Log::step_flushes() {
  do {
    step(Work::kFlushEnds);
  } while (step(Work::kFlushBegins));
}

}  // namespace walmirror
