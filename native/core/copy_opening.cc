#include "copy_opening.h"

#include <algorithm>

#include "advice.h"
#include "copy_filler.h"
#include "planted.h"
#include "random.h"

namespace walmirror {
namespace {

bool is_ours(const std::string& name) {
  return name == "lock" || name == "control" || name == "control.new" || name == "control.join" ||
         name == "control.sock" || name == "slots" || name == "slots.new" ||
         name.ends_with(".wal") || name.ends_with(".wal.new") || name.ends_with(".spare");
}

/// What is there beside a log: the application's snapshots, tails that were set aside.
bool is_beside_a_log(const std::string& name) {
  return name == "snapshots" || name.ends_with(".diverged") || name.ends_with(".diverged.new");
}

}  // namespace

bool is_of_the_disk(const WalFailure& failure) {
  return failure.code == "WAL_IO" || failure.code == "WAL_NO_SPACE" ||
         failure.code == "WAL_CORRUPT";
}

void refuse_other_files(FileSystem& files, const std::string& directory, bool is_copy) {
  for (const std::string& name : files.list(directory)) {
    // Before the control file is there, a crashed creation leaves only spares.
    if (name.ends_with(".wal")) {
      throw WalFailure("WAL_CORRUPT", directory + "/control is missing beside segments")
          .at(directory + "/control", 0, 0)
          .advise(kRestoreControl);
    }
    if (!is_ours(name) && !(is_copy && is_beside_a_log(name))) {
      throw WalFailure("WAL_NOT_A_LOG", directory + " holds other files: " + name)
          .advise("Use an empty directory, or one that holds a log.");
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
    if (!controlled) refuse_other_files(files, directory, true);
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
  size_t in = membership.count_in();
  for (const CopyRecord& copy : membership.copies) {
    if (copy.state != CopyState::kIn) continue;
    if (std::find(given.begin(), given.end(), copy.id) != given.end()) continue;
    bool said = std::any_of(accepted.begin(), accepted.end(),
                            [&](const auto& path) { return recorded_path(path) == copy.path; });
    if (said) {
      some_accepted = true;
    } else {
      missing += (missing.empty() ? "" : ", ") + copy.path;
    }
  }
  if (missing.empty()) return some_accepted;
  size_t needed = copies_to_open(in, membership.quorum);
  std::string enough = needed == in ? ""
                                    : "; " + std::to_string(needed) + " of the " +
                                          std::to_string(in) + " are enough (mirrorQuorum " +
                                          std::to_string(membership.quorum) + ")";
  throw WalFailure("WAL_COPY_MISSING",
                   "the log has copies that are not given or cannot be read: " + missing +
                       ". They may have gone on without the others" + enough);
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
  // By its own words: an option that was forgotten makes nothing safe (SAFETY 7.2).
  if (!may_open(membership)) some_accepted_ = require_copies(membership, given_in(), accepted_);
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
                                            " are the same copy: one of them was copied by hand")
          .advise("Empty one of the two: it is filled from the other.");
    }
  }
}

/// The newest generation that was in force, leaves out nothing that another line may hold, and is
/// there as far as it has to be; or the newest that is not there as far, to say what is missing.
void CopyOpening::choose_line() {
  std::vector<size_t> order;
  for (size_t i = 0; i < given_.size(); i++) {
    if (given_[i].control) order.push_back(i);
  }
  std::sort(order.begin(), order.end(), [this](size_t a, size_t b) {
    uint64_t of_a = given_[a].control->membership.generation;
    uint64_t of_b = given_[b].control->membership.generation;
    return of_a != of_b ? of_a > of_b : a < b;
  });
  std::optional<size_t> chosen;
  std::string apart;
  for (size_t i : order) {
    const Membership& line = given_[i].control->membership;
    if (not_in_force(line)) continue;
    if (const GivenCopy* other = apart_from(i)) {
      if (apart.empty()) apart = given_[i].directory + " and " + other->directory;
      continue;
    }
    bool there = may_open(line);
    if (!chosen || there) chosen = i;
    if (there) break;
  }
  if (!chosen) {
    throw WalFailure("WAL_COPY_SPLIT",
                     apart +
                         " may both hold records that the other lacks: each was used without the "
                         "other");
  }
  newest_ = *chosen;
  const Membership line = given_[newest_].control->membership;
  for (size_t copy = 0; copy < given_.size(); copy++) {
    if (!given_[copy].control || !line.has_in(given_[copy].control->own_copy)) continue;
    if (given_[copy].sequence > given_[newest_].sequence &&
        given_[copy].control->membership.same_line(line)) {
      newest_ = copy;
    }
  }
}

