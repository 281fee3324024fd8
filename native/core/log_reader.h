// Reads a log directory without its lock and without changing a byte: for dump, verify and status.
#pragma once

#include <memory>

#include "recovery.h"

namespace walmirror {

struct VerifyReport {
  Place start;
  Place end;
  Term term;
  uint64_t batches = 0;
  uint64_t records = 0;
  uint64_t bytes = 0;
  std::optional<WalFailure> damage;
};

/// Not thread-safe: one call at a time. Throws WalFailure.
class LogReader {
 public:
  static std::unique_ptr<LogReader> open(const std::string& directory,
                                         std::shared_ptr<FileSystem> files);

  Control control() const { return control_; }
  bool direct() const { return segments_->direct(); }
  size_t segment_count() const { return segments_->count(); }
  /// The end of the valid log on disk now. A process may be writing: what it has flushed is seen.
  Place refresh();
  ReadOutcome read_into(uint8_t* buffer, uint64_t size, uint64_t from, uint64_t up_to);
  uint64_t locate(uint64_t lsn);
  /// Checks every byte of the log. Damage is reported, not thrown.
  VerifyReport verify();

 private:
  void load();

  std::string directory_;
  std::shared_ptr<FileSystem> files_;
  Control control_;
  LogIdentity identity_;
  std::unique_ptr<Segments> segments_;
  Place end_;
};

}  // namespace walmirror
