#include "copy_round.h"

#include <algorithm>
#include <utility>

namespace walmirror {
namespace {

/// `enough` may change with the copies that are in: it is asked so often.
constexpr auto kAskAgain = std::chrono::milliseconds(20);

}  // namespace

CopyRound::CopyRound(const std::vector<size_t>& copies) : open_(copies.size()) {
  for (size_t copy : copies) calls_.push_back({copy, false, {}, {}});
}

bool CopyRound::make(size_t index, std::function<void(size_t)>& call,
                     std::shared_ptr<DirectoryLock>& lock, std::optional<WalFailure>& failure) {
  std::exception_ptr other;
  try {
    call(calls_[index].copy);
  } catch (const WalFailure& caught) {
    try {
      failure = caught;
    } catch (...) {
      other = std::current_exception();
    }
  } catch (...) {
    other = std::current_exception();
  }
  call = nullptr;
  lock.reset();
  return end(index, failure, other);
}

void CopyRound::fail(size_t index, const WalFailure& failure) { end(index, failure, {}); }

/// Throws nothing: there may be no memory.
bool CopyRound::end(size_t index, const std::optional<WalFailure>& failure,
                    std::exception_ptr other) {
  std::lock_guard<std::mutex> guard(mutex_);
  Call& call = calls_[index];
  try {
    call.failure = failure;
  } catch (...) {
    other = std::current_exception();
  }
  call.done = true;
  call.other = other;
  if (call.good() && !succeeded_) succeeded_ = Clock::now();
  open_--;
  moved_.notify_all();
  return call.good();
}

CopyRound::Ended CopyRound::wait(std::chrono::milliseconds limit, const Enough& enough,
                                 std::vector<Call>& calls) {
  std::unique_lock<std::mutex> lock(mutex_);
  moved_.wait(lock, [this] { return open_ == 0 || succeeded_; });
  for (;;) {
    calls = calls_;
    if (open_ == 0) return Ended::kAll;
    if (enough && enough(calls)) return Ended::kEnough;
    auto until = *succeeded_ + limit;
    auto now = Clock::now();
    if (now >= until) return Ended::kLate;
    moved_.wait_until(lock, enough ? std::min(until, now + kAskAgain) : until);
  }
}

bool CopyRound::late(std::chrono::milliseconds limit) const {
  std::lock_guard<std::mutex> guard(mutex_);
  return succeeded_ && Clock::now() - *succeeded_ > limit;
}

}  // namespace walmirror
