#include "copy_set.h"

#include <algorithm>
#include <cerrno>
#include <condition_variable>

namespace walmirror {
namespace {

uint64_t now_us() {
  auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

/// Puts the copies of this process into what is recorded; others stay, out, while there is room.
/// One that was in is out because the operator said so: it was not given at this opening.
void replace(Membership& membership, std::vector<CopyRecord> now) {
  bool changed = membership.generation == 0;
  size_t in = 0;
  for (const CopyRecord& copy : now) {
    if (copy.state != CopyState::kIn) continue;
    in++;
    changed = changed || !membership.has_in(copy.id);
  }
  changed = changed || in != membership.count_in();
  for (CopyRecord old : membership.copies) {
    bool ours = std::any_of(now.begin(), now.end(), [&](const CopyRecord& copy) {
      return copy.id == old.id || copy.path == old.path;
    });
    if (ours || now.size() == kMaxCopies) continue;
    if (old.state == CopyState::kIn) {
      old.state = CopyState::kOut;
      old.reason = OutReason::kAccepted;
      old.since_us = now_us();
    }
    now.push_back(std::move(old));
  }
  membership.copies = std::move(now);
  if (changed) membership.next_generation();
}

}  // namespace

struct CopySet::Round {
  struct Call {
    size_t copy;
    bool done = false;
    std::optional<WalFailure> failure;
    std::exception_ptr other;  // not the copy's fault
  };

  std::mutex mutex;
  std::condition_variable moved;
  std::vector<Call> calls;
  size_t open = 0;
  bool succeeded = false;

