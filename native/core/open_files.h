// The files that are open: a bounded number, so that a log of any length does with a process's
// limit.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "file_system.h"

namespace walmirror {

/// Thread-safe. A file that the caller holds stays open however many others are asked for.
class OpenFiles {
 public:
  /// Kept open beside those that somebody holds.
  static constexpr size_t kMost = 64;

  OpenFiles(std::shared_ptr<FileSystem> files, OpenMode mode)
      : files_(std::move(files)), mode_(mode) {}

  /// The open file; `known` is where its owner keeps track of it. Throws WalFailure.
  std::shared_ptr<File> get(const std::string& path, std::weak_ptr<File>& known);
  /// Opens the file anew when it is asked for next: another one has its name now.
  void forget(std::weak_ptr<File>& known);
  /// Nothing is opened afterwards.
  void close();

 private:
  void used(const std::shared_ptr<File>& file);

  std::shared_ptr<FileSystem> files_;
  OpenMode mode_;
  std::mutex mutex_;
  std::vector<std::shared_ptr<File>> recent_;  // the last used at the end
  bool closed_ = false;
};

}  // namespace walmirror
