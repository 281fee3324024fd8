// What a power loss now would leave of a log, looked at again and again: recovered as an opening
// would, or from where the last look has ended.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "batch.h"
#include "memory_file_system.h"

namespace walmirror::simulated {

class DurableLog {
 public:
  /// Looks again if anything got onto the disk since; from the start where it is another disk, or
  /// after `forget`, or once in so many looks. Throws WAL_CORRUPT.
  void look(const std::shared_ptr<MemoryFileSystem>& files, const std::string& directory);
  /// What was found is not to be built on: the log may have been cut.
  void forget() { looked_at_ = nullptr; }

  uint64_t last_lsn() const { return ends_.empty() ? 0 : ends_.rbegin()->first; }
  /// The checksum of the batch that holds it, which tells all that is before it too.
  std::optional<uint32_t> checksum_of(uint64_t lsn) const;

 private:
  void look_at_all(const std::shared_ptr<FileSystem>& disk, const std::string& directory);
  void look_on(const std::shared_ptr<FileSystem>& disk, const std::string& directory);

  const void* looked_at_ = nullptr;
  std::string directory_;
  uint64_t changes_ = 0;
  uint32_t looks_ = 0;
  /// By the LSN of its last record: the checksum of each batch.
  std::map<uint64_t, uint32_t> ends_;
  Chain chain_;
};

}  // namespace walmirror::simulated
