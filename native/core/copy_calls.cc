// Calls to all copies of a log that are in, and to as many of them as a batch waits for.
#include <algorithm>

#include "copy_set.h"
#include "planted.h"

namespace walmirror {
namespace {

/// How long a wait for a copy that is behind goes on before it is asked whether it is too late.
constexpr auto kLookAgain = std::chrono::milliseconds(20);

}  // namespace

bool CopySet::behind(size_t copy) const {
  return !PLANTED(read_from_a_copy_behind) && copies_[copy]->backlog->behind();
}

std::vector<size_t> CopySet::readable() const {
  for (;;) {
    std::vector<size_t> in = all_in();
    std::vector<size_t> found;
    std::copy_if(in.begin(), in.end(), std::back_inserter(found),
                 [this](size_t copy) { return !behind(copy); });
    if (!found.empty() || in.empty()) return found;
    // The last write of the one that is ahead is done, and not yet counted; or the others are lost.
    const auto& backlog = copies_[in[0]]->backlog;
    if (backlog->failure()) return in;
    backlog->wait_until_done(backlog->came(), kLookAgain);
  }
}

void CopySet::each(const std::function<void(size_t)>& call) {
  std::vector<size_t> in = all_in();
  if (in.size() == 1 && copies_[in[0]]->backlog->idle()) return call(in[0]);
  auto round = std::make_shared<CopyRound>(in);
  for (size_t i = 0; i < in.size(); i++) {
    const std::shared_ptr<Backlog>& backlog = copies_[in[i]]->backlog;
    std::function<void(size_t)> after = [backlog, before = backlog->came(), call](size_t copy) {
      backlog->wait_for(before);
      call(copy);
    };
    copies_[in[i]]->lanes->run(
        [round, i, after = std::move(after), lock = lock_of(in[i])]() mutable {
          std::optional<WalFailure> failure;
          round->make(i, after, lock, failure);
        });
  }
  std::vector<CopyRound::Call> calls;
  conclude(calls, round->wait(lag_limit_, nullptr, calls) == CopyRound::Ended::kLate);
}

void CopySet::each_batch(uint64_t bytes, const std::function<void(size_t)>& call) {
  if (quorum_ == 0) return each(call);
  drop_what_lags();
  wait_for_room();
  std::vector<size_t> in = all_in();
  auto round = std::make_shared<CopyRound>(in);
  for (size_t i = 0; i < in.size(); i++) {
    Copy& copy = *copies_[in[i]];
    copy.backlog->push(*copy.lanes, {call, lock_of(in[i]), round, i, bytes});
  }
  auto is_enough = [this](const auto& calls) { return enough(calls); };
  for (std::vector<CopyRound::Call> calls;;) {
    CopyRound::Ended ended = round->wait(lag_limit_, is_enough, calls);
    conclude(calls, ended == CopyRound::Ended::kLate);
    // One that was counted may have been dropped meanwhile.
    std::lock_guard<std::mutex> guard(mutex_);
    if (!enough(calls)) continue;
    round->answer();
    return;
  }
}

/// Counts what is in now: one that did it and was dropped since does not hold it for anybody.
bool CopySet::enough(const std::vector<CopyRound::Call>& calls) const {
  size_t done = static_cast<size_t>(std::count_if(
      calls.begin(), calls.end(), [&](const auto& one) { return one.good() && in(one.copy); }));
  return done >= acknowledging();
}

/// Takes out those that failed and, at the limit, those that are not done.
void CopySet::conclude(const std::vector<CopyRound::Call>& calls, bool late) {
  for (const CopyRound::Call& one : calls) {
    if (one.other) std::rethrow_exception(one.other);
  }
  std::lock_guard<std::mutex> guard(mutex_);
  std::vector<size_t> lost;
  bool held = false;
  for (const CopyRound::Call& one : calls) {
    if (!copies_[one.copy]->in) continue;
    held = held || one.good();
    if (one.failure || (late && !one.done)) lost.push_back(one.copy);
  }
  if (!held || (!lost.empty() && !may_lose(lost))) {
    for (const CopyRound::Call& one : calls) {
      if (one.failure) throw *one.failure;
    }
    if (!held) throw WalFailure("WAL_IO", "no copy is left: each was dropped by another call");
    throw WalFailure("WAL_IO",
                     "too many copies are lost at once: without them, and before they are told, "
                     "the others may not go on (mirrorQuorum)");
  }
  for (const CopyRound::Call& one : calls) {
    if (std::find(lost.begin(), lost.end(), one.copy) == lost.end()) continue;
    Copy& copy = *copies_[one.copy];
    if (one.failure) {
      take_out(copy, reason_of(*one.failure), one.failure->what());
    } else {
      take_out_late(copy);
    }
  }
}

void CopySet::take_out_late(Copy& copy) {
  CopyRecord slow;
  slow.reason = OutReason::kSlow;
  take_out(copy, slow,
           "a call took more than " + std::to_string(lag_limit_.count()) +
               " ms longer than on another copy");
}

void CopySet::drop_what_lags() {
  if (quorum_ == 0) return;
  std::lock_guard<std::mutex> guard(mutex_);
  for (size_t i = 0; i < copies_.size(); i++) {
    Copy& copy = *copies_[i];
    if (!copy.in || copy.backlog->idle() || !may_lose({i})) continue;
    if (std::optional<WalFailure> failure = copy.backlog->failure()) {
      take_out(copy, reason_of(*failure), failure->what());
    } else if (copy.backlog->late(lag_limit_)) {
      take_out_late(copy);
    }
  }
}

/// A copy that is slower throttles the log when it is so far behind, rather than being dropped and
/// filled again and again: it is dropped when it is behind for too long.
void CopySet::wait_for_room() {
  for (size_t i = 0; i < copies_.size(); i++) {
    Backlog& backlog = *copies_[i]->backlog;
    while (in(i) && !backlog.failure() && backlog.bytes() >= most_behind_) {
      if (backlog.late(2 * lag_limit_))
        throw WalFailure("WAL_IO", copies_[i]->directory + ": a write does not return");
      backlog.wait_for_one(kLookAgain);
      drop_what_lags();
    }
  }
}

void CopySet::catch_up() {
  for (size_t i = 0; i < copies_.size(); i++) {
    uint64_t came = copies_[i]->backlog->came();
    while (in(i) && !copies_[i]->backlog->wait_until_done(came, kLookAgain)) {
      // Too few would be left without it.
      if (copies_[i]->backlog->late(2 * lag_limit_))
        throw WalFailure("WAL_IO", copies_[i]->directory + ": a write does not return");
      drop_what_lags();
    }
  }
}

void CopySet::give_up_backlogs() {
  for (auto& copy : copies_) copy->backlog->give_up();
}

}  // namespace walmirror
