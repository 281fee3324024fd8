#include "copy_set.h"

#include <algorithm>
#include <cerrno>

#include "planted.h"

namespace walmirror {
namespace {

uint64_t now_us() {
  auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

/// Puts the copies of this process into what is recorded; others stay, out, while there is room.
/// One that was in and is not given is out: the others are enough, or the operator said so.
void replace(Membership& membership, std::vector<CopyRecord> now, uint32_t quorum,
             OutReason not_given) {
  bool changed = membership.generation == 0;
  if (!PLANTED(quorum_not_stored)) {
    changed = changed || membership.quorum != quorum;
    membership.quorum = quorum;
  }
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
      old.reason = not_given;
      old.since_us = now_us();
    }
    now.push_back(std::move(old));
  }
  membership.copies = std::move(now);
  if (changed) membership.next_generation();
}

}  // namespace

CopySet::~CopySet() {
  give_up_backlogs();
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

void CopySet::begin_with(const Membership& recorded, bool some_accepted) {
  for (auto& copy : copies_) copy->counted = recorded.has_in(copy->record.id) && copy->in;
  // The operator has answered for those that are not there.
  if (some_accepted) not_given_ = OutReason::kAccepted;
  least_counted_ = some_accepted ? 0 : copies_to_go_on(recorded.count_in(), recorded.quorum);
}

size_t CopySet::number_in() const {
  return static_cast<size_t>(std::count_if(copies_.begin(), copies_.end(),
                                           [](const auto& copy) { return copy->in.load(); }));
}

std::vector<size_t> CopySet::all_in() const {
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

void CopySet::take_out(Copy& copy, const CopyRecord& why, const std::string& text) {
  copy.record.state = CopyState::kOut;
  copy.record.reason = why.reason;
  copy.record.error = why.error;
  copy.record.since_us = now_us();
  copy.text = text;
  // In this order: whoever finds it out finds that this is not stored.
  version_.fetch_add(1, std::memory_order_acq_rel);
  copy.in.store(false, std::memory_order_release);
  copy.backlog->give_up();
  news_.fetch_add(1, std::memory_order_acq_rel);
}

/// Whether what stays may go on without these, once that is stored: by the generation that all
/// know, and by those that some may know already. With mutex_ held.
bool CopySet::may_lose(const std::vector<size_t>& lost) const {
  size_t counted = 0;
  size_t left = 0;
  for (size_t i = 0; i < copies_.size(); i++) {
    if (!copies_[i]->in || std::find(lost.begin(), lost.end(), i) != lost.end()) continue;
    left++;
    if (copies_[i]->counted) counted++;
  }
  if (PLANTED(too_few_go_on)) return left > 0;
  return left >= std::max<size_t>(1, least_in_) && counted >= least_counted_;
}

bool CopySet::drop(size_t index, const CopyRecord& why, const std::string& text) {
  std::lock_guard<std::mutex> guard(mutex_);
  Copy& copy = *copies_[index];
  if (!copy.in) return true;
  if (!may_lose({index})) return false;
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
  copy.backlog->begin();
  copy.counted = false;
  copy.in.store(true, std::memory_order_release);
  least_in_ = std::max(least_in_, copies_to_go_on(number_in(), quorum_));
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

void CopySet::record(Membership& membership) {
  std::lock_guard<std::mutex> guard(mutex_);
  std::vector<CopyRecord> now;
  for (const auto& copy : copies_) now.push_back(copy->record);
  replace(membership, std::move(now), quorum_, not_given_);
  least_in_ = std::max(least_in_, copies_to_go_on(membership.count_in(), quorum_));
}

bool CopySet::stored(uint64_t stored) {
  std::lock_guard<std::mutex> guard(mutex_);
  if (version() != stored) return false;
  for (auto& copy : copies_) copy->counted = copy->in;
  least_in_ = least_counted_ = copies_to_go_on(number_in(), quorum_);
  stored_.store(stored, std::memory_order_release);
  return true;
}

void CopySet::record_in(Membership& membership, size_t joins, const Id& id) {
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
  replace(membership, std::move(now), quorum_, not_given_);
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
    row.behind = copy->in ? copy->backlog->bytes() : 0;
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
