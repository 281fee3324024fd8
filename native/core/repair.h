// Writes anew what of a closed log does not verify, from bytes that do: from another copy, from a
// peer or, where it follows from the log, from the log itself.
//
// Nothing is written before all that takes the place of a damaged part was read and verified: it
// continues what is whole before it, batch by batch, and what is whole behind it continues it. Only
// right bytes are ever written, in place, so that a crash leaves a part repaired and the rest as
// damaged as it was; repairing again goes on from there.
#pragma once

#include "scrub.h"

namespace walmirror {

/// Where verified bytes may come from. They are verified by whoever asks, whatever it is.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  /// For messages.
  virtual std::string name() const = 0;
  /// Bytes from the batch boundary `from`, within its segment: `available` of them, at least `need`
  /// where it has so many. Valid until the next call. Throws WalFailure where it has none.
  virtual const uint8_t* view(uint64_t from, uint64_t need, uint64_t& available) = 0;
};

/// Another directory with a copy of the same log: a mirror's, a standby's, a primary's. It is only
/// read; a process may have it open.
class DirectorySource : public BatchSource {
 public:
  /// Throws WAL_NOT_A_LOG where it holds another log, WAL_NOT_FOUND.
  DirectorySource(std::shared_ptr<FileSystem> files, const std::string& directory,
                  const Control& control);

  std::string name() const override { return directory_; }
  const uint8_t* view(uint64_t from, uint64_t need, uint64_t& available) override;

 private:
  std::string directory_;
  LogIdentity identity_;
  std::unique_ptr<SegmentFiles> segments_;
  AlignedBuffer buffer_;
  uint64_t from_ = 0;
  uint64_t size_ = 0;
};

struct RepairOptions {
  std::string directory;
  bool dry_run = false;
  /// May be nullptr: then only what follows from the log itself can be repaired.
  BatchSource* source = nullptr;
  /// How far reading the log is, of how far. False: stop.
  std::function<bool(uint64_t position, uint64_t of)> progress;
};

struct RepairedRange {
  DamagedRange range;
  /// Dry run: it could be.
  bool repaired = false;
  /// Why not.
  std::string reason;
};

struct RepairReport {
  ScrubReport before;
  /// One for each damaged range that `before` tells of.
  std::vector<RepairedRange> ranges;
  uint64_t written_bytes = 0;
};

/// Holds the directory's lock meanwhile. Throws WAL_LOCKED, WAL_CORRUPT for a control file of which
/// no copy verifies; Scrub::Stopped.
RepairReport repair_directory(std::shared_ptr<FileSystem> files, const RepairOptions& options);

}  // namespace walmirror