/// One that is in by this line has gone on to another, which this line does not follow. So it is
/// over, or it never was in force: nothing is acknowledged in a generation before all that are in
/// have stored it.
bool CopyOpening::not_in_force(const Membership& line) const {
  return std::any_of(given_.begin(), given_.end(), [&](const GivenCopy& copy) {
    return copy.control && line.has_in(copy.control->own_copy) &&
           !copy.control->membership.same_line(line) && !line.follows(copy.control->membership);
  });
}

/// Whether all of it are there; or as many as its quorum asks for, that were told of it: those that
/// were not may be opened without it.
bool CopyOpening::may_open(const Membership& line) const {
  size_t given = 0;
  size_t told = 0;
  for (const GivenCopy& copy : given_) {
    if (!copy.control || !line.has_in(copy.control->own_copy)) continue;
    given++;
    if (copy.control->membership.same_line(line)) told++;
  }
  return given == line.count_in() || told >= copies_to_open(line.count_in(), line.quorum);
}

const GivenCopy* CopyOpening::apart_from(size_t i) const {
  const Membership& line = given_[i].control->membership;
  auto other = std::find_if(given_.begin(), given_.end(), [&](const GivenCopy& copy) {
    return copy.control && &copy != &given_[i] &&
           !(line.generation > 0 && copy.control->membership.same_line(line)) &&
           !is_stale(line, copy.control->membership);
  });
  return other == given_.end() ? nullptr : &*other;
}

