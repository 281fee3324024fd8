// Several directories that look like one to the log: what changes it goes to every copy that is in,
// and is done when it is done on all of them (SAFETY 7.1). Reads come from one.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <vector>

#include "copy_set.h"
#include "file_system.h"

namespace walmirror {

/// Thread-safe. A call that changes something returns when each copy that is in has done it, and
/// those that have not are dropped and that is stored. Writes of batches return when the quorum has
/// done them. It throws where no copy has done it. A copy that is behind is not read.
class Mirror : public FileSystem {
 public:
  /// Paths begin with `directory`, which stands for that of each copy.
  Mirror(std::shared_ptr<FileSystem> files, std::shared_ptr<CopySet> set, std::string directory);

  bool prepare_directory(const std::string&, bool) override { return true; }
  std::unique_ptr<DirectoryLock> lock(const std::string& path) override;
  std::unique_ptr<File> open(const std::string& path, OpenMode mode, bool direct) override;
  bool exists(const std::string& path) override;
  void rename(const std::string& from, const std::string& to) override;
  void remove(const std::string& path) override;
  void sync_directory(const std::string& path) override;
  std::vector<std::string> list(const std::string& path) override;

  /// While it is held, no other call changes anything: to let a copy in.
  std::unique_lock<std::shared_mutex> hold() { return std::unique_lock(joins_); }
  /// Closes what is open of a copy that is out: files that were removed take room until then.
  void let_go(size_t copy);
  /// Makes a call of one's own for this path in each copy, as those that change something are made.
  /// It owns all that it uses.
  void in_each(const std::string& path,
               const std::function<void(FileSystem&, const std::string&)>& call);
  std::string path_in(size_t copy, const std::string& path) const;

 private:
  friend class MirroredFile;
  struct Handles;

  void run(const std::function<void(size_t)>& call);
  void run_batch(uint64_t bytes, const std::function<void(size_t)>& call);
  template <typename Call>
  auto first_that_can(Call call);
  std::shared_ptr<AlignedBuffer> stage(const Slice* slices, size_t count, size_t& size);

  std::shared_ptr<FileSystem> files_;
  std::shared_ptr<CopySet> set_;
  std::string directory_;
  std::shared_mutex joins_;
  std::mutex open_mutex_;
  std::set<Handles*> open_;  // a file that is open follows its name
  std::mutex stage_mutex_;
  std::vector<std::shared_ptr<AlignedBuffer>> stages_;
};

}  // namespace walmirror
