#include "copy_opening.h"

#include <algorithm>

#include "copy_filler.h"
#include "random.h"

namespace walmirror {
namespace {

bool is_ours(const std::string& name) {
  return name == "lock" || name == "control" || name == "control.new" || name == "control.join" ||
         name == "control.sock" || name.ends_with(".wal") || name.ends_with(".spare");
}

}  // namespace

bool is_of_the_disk(const WalFailure& failure) {
  return failure.code == "WAL_IO" || failure.code == "WAL_NO_SPACE" ||
         failure.code == "WAL_CORRUPT";
}

void refuse_other_files(FileSystem& files, const std::string& directory) {
  for (const std::string& name : files.list(directory)) {
    // Before the control file is there, a crashed creation leaves only spares.
    if (name.ends_with(".wal")) {
      throw WalFailure("WAL_CORRUPT",
                       directory + "/control is missing beside segments; restore it from a backup")
          .at(directory + "/control", 0, 0);
    }
    if (!is_ours(name)) {
      throw WalFailure("WAL_NOT_A_LOG",
                       directory + " holds other files (" + name + "); use an empty directory");
    }
  }
}

GivenCopy look_at_copy(FileSystem& files, const std::string& directory) {
  GivenCopy copy;
  copy.directory = directory;
  try {
    copy.exists = files.prepare_directory(directory, false);
    if (!copy.exists) return copy;
    bool controlled = files.exists(directory + "/control");
    if (!controlled) refuse_other_files(files, directory);
    if (!controlled && files.list(directory).empty()) return copy;
    copy.lock = files.lock(directory + "/lock");
    std::unique_ptr<ControlFile> control = ControlFile::open(files, directory, true);
    if (control == nullptr) return copy;
    copy.control = control->current();
    copy.sequence = control->sequence();
  } catch (const WalFailure& failure) {
    if (!is_of_the_disk(failure)) throw;
    copy.unreadable = failure;
  }
  return copy;
}

bool is_stale(const Membership& newest, const Membership& other) {
  if (newest.follows(other)) return true;
  return std::any_of(other.copies.begin(), other.copies.end(), [&](const CopyRecord& copy) {
    return copy.state == CopyState::kIn && newest.has_in(copy.id);
  });
}

bool require_copies(const Membership& membership, const std::vector<Id>& given,
                    const std::vector<std::string>& accepted) {
  std::string missing;
  bool some_accepted = false;
  for (const CopyRecord& copy : membership.copies) {
    if (copy.state != CopyState::kIn) continue;
    if (std::find(given.begin(), given.end(), copy.id) != given.end()) continue;
    bool is_accepted = std::any_of(accepted.begin(), accepted.end(), [&](const auto& path) {
      return recorded_path(path) == copy.path;
    });
    if (is_accepted) {
      some_accepted = true;
    } else {
      missing += (missing.empty() ? "" : ", ") + copy.path;
    }
  }
  if (missing.empty()) return some_accepted;
  throw WalFailure("WAL_COPY_MISSING",
                   "the log has copies that are not given or cannot be read: " + missing +
                       ". They may have gone on without the others; give them all, or say of each "
                       "that it may be missing");
}

CopyOpening::CopyOpening(std::shared_ptr<FileSystem> files, std::vector<std::string> directories,
                         std::vector<std::string> accepted)
    : files_(std::move(files)), accepted_(std::move(accepted)) {
  for (const std::string& directory : directories) {
    given_.push_back(look_at_copy(*files_, directory));
  }
}

bool CopyOpening::fresh() const {
  for (const GivenCopy& copy : given_) {
    if (copy.control) return false;
  }
  for (const GivenCopy& copy : given_) {
    if (copy.unreadable) throw *copy.unreadable;
  }
  return true;
}

std::unique_ptr<DirectoryLock> CopyOpening::lock_first() {
  given_[0].lock.reset();
  return files_->lock(given_[0].directory + "/lock");
}

void CopyOpening::created() { given_[0] = look_at_copy(*files_, given_[0].directory); }

void CopyOpening::choose() {
  refuse_foreign();
  choose_line();
  const Membership& membership = control().membership;
  in_.clear();
  for (const GivenCopy& copy : given_) {
    bool alone = membership.generation == 0 && &copy == &given_[newest_];
    in_.push_back(copy.control && (alone || membership.has_in(copy.control->own_copy)));
  }
  require_copies(membership, given_in(), accepted_);
  for (const GivenCopy& copy : given_) {
    if (copy.unreadable && !was_ours(copy)) throw *copy.unreadable;
  }
}

void CopyOpening::refuse_foreign() const {
  const GivenCopy* first = nullptr;
  for (const GivenCopy& copy : given_) {
    if (!copy.control) continue;
    if (first == nullptr) first = &copy;
    if (copy.control->log_id != first->control->log_id ||
        copy.control->salt != first->control->salt ||
        copy.control->node_id != first->control->node_id) {
      throw WalFailure("WAL_NOT_A_LOG", copy.directory +
                                            " holds another log, or that of another "
                                            "node, than " +
                                            first->directory);
    }
    for (const GivenCopy& other : given_) {
      if (&other == &copy || !other.control || copy.control->own_copy == Id{}) continue;
      if (other.control->own_copy != copy.control->own_copy) continue;
      throw WalFailure("WAL_NOT_A_LOG", copy.directory + " and " + other.directory +
                                            " are the same copy: one of them was copied by hand");
    }
  }
}

/// The newest generation that leaves out nothing that another line may hold.
void CopyOpening::choose_line() {
  uint64_t generation = 0;
  for (const GivenCopy& copy : given_) {
    if (copy.control) generation = std::max(generation, copy.control->membership.generation);
  }
  std::string apart;
  for (size_t i = 0; i < given_.size(); i++) {
    if (!given_[i].control || given_[i].control->membership.generation != generation) continue;
    const Membership& newest = given_[i].control->membership;
    auto other = std::find_if(given_.begin(), given_.end(), [&](const GivenCopy& copy) {
      return copy.control && &copy != &given_[i] &&
             !(generation > 0 && copy.control->membership.same_line(newest)) &&
             !is_stale(newest, copy.control->membership);
    });
    if (other != given_.end()) {
      apart = given_[i].directory + " and " + other->directory;
      continue;
    }
    newest_ = i;
    for (size_t copy = 0; copy < given_.size(); copy++) {
      if (!given_[copy].control || !newest.has_in(given_[copy].control->own_copy)) continue;
      if (given_[copy].sequence > given_[newest_].sequence &&
          given_[copy].control->membership.same_line(newest)) {
        newest_ = copy;
      }
    }
    return;
  }
  throw WalFailure("WAL_COPY_SPLIT",
                   apart +
                       " may both hold records that the other lacks: each was used without the "
                       "other. Keep one, and empty the other");
}

/// A directory that a control file names, so that what is left in it may be written over.
bool CopyOpening::was_ours(const GivenCopy& copy) const {
  const auto& copies = control().membership.copies;
  return std::any_of(copies.begin(), copies.end(), [&](const CopyRecord& record) {
    return record.path == recorded_path(copy.directory);
  });
}

std::vector<Id> CopyOpening::given_in() const {
  std::vector<Id> ids;
  for (size_t copy = 0; copy < given_.size(); copy++) {
    if (in_[copy]) ids.push_back(given_[copy].control->own_copy);
  }
  return ids;
}

std::unique_ptr<Segments> CopyOpening::load(size_t copy) const {
  auto segments = std::make_unique<Segments>(files_, given_[copy].directory, identity_, false);
  segments->load(control().start_position);
  return segments;
}

void CopyOpening::level(uint64_t reach) {
  const Control newest = control();
  identity_ = {newest.log_id, newest.salt, newest.segment_bytes, newest.align};
  std::optional<WalFailure> first_failure;
  std::vector<std::unique_ptr<Segments>> segments(given_.size());
  std::optional<EndOfLog> longest;
  for (size_t copy = 0; copy < given_.size(); copy++) {
    if (!in_[copy]) continue;
    try {
      segments[copy] = load(copy);
      EndOfLog end = find_end(identity_, *segments[copy], newest, reach, false);
      if (longest && end.chain.position <= longest->chain.position) continue;
      longest = end;
      longest_ = copy;
    } catch (const WalFailure& failure) {
      if (!is_of_the_disk(failure)) throw;
      if (!first_failure) first_failure = failure;
      given_[copy].unreadable = failure;
      in_[copy] = false;
    }
  }
  if (!longest) throw *first_failure;
  for (size_t copy = 0; copy < given_.size(); copy++) {
    if (!in_[copy] || copy == longest_) continue;
    try {
      segments[copy].reset();
      level_one(*segments[longest_], *longest, copy);
    } catch (const WalFailure& failure) {
      // What the longest cannot give is no fault of the other.
      if (!is_of_the_disk(failure) || failure.code == "WAL_CORRUPT") throw;
      given_[copy].unreadable = failure;
      in_[copy] = false;
    }
  }
}

/// Up to the watermark it has all; from there on it gets what the longest has.
void CopyOpening::level_one(const Segments& source, const EndOfLog& end, size_t copy) {
  CopyFiller filler(*files_, given_[longest_].directory, source, identity_, *files_,
                    given_[copy].directory);
  filler.match_files();
  uint64_t from = std::min(control().watermark.position, end.chain.position);
  // Its header too: the watermark says nothing of it there.
  filler.copy(from, end.chain.position);
}

CopyRecord CopyOpening::record_of(size_t index) const {
  const GivenCopy& copy = given_[index];
  const Membership& membership = control().membership;
  CopyRecord record;
  for (const CopyRecord& known : membership.copies) {
    bool same = copy.control && copy.control->own_copy != Id{}
                    ? known.id == copy.control->own_copy
                    : known.path == recorded_path(copy.directory);
    if (same) record = known;
  }
  if (!in_[index]) return record_of_out(copy, record);
  record.state = CopyState::kIn;
  if (record.id == Id{}) random_bytes(record.id.data(), record.id.size());
  return record;
}

CopyRecord CopyOpening::record_of_out(const GivenCopy& copy, CopyRecord record) const {
  bool known = record.id != Id{} || record.reason != OutReason::kNone;
  bool was_in = known && record.state == CopyState::kIn;
  record.state = CopyState::kOut;
  if (was_in || !known) record.since_us = 0;
  if (copy.unreadable) {
    CopyRecord why = reason_of(*copy.unreadable);
    record.reason = why.reason;
    record.error = why.error;
  } else if (!known) {
    record.reason = copy.control ? OutReason::kStale : OutReason::kNew;
  } else if (was_in) {
    record.reason = OutReason::kAccepted;
  } else if (!copy.exists && record.reason != OutReason::kNew) {
    record.reason = OutReason::kMissing;
  }
  return record;
}

std::shared_ptr<CopySet> CopyOpening::make_set(std::chrono::milliseconds lag_limit) {
  auto set = std::make_shared<CopySet>(lag_limit);
  for (size_t copy = 0; copy < given_.size(); copy++) {
    CopyRecord record = record_of(copy);
    set->add(given_[copy].directory, std::move(given_[copy].lock), record);
    if (!in_[copy] && given_[copy].unreadable)
      set->note(copy, record.reason, given_[copy].unreadable->what());
  }
  set->prefer(longest_);
  return set;
}

}  // namespace walmirror