  /// Lets go of all that belongs to the call before it says that it is done.
  void make(size_t index, std::function<void(size_t)>& call, std::shared_ptr<DirectoryLock>& lock) {
    std::optional<WalFailure> failure;
    std::exception_ptr other;
    try {
      call(calls[index].copy);
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
    std::lock_guard<std::mutex> guard(mutex);
    calls[index].done = true;
    succeeded = succeeded || (!failure && !other);
    calls[index].failure = std::move(failure);
    calls[index].other = other;
    open--;
    moved.notify_all();
  }

  /// Returns what is known when all are done, or at the limit after the first success.
  std::vector<Call> wait(std::chrono::milliseconds limit) {
    std::unique_lock<std::mutex> lock(mutex);
    moved.wait(lock, [this] { return open == 0 || succeeded; });
    moved.wait_for(lock, limit, [this] { return open == 0; });
    return calls;
  }
};

CopySet::~CopySet() {
  for (auto& copy : copies_) copy->lanes->end();
}

void CopySet::add(const std::string& directory, std::shared_ptr<DirectoryLock> lock,
                  const CopyRecord& record) {
  auto copy = std::make_unique<Copy>();
  copy->directory = directory;
  copy->lock = std::move(lock);
  copy->record = record;
  copy->record.path = recorded_path(directory);
  if (copy->record.since_us == 0) copy->record.since_us = now_us();
  copy->in = record.state == CopyState::kIn;
  copy->text = describe(record);
  copies_.push_back(std::move(copy));
}

size_t CopySet::count_in() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return count_in_locked();
}

size_t CopySet::count_in_locked() const {
  return static_cast<size_t>(std::count_if(copies_.begin(), copies_.end(),
                                           [](const auto& copy) { return copy->in.load(); }));
}

std::vector<size_t> CopySet::readable() const {
  std::vector<size_t> found;
  size_t first = preferred_.load();
  for (size_t i = 0; i < copies_.size(); i++) {
    size_t copy = (first + i) % copies_.size();
    if (in(copy)) found.push_back(copy);
  }
  return found;
}

Id CopySet::id(size_t copy) const {
  std::lock_guard<std::mutex> guard(mutex_);
  return copies_[copy]->record.id;
}

void CopySet::keep_lock(size_t copy, std::shared_ptr<DirectoryLock> lock) {
  std::lock_guard<std::mutex> guard(mutex_);
  copies_[copy]->lock = std::move(lock);
}

std::shared_ptr<DirectoryLock> CopySet::lock_of(size_t copy) const {
  std::lock_guard<std::mutex> guard(mutex_);
  return copies_[copy]->lock;
}

bool CopySet::may_create(size_t copy) const {
  std::lock_guard<std::mutex> guard(mutex_);
  OutReason reason = copies_[copy]->record.reason;
  return reason == OutReason::kNew || reason == OutReason::kAccepted;
}

void CopySet::each(const std::function<void(size_t)>& call) {
  std::vector<size_t> in = readable();
  if (in.size() == 1) return call(in[0]);
  auto round = std::make_shared<Round>();
  for (size_t copy : in) round->calls.push_back({copy, false, {}, {}});
  round->open = in.size();
  for (size_t i = 0; i < in.size(); i++) {
    copies_[in[i]]->lanes->run([round, i, call = std::function<void(size_t)>(call),
                                lock = lock_of(in[i])]() mutable { round->make(i, call, lock); });
  }
  std::vector<Round::Call> calls = round->wait(lag_limit_);
  for (const Round::Call& one : calls) {
    if (one.other) std::rethrow_exception(one.other);
  }
  std::lock_guard<std::mutex> guard(mutex_);
  bool held = std::any_of(calls.begin(), calls.end(), [&](const Round::Call& one) {
    return one.done && !one.failure && copies_[one.copy]->in;
  });
  if (!held) {
    for (const Round::Call& one : calls) {
      if (one.failure) throw *one.failure;
    }
    throw WalFailure("WAL_IO", "no copy is left: each was dropped by another call");
  }
  for (const Round::Call& one : calls) {
    if (one.done && !one.failure) continue;
    Copy& copy = *copies_[one.copy];
    if (!copy.in) continue;
    if (one.failure) {
      take_out(copy, reason_of(*one.failure), one.failure->what());
    } else {
      CopyRecord slow;
      slow.reason = OutReason::kSlow;
      take_out(copy, slow,
               "a call took more than " + std::to_string(lag_limit_.count()) +
                   " ms longer than on another copy");
    }
  }
}

void CopySet::take_out(Copy& copy, const CopyRecord& why, const std::string& text) {
  copy.record.state = CopyState::kOut;
  copy.record.reason = why.reason;
  copy.record.error = why.error;
  copy.record.since_us = now_us();
  copy.text = text;
  // In this order: whoever finds it out finds that this is not stored.
  version_.fetch_add(1, std::memory_order_acq_rel);
  copy.in.store(false, std::memory_order_release);
  news_.fetch_add(1, std::memory_order_acq_rel);
}

bool CopySet::drop(size_t index, const CopyRecord& why, const std::string& text) {
  std::lock_guard<std::mutex> guard(mutex_);
  Copy& copy = *copies_[index];
  if (!copy.in) return true;
  if (count_in_locked() == 1) return false;
  take_out(copy, why, text);
  return true;
}

void CopySet::join(size_t index, const Id& id) {
  std::lock_guard<std::mutex> guard(mutex_);
  Copy& copy = *copies_[index];
  std::string path = copy.record.path;
  copy.record = CopyRecord{};
  copy.record.id = id;
  copy.record.path = std::move(path);
  copy.record.since_us = now_us();
  copy.text.clear();
  copy.filling = false;
  copy.bad_reads = 0;
  copy.in.store(true, std::memory_order_release);
  version_.fetch_add(1, std::memory_order_acq_rel);
  news_.fetch_add(1, std::memory_order_acq_rel);
}

void CopySet::note(size_t index, OutReason reason, const std::string& text) {
  std::lock_guard<std::mutex> guard(mutex_);
  Copy& copy = *copies_[index];
  if (copy.in || (copy.record.reason == reason && copy.text == text)) return;
  copy.record.reason = reason;
  copy.text = text;
  news_.fetch_add(1, std::memory_order_acq_rel);
}

void CopySet::note_filling(size_t index, bool filling, uint64_t filled, uint64_t to_fill) {
  std::lock_guard<std::mutex> guard(mutex_);
  Copy& copy = *copies_[index];
  if (copy.filling != filling) news_.fetch_add(1, std::memory_order_acq_rel);
  copy.filling = filling;
  copy.filled = filled;
  copy.to_fill = to_fill;
}

void CopySet::record(Membership& membership) const {
  std::lock_guard<std::mutex> guard(mutex_);
  std::vector<CopyRecord> now;
  for (const auto& copy : copies_) now.push_back(copy->record);
  replace(membership, std::move(now));
}

void CopySet::record_in(Membership& membership, size_t joins, const Id& id) const {
  std::lock_guard<std::mutex> guard(mutex_);
  std::vector<CopyRecord> now;
  for (size_t i = 0; i < copies_.size(); i++) {
    now.push_back(copies_[i]->record);
    if (i != joins) continue;
    now[i] = CopyRecord{};
    now[i].id = id;
    now[i].path = copies_[i]->record.path;
    now[i].since_us = now_us();
  }
  replace(membership, std::move(now));
}

void CopySet::settle() {
  if (!all_stored() && store_) store_();
}

std::vector<CopyStatus> CopySet::status() const {
  std::lock_guard<std::mutex> guard(mutex_);
  std::vector<CopyStatus> rows;
  for (const auto& copy : copies_) {
    CopyStatus row;
    row.directory = copy->directory;
    row.in = copy->in;
    row.filling = copy->filling;
    row.reason = copy->in ? "" : copy->text;
    row.since_us = copy->record.since_us;
    row.filled = copy->filled;
    row.to_fill = copy->to_fill;
    row.bad_reads = copy->bad_reads;
    rows.push_back(std::move(row));
  }
  return rows;
}

CopyRecord reason_of(const WalFailure& failure) {
  CopyRecord why;
  why.error = static_cast<uint16_t>(failure.error_number);
  why.reason = OutReason::kFailed;
  if (failure.error_number == ENOENT) why.reason = OutReason::kMissing;
  if (failure.code == "WAL_CORRUPT") why.reason = OutReason::kDamaged;
  return why;
}

}  // namespace walmirror
