#include "control_file.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "advice.h"
#include "control_block.h"
#include "crc32c.h"
#include "planted.h"

namespace walmirror {
namespace {

void put_text(char* field, size_t size, const std::string& text) {
  std::memset(field, 0, size);
  std::memcpy(field, text.data(), std::min(text.size(), size - 1));
}

std::string get_text(const char* field, size_t size) {
  return std::string(field, strnlen(field, size));
}

void put_membership(const Membership& membership, ControlBlock& block) {
  block.generation = membership.generation;
  block.copies = static_cast<uint32_t>(membership.copies.size());
  block.quorum = membership.quorum;
  std::copy(membership.tags.begin(), membership.tags.end(), block.generation_tags);
  for (size_t i = 0; i < membership.copies.size(); i++) {
    const CopyRecord& copy = membership.copies[i];
    DiskCopy& disk = block.copy[i];
    disk.id = copy.id;
    disk.state = static_cast<uint32_t>(copy.state);
    disk.reason = static_cast<uint16_t>(copy.reason);
    disk.error = copy.error;
    disk.since_us = copy.since_us;
    put_text(disk.path, sizeof disk.path, copy.path);
  }
}

Membership get_membership(const ControlBlock& block) {
  Membership membership;
  membership.generation = block.generation;
  membership.quorum = block.quorum;
  std::copy_n(block.generation_tags, kGenerationTags, membership.tags.begin());
  for (uint32_t i = 0; i < block.copies; i++) {
    const DiskCopy& disk = block.copy[i];
    membership.copies.push_back({disk.id, static_cast<CopyState>(disk.state),
                                 static_cast<OutReason>(disk.reason), disk.error, disk.since_us,
                                 get_text(disk.path, sizeof disk.path)});
  }
  return membership;
}

bool usable_copies(const ControlBlock& block) {
  if (block.copies > kMaxCopies || (block.generation == 0 && block.copies != 0)) return false;
  if (block.quorum > kMaxCopies || (block.generation == 0 && block.quorum != 0)) return false;
  for (uint32_t i = 0; i < block.copies; i++) {
    uint32_t state = block.copy[i].state;
    if (state != static_cast<uint32_t>(CopyState::kIn) &&
        state != static_cast<uint32_t>(CopyState::kOut)) {
      return false;
    }
  }
  return true;
}

Control decode(const ControlBlock& block) {
  Control control;
  control.log_id = block.log_id;
  control.salt = block.salt;
  control.node_id = block.node_id;
  control.segment_bytes = block.segment_bytes;
  control.max_record_bytes = block.max_record_bytes;
  control.align = block.align;
  control.role = static_cast<Role>(block.role);
  control.clean = (block.flags & kControlClean) != 0;
  control.cut_under_way = (block.flags & kControlCutUnderWay) != 0;
  control.commit_exact = (block.flags & kControlCommitExact) != 0;
  control.fork_position = block.fork_position;
  control.term = {block.epoch, block.opener, block.incarnation};
  control.watermark = {block.watermark_position, block.watermark_lsn, block.watermark_crc};
  control.commit = {block.commit_position, block.commit_lsn, 0};
  control.start_position = block.start_position;
  control.start_lsn = block.start_lsn;
  control.wall_clock_us = block.wall_clock_us;
  control.name = get_text(block.name, sizeof block.name);
  control.primary_name = get_text(block.primary_name, sizeof block.primary_name);
  control.primary_address = get_text(block.primary_address, sizeof block.primary_address);
  control.contact_us = block.contact_us;
  control.rebuild_from = block.rebuild_from;
  control.rebuild_to = block.rebuild_to;
  control.quorum_lsn = block.quorum_lsn;
  control.quorum_most_lsn = block.quorum_most_lsn;
  if (block.rule_level != 0) {
    const Id* ids = block.rule_member_ids;
    control.rule = Rule{static_cast<CommitLevel>(block.rule_level),
                        get_text(block.rule_standbys, sizeof block.rule_standbys),
                        {ids, ids + block.rule_members},
                        (block.rule_flags & kRuleDegraded) != 0};
    control.rule_of_earlier_term = (block.rule_flags & kRuleOfEarlierTerm) != 0;
    control.rule_untold = (block.rule_flags & kRuleUntold) != 0;
    control.rule_undercut = (block.rule_flags & kRuleUndercut) != 0;
  }
  control.membership = get_membership(block);
  control.own_copy = block.own_copy;
  for (uint32_t i = 0; i < block.history_entries; i++) {
    const DiskHistoryEntry& entry = block.history[i];
    control.history.push_back(
        {{entry.epoch, entry.opener, entry.incarnation}, entry.position, entry.lsn});
  }
  return control;
}

/// A copy whose checksum is right is trusted for its content, but not for what this code would
/// divide by.
bool usable(const ControlBlock& block) {
  return block.history_entries <= kMaxHistory && block.segment_bytes >= 2 * kBlock &&
         block.segment_bytes % kBlock == 0 && (block.align == 8 || block.align == kBlock) &&
         block.role >= 1 && block.role <= 3 && block.rule_level <= 5 &&
         block.rule_members <= kMaxMembers && usable_copies(block);
}

}  // namespace

void encode_control(const Control& control, uint64_t sequence, uint8_t* out) {
  ControlBlock block{};
  block.magic = kControlMagic;
  block.version = kFormatVersion;
  block.align = control.align;
  block.sequence = sequence;
  block.log_id = control.log_id;
  block.salt = control.salt;
  block.node_id = control.node_id;
  block.segment_bytes = control.segment_bytes;
  block.max_record_bytes = control.max_record_bytes;
  block.role = static_cast<uint32_t>(control.role);
  block.flags = (control.clean ? kControlClean : 0) |
                (control.cut_under_way ? kControlCutUnderWay : 0) |
                (control.commit_exact ? kControlCommitExact : 0);
  block.epoch = control.term.epoch;
  block.opener = control.term.opener;
  block.incarnation = control.term.incarnation;
  block.watermark_position = control.watermark.position;
  block.watermark_lsn = control.watermark.lsn;
  block.watermark_crc = control.watermark.crc;
  block.commit_position = control.commit.position;
  block.commit_lsn = control.commit.lsn;
  block.start_position = control.start_position;
  block.start_lsn = control.start_lsn;
  block.fork_position = control.fork_position;
  block.wall_clock_us = control.wall_clock_us;
  put_text(block.name, sizeof block.name, control.name);
  put_text(block.primary_name, sizeof block.primary_name, control.primary_name);
  put_text(block.primary_address, sizeof block.primary_address, control.primary_address);
  block.contact_us = control.contact_us;
  block.rebuild_from = control.rebuild_from;
  block.rebuild_to = control.rebuild_to;
  block.quorum_lsn = control.quorum_lsn;
  block.quorum_most_lsn = control.quorum_most_lsn;
  if (control.rule) {
    const Rule& rule = *control.rule;
    block.rule_level = static_cast<uint32_t>(rule.level);
    block.rule_members = static_cast<uint32_t>(rule.members.size());
    std::copy(rule.members.begin(), rule.members.end(), block.rule_member_ids);
    block.rule_flags = (rule.degraded ? kRuleDegraded : 0) |
                       (control.rule_of_earlier_term ? kRuleOfEarlierTerm : 0) |
                       (control.rule_undercut ? kRuleUndercut : 0) |
                       (control.rule_untold ? kRuleUntold : 0);
    put_text(block.rule_standbys, sizeof block.rule_standbys, rule.standbys);
  }
  size_t first = control.history.size() > kMaxHistory ? control.history.size() - kMaxHistory : 0;
  block.history_entries = static_cast<uint32_t>(control.history.size() - first);
  for (size_t i = first; i < control.history.size(); i++) {
    const HistoryEntry& entry = control.history[i];
    block.history[i - first] = {entry.term.epoch, entry.term.opener, entry.term.incarnation, 0,
                                entry.position,   entry.lsn};
  }
  put_membership(control.membership, block);
  block.own_copy = control.own_copy;
  std::memset(out, 0, kControlCopyBytes);
  std::memcpy(out, &block, sizeof block);
  seal_control(out);
}

void seal_control(uint8_t* copy) {
  uint32_t crc = crc32c(0, copy + 8, kControlCopyBytes - 8);
  std::memcpy(copy + offsetof(ControlBlock, crc), &crc, sizeof crc);
}

std::unique_ptr<ControlFile> ControlFile::create(FileSystem& files, const std::string& directory,
                                                 const Control& control) {
  write_new(files, directory, "control.new", control, 1);
  return open(files, directory, false);
}

std::shared_ptr<File> ControlFile::write_new(FileSystem& files, const std::string& directory,
                                             const std::string& name, const Control& control,
                                             uint64_t sequence) {
  std::string fresh = directory + "/" + name;
  files.remove(fresh);
  std::shared_ptr<File> file = files.open(fresh, OpenMode::kCreate, true);
  AlignedBuffer both(2 * kControlCopyBytes);
  for (uint64_t next = sequence; next < sequence + 2; next++) {
    encode_control(control, next, both.data() + ((next - 1) % 2) * kControlCopyBytes);
  }
  Slice slice{both.data(), 2 * kControlCopyBytes};
  file->write(0, &slice, 1, true);
  files.rename(fresh, directory + "/control");
  files.sync_directory(directory);
  return file;
}

std::unique_ptr<ControlFile> ControlFile::open(FileSystem& files, const std::string& directory,
                                               bool read_only) {
  std::string path = directory + "/control";
  if (!files.exists(path)) return nullptr;
  auto file = files.open(path, read_only ? OpenMode::kRead : OpenMode::kReadWrite, true);
  std::unique_ptr<ControlFile> control(new ControlFile(std::move(file), path));
  control->load();
  if (PLANTED(bad_control_is_none) && control->sequence_ == 0) return nullptr;
  if (!read_only) control->settle();
  return control;
}

/// Each copy is read by itself, so that one that the disk does not give takes nothing from the
/// other. The bad one may have been the newer, by a watermark, a commit place or a last contact:
/// those alone are stored on one copy. What was told to anybody is on both (SAFETY 2.2), so the
/// copy that is left is believed.
void ControlFile::load() {
  AlignedBuffer bytes(kControlCopyBytes);
  std::optional<WalFailure> unreadable;
  bool newer_format = false;
  for (uint64_t copy = 0; copy < 2; copy++) {
    std::memset(bytes.data(), 0, kControlCopyBytes);
    try {
      file_->read(copy * kControlCopyBytes, bytes.data(), kControlCopyBytes);
    } catch (const WalFailure& failure) {
      if (PLANTED(bad_control_copy_refused)) throw;
      unreadable = failure;
    }
    ControlBlock block;
    std::memcpy(&block, bytes.data(), sizeof block);
    bool whole = block.magic == kControlMagic &&
                 block.crc == crc32c(0, bytes.data() + 8, kControlCopyBytes - 8);
    bool other_format = whole && block.version != kFormatVersion;
    newer_format = newer_format || other_format;
    if (!whole || other_format || !usable(block)) {
      bad_copy_ = true;
    } else if (block.sequence > sequence_) {
      sequence_ = block.sequence;
      control_ = decode(block);
    }
  }
  if (newer_format)
    throw WalFailure("WAL_VERSION", path_ + " was written by another format version")
        .at(path_, 0, 0);
  show();
  if (sequence_ != 0 || PLANTED(bad_control_is_none)) return;
  // It may be there at another attempt: no reason to go back to a backup.
  if (unreadable) throw *unreadable;
  throw WalFailure("WAL_CORRUPT", "neither copy in " + path_ + " verifies")
      .at(path_, 0, 0)
      .advise(kRestoreControl);
}

/// At no time both copies are in doubt. A process that was killed while it wrote may have left the
/// newest in a cache only: it is written again in its own place, while the other is whole. Where
/// the other is bad, that one is written instead, as the newest: a power loss meanwhile leaves the
/// one that was read.
void ControlFile::settle() {
  if (bad_copy_) {
    if (!PLANTED(bad_control_copy_kept)) write_copy();
    bad_copy_ = false;
  } else if (!PLANTED(control_in_a_cache_believed)) {
    sequence_--;
    write_copy();
  }
}

void ControlFile::write_copy() {
  // Copies alternate by the parity of their sequence, so that the newer one is never overwritten.
  if (set_ != nullptr) {
    write_all(control_, sequence_ + 1);
  } else {
    AlignedBuffer copy(kControlCopyBytes);
    encode_control(control_, sequence_ + 1, copy.data());
    Slice slice{copy.data(), kControlCopyBytes};
    uint64_t copy_number = PLANTED(newest_control_overwritten) ? 0 : sequence_ % 2;
    file_->write(copy_number * kControlCopyBytes, &slice, 1, true);
  }
  sequence_++;
}

void ControlFile::update(Copies copies, const std::function<void(Control&)>& change) {
  std::lock_guard<std::mutex> guard(mutex_);
  change(control_);
  store(copies);
}

/// With mutex_ held. A directory that fails is dropped, and the others are told in the same call.
void ControlFile::store(Copies copies) {
  if (set_ == nullptr) {
    write_copy();
    if (copies == Copies::kBoth) write_copy();
    show();
    return;
  }
  for (;;) {
    uint64_t version = set_->version();
    uint64_t generation = control_.membership.generation;
    set_->record(control_.membership);
    if (control_.membership.generation != generation) copies = Copies::kBoth;
    write_copy();
    if (copies == Copies::kBoth) write_copy();
    if (set_->stored(version)) break;
  }
  show();
}

void ControlFile::show() {
  std::lock_guard<std::mutex> guard(shown_mutex_);
  shown_ = control_;
}

void ControlFile::store_membership() {
  std::lock_guard<std::mutex> guard(mutex_);
  if (!set_->all_stored()) store(Copies::kBoth);
}

void ControlFile::close_file() {
  std::lock_guard<std::mutex> guard(mutex_);
  file_.reset();
  for (auto& file : files_) file.reset();
}

Control ControlFile::current() const {
  std::lock_guard<std::mutex> guard(shown_mutex_);
  return shown_;
}

}  // namespace walmirror
