// What tests of Log share: small options, an appending owner, and reading everything back.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "log.h"
#include "memory_file_system.h"
#include "test.h"

namespace walmirror::test {

LogOptions small_options(const std::string& directory = "d");

/// Bytes that no other (seed, LSN) gives; the length varies too.
std::string record_of(uint64_t seed, uint64_t lsn, uint64_t most = 300);

/// The owner of a log, as JavaScript would be.
class Owner {
 public:
  Owner(const LogOptions& options, std::shared_ptr<FileSystem> files);

  Log& log() { return *log_; }
  Log* operator->() { return log_.get(); }

  /// Opens the next term of this node and waits for its opening to be flushed.
  void open_term();
  void open_term(const Term& next);
  /// Returns its LSN; waits while the ring is full.
  uint64_t append(const std::string& data);
  void close_batch();
  /// Waits until all that is closed is flushed, or throws the log's failure.
  void settle();
  /// Waits a moment for news, or throws the log's failure. Throws too where there is none for long.
  void wait_for_progress();
  /// Ends the log without an orderly close, as well as that can be done within a process.
  void drop() { log_.reset(); }

 private:
  std::mutex mutex_;
  std::condition_variable moved_;
  uint64_t news_ = 0;
  int waits_without_news_ = 0;
  std::unique_ptr<Log> log_;
  uint64_t payload_ = 0;
  uint32_t count_ = 0;
};

struct Found {
  uint64_t first_lsn = 1;
  std::vector<std::string> records;
  /// Each opening of a term that is in the log is in its history, and nothing else is but what was
  /// trimmed.
  bool history_is_that_of_its_batches = false;
  uint64_t last_lsn() const { return first_lsn + records.size() - 1; }
};

/// All records from the start of the log to its flushed end, read and checked batch by batch.
Found read_all(Log& log);
/// The log's bytes from `from` to its flushed end, as read for a peer.
std::string read_bytes(Log& log, uint64_t from);

}  // namespace walmirror::test