bool CopyOpening::is_accepted(const std::string& directory) const {
  return std::any_of(accepted_.begin(), accepted_.end(), [&](const std::string& path) {
    return recorded_path(path) == recorded_path(directory);
  });
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

/// What this copy itself knows of its bytes: one that was behind knows less than the newest does
/// (SAFETY 6.2).
Control CopyOpening::own_control(size_t copy) const {
  const Control& newest = control();
  if (PLANTED(levelled_by_the_newest)) return newest;
  Control own = *given_[copy].control;
  if (!newest.cut_under_way) return own;
  own.cut_under_way = true;
  own.fork_position = newest.fork_position;
  if (newest.watermark.position < own.watermark.position) own.watermark = newest.watermark;
  return own;
}

Control CopyOpening::known_of_all() const {
  Control all = control();
  for (size_t copy = 0; copy < given_.size(); copy++) {
    if (!in_[copy]) continue;
    const Control own = own_control(copy);
    all.clean = all.clean && own.clean;
    if (own.watermark.position < all.watermark.position) all.watermark = own.watermark;
  }
  if (all.watermark.position < all.start_position)
    all.watermark = {all.start_position, all.start_lsn, 0};
  return all;
}

std::unique_ptr<Segments> CopyOpening::load(size_t copy, uint64_t start) const {
  auto segments = std::make_unique<Segments>(files_, given_[copy].directory, identity_, false);
  segments->load(start);
  return segments;
}

/// Returns the longest, which is `longest_`. Those that are damaged are out.
EndOfLog CopyOpening::find_ends(uint64_t reach) {
  std::optional<EndOfLog> longest;
  durable_.assign(given_.size(), 0);
  for (size_t copy = 0; copy < given_.size(); copy++) {
    if (!in_[copy]) continue;
    try {
      Control own = own_control(copy);
      EndOfLog end = find_end(identity_, *load(copy, own.start_position), own, reach, false);
      durable_[copy] = end.durable;
      if (longest && end.chain.position <= longest->chain.position) continue;
      longest = end;
      longest_ = copy;
    } catch (const WalFailure& failure) {
      if (!is_of_the_disk(failure)) throw;
      take_out(copy, failure);
    }
  }
  if (!longest) throw *first_failure();
  require_all_known();
  return *longest;
}

void CopyOpening::take_out(size_t copy, const WalFailure& failure) {
  given_[copy].unreadable = failure;
  in_[copy] = false;
}

/// Of one that was in when it was chosen.
const WalFailure* CopyOpening::first_failure() const {
  for (const GivenCopy& copy : given_) {
    if (copy.control && copy.unreadable) return &*copy.unreadable;
  }
  return nullptr;
}

/// With a quorum, what was acknowledged may be on those only that turned out to be damaged.
void CopyOpening::require_all_known() {
  const Membership& membership = control().membership;
  std::vector<Id> good = given_in();
  if (first_failure() == nullptr ||
      good.size() >= copies_to_know_all(membership.count_in(), membership.quorum)) {
    return;
  }
  for (const GivenCopy& copy : given_) {
    if (copy.control && copy.unreadable && membership.has_in(copy.control->own_copy) &&
        !is_accepted(copy.directory)) {
      throw *copy.unreadable;
    }
  }
  some_accepted_ = require_copies(membership, good, accepted_) || some_accepted_;
}

void CopyOpening::level(uint64_t reach) {
  const Control& newest = control();
  identity_ = {newest.log_id, newest.salt, newest.segment_bytes, newest.align};
  while (!level_all(find_ends(reach))) continue;
}

/// False: the longest is out. What it holds above its own watermark verifies, but another may lack
/// what is below: then it is the next longest that has all (SAFETY 7.2). Nothing acknowledged is
/// only on the one that goes: `find_ends` asks for as many others as hold all of it.
bool CopyOpening::level_all(const EndOfLog& end) {
  const Control& newest = control();
  std::unique_ptr<Segments> source;
  try {
    source = load(longest_, newest.start_position);
  } catch (const WalFailure& failure) {
    // It has failed since its end was found: the next longest is asked for.
    if (!is_of_the_disk(failure) || PLANTED(failed_longest_refused)) throw;
    take_out(longest_, failure);
    const Membership& known = newest.membership;
    if (!some_accepted_ && given_in().size() < copies_to_go_on(known.count_in(), known.quorum))
      throw;
    return false;
  }
  for (size_t copy = 0; copy < given_.size(); copy++) {
    if (!in_[copy] || copy == longest_) continue;
    CopyFiller filler(*files_, given_[longest_].directory, *source, identity_, *files_,
                      given_[copy].directory);
    try {
      level_one(filler, end, copy);
    } catch (const WalFailure& failure) {
      if (filler.source_failed()) {
        take_out(longest_, failure);
        return false;
      }
      if (!is_of_the_disk(failure)) throw;
      take_out(copy, failure);
      const Membership& known = newest.membership;
      size_t least = copies_to_go_on(known.count_in(), known.quorum);
      if (!some_accepted_ && given_in().size() < least) throw;
    }
  }
  return true;
}

/// Up to the watermark it has all; from there on it gets what the longest has.
void CopyOpening::level_one(CopyFiller& filler, const EndOfLog& end, size_t copy) {
  filler.match_files();
  uint64_t from = std::min(own_control(copy).watermark.position, end.chain.position);
  from = std::max(from, control().start_position);
  filler.keep_proofs_true(control().node_id, std::max(from, durable_[copy]));
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
    record.reason = is_accepted(copy.directory) ? OutReason::kAccepted : OutReason::kMissing;
  } else if (!copy.exists && record.reason != OutReason::kNew) {
    record.reason = OutReason::kMissing;
  }
  return record;
}

std::shared_ptr<CopySet> CopyOpening::make_set(std::chrono::milliseconds lag_limit, uint32_t quorum,
                                               uint64_t most_behind) {
  auto set = std::make_shared<CopySet>(lag_limit, quorum, most_behind);
  for (size_t copy = 0; copy < given_.size(); copy++) {
    CopyRecord record = record_of(copy);
    set->add(given_[copy].directory, std::move(given_[copy].lock), record);
    if (!in_[copy] && given_[copy].unreadable)
      set->note(copy, record.reason, given_[copy].unreadable->what());
  }
  set->begin_with(control().membership, some_accepted_);
  set->prefer(longest_);
  return set;
}

}  // namespace walmirror
