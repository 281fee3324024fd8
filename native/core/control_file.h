// The control file: what a node must not forget (SAFETY 2.2, 6.3), in two checksummed copies.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "copy_set.h"
#include "file_system.h"
#include "types.h"

namespace walmirror {

struct Control {
  Id log_id{};
  uint64_t salt = 0;
  Id node_id{};
  uint64_t segment_bytes = 0;
  uint64_t max_record_bytes = 0;
  uint32_t align = 8;
  Role role = Role::kPrimary;
  bool clean = false;
  bool cut_under_way = false;
  uint64_t fork_position = 0;
  Term term;
  History history;
  Place watermark;
  Place commit;
  uint64_t start_position = kFirstBatch;  // where the oldest kept batch starts
  uint64_t start_lsn = 0;
  uint64_t wall_clock_us = 0;
  std::string name;
  std::string primary_name;
  std::string primary_address;
  uint64_t contact_us = 0;  // standby: when its primary was last heard of, 0 unknown
  /// Records that a cut removed though an application may have seen them, which has not been told
  /// yet; from 0: there are none.
  uint64_t rebuild_from = 0;
  uint64_t rebuild_to = 0;
  /// Last record of this log that is known to be committed by a quorum, under whichever rule, and
  /// the last that may be, under one that this rule took the place of. They never fall.
  uint64_t quorum_lsn = 0;
  uint64_t quorum_most_lsn = 0;
  /// The rule of the primary of this term; on a standby, as that primary told it.
  std::optional<Rule> rule;
  /// It is that of the last term in the history, whose records are judged by it, and not of `term`.
  /// Where `term` is of nobody yet (incarnation 0) and this is false, it is of the term before it,
  /// and the log has no opening of that.
  bool rule_of_earlier_term = false;
  /// Of a term that was heard of since, and that is not in the history, no rule was told.
  bool rule_untold = false;
  /// Some commits were acknowledged at a level below it.
  bool rule_undercut = false;
  /// Of the last term in the history nothing past `commit` was acknowledged, and nothing will be.
  bool commit_exact = false;
  Membership membership;
  Id own_copy{};  // of the directory that was read; each has its own

  void forget_rule() {
    rule.reset();
    rule_of_earlier_term = false;
    rule_untold = false;
    rule_undercut = false;
  }
};

class ControlFile {
 public:
  /// Writes both copies to a new file, which then appears whole or not at all.
  static std::unique_ptr<ControlFile> create(FileSystem& files, const std::string& directory,
                                             const Control& control);
  /// nullptr: there is no control file. One copy that cannot be read or does not verify is written
  /// anew from the other, durably, unless `read_only`. Throws WAL_CORRUPT where neither verifies,
  /// WAL_IO where that is for want of one that cannot be read, WAL_VERSION.
  static std::unique_ptr<ControlFile> open(FileSystem& files, const std::string& directory,
                                           bool read_only);

  /// The control files of all copies that are in, as one: `control` is the newest of them and has
  /// this sequence number. Each is written again in its own place; those that cannot be are
  /// dropped.
  static std::unique_ptr<ControlFile> open_all(std::shared_ptr<FileSystem> files,
                                               std::shared_ptr<CopySet> set, const Control& control,
                                               uint64_t sequence);

  enum class Copies { kOne, kBoth };

  /// Changes the content and stores it: to the older copy, or to both in turn; flushed on return.
  /// One at a time.
  void update(Copies copies, const std::function<void(Control&)>& change);

  /// As it was last stored. Waits for no store that is under way.
  Control current() const;
  uint64_t sequence() const { return sequence_; }

  /// Stores which copies are in, if that has changed since it was last stored.
  void store_membership();
  /// Lets a copy in that was filled: its own control file first, then those of the others (a copy
  /// that is named as in can always tell so itself).
  void join(size_t copy, const Id& id);

  /// Lets go of the file; what it said stays known.
  void close_file();

 private:
  ControlFile() = default;
  ControlFile(std::unique_ptr<File> file, std::string path)
      : file_(std::move(file)), path_(std::move(path)) {}
  /// Both copies in a new file, by that name first; it then takes the place of any that is there.
  static std::shared_ptr<File> write_new(FileSystem& files, const std::string& directory,
                                         const std::string& name, const Control& control,
                                         uint64_t sequence);
  /// The file of one of several directories, with both copies whole.
  static std::shared_ptr<File> open_whole(FileSystem& files, const std::string& directory);
  void load();
  void settle();
  void show();
  void store(Copies copies);
  void write_copy();
  void write_all(const Control& control, uint64_t sequence);

  std::shared_ptr<File> file_;
  std::string path_;
  std::shared_ptr<FileSystem> system_;        // with several copies
  std::shared_ptr<CopySet> set_;              // nullptr: one directory
  std::vector<std::shared_ptr<File>> files_;  // of the copies
  mutable std::mutex mutex_;
  Control control_;
  uint64_t sequence_ = 0;
  bool bad_copy_ = false;  // the other copy than the one that was read is to be written anew
  mutable std::mutex shown_mutex_;
  Control shown_;
};

}  // namespace walmirror
