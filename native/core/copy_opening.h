// Opening a log that has several directories: which of them is the log (SAFETY 7.2).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control_file.h"
#include "recovery.h"

namespace walmirror {

class CopyFiller;

/// What a directory was found to hold.
struct GivenCopy {
  std::string directory;
  bool exists = false;
  std::unique_ptr<DirectoryLock> lock;
  std::optional<Control> control;
  uint64_t sequence = 0;
  std::optional<WalFailure> unreadable;
};

/// A failure of the directory itself, and not of how it is used.
bool is_of_the_disk(const WalFailure& failure);

/// Takes the lock of a directory that holds something. Throws for what is no copy of any log, for
/// one that is locked, and for one that others may write.
GivenCopy look_at_copy(FileSystem& files, const std::string& directory);

/// Throws WAL_CORRUPT where segments are there without a control file, WAL_NOT_A_LOG for anything
/// else. `is_copy`: it is to be filled from others, so that what lies beside a log may be there:
/// the snapshots of the application, tails that were set aside. No new log is begun over them.
void refuse_other_files(FileSystem& files, const std::string& directory, bool is_copy);

/// Whether `other` holds nothing that the line of `newest` lacks: it says itself that a copy which
/// is in there was in when it was last told, or its generation is one that the newest followed.
bool is_stale(const Membership& newest, const Membership& other);

/// Throws WAL_COPY_MISSING, naming the copies of this membership that are in and not among `given`,
/// nor accepted as missing. True: some are accepted, and a generation without them is to be stored.
bool require_copies(const Membership& membership, const std::vector<Id>& given,
                    const std::vector<std::string>& accepted);

class CopyOpening {
 public:
  CopyOpening(std::shared_ptr<FileSystem> files, std::vector<std::string> directories,
              std::vector<std::string> accepted);

  /// Whether no directory holds anything. Throws where one does, and cannot be read.
  bool fresh() const;
  /// To create the log in the first directory; then `created`.
  std::unique_ptr<DirectoryLock> lock_first();
  void created();

  /// Decides by the control files. Throws WAL_COPY_MISSING, WAL_COPY_SPLIT, WAL_NOT_A_LOG.
  void choose();
  /// The newest of those that count.
  const Control& control() const { return *given_[newest_].control; }
  /// After `level`: the newest, with the watermark that the bytes of each copy that is in are known
  /// by. What lies above may be in a cache of one of them, and is written again (SAFETY 5.4).
  Control known_of_all() const;
  uint64_t sequence() const { return given_[newest_].sequence; }

  /// Finds the end of each copy that is in, and brings the others to the longest. One that is
  /// damaged is out, also the longest, where another needs of it what does not verify. Throws the
  /// first one's failure where none is good, or too few are to hold all that was acknowledged.
  void level(uint64_t reach);
  std::shared_ptr<CopySet> make_set(std::chrono::milliseconds lag_limit, uint32_t quorum,
                                    uint64_t most_behind);

 private:
  void choose_line();
  bool not_in_force(const Membership& line) const;
  bool may_open(const Membership& line) const;
  const GivenCopy* apart_from(size_t copy) const;
  bool is_accepted(const std::string& directory) const;
  void refuse_foreign() const;
  bool was_ours(const GivenCopy& copy) const;
  std::vector<Id> given_in() const;
  Control own_control(size_t copy) const;
  std::unique_ptr<Segments> load(size_t copy, uint64_t start) const;
  EndOfLog find_ends(uint64_t reach);
  const WalFailure* first_failure() const;
  void require_all_known();
  void take_out(size_t copy, const WalFailure& failure);
  bool level_all(const EndOfLog& end);
  void level_one(CopyFiller& filler, const EndOfLog& end, size_t copy);
  CopyRecord record_of(size_t copy) const;
  CopyRecord record_of_out(const GivenCopy& copy, CopyRecord record) const;

  std::shared_ptr<FileSystem> files_;
  std::vector<std::string> accepted_;
  std::vector<GivenCopy> given_;
  std::vector<bool> in_;
  bool some_accepted_ = false;
  size_t newest_ = 0;
  size_t longest_ = 0;
  std::vector<uint64_t> durable_;  // up to where each is known to be on stable storage
  LogIdentity identity_;
};

}  // namespace walmirror
