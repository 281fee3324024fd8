// Each instant of a disk in memory, with what was known of the log by then.
#pragma once

#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "memory_file_system.h"

namespace walmirror::test {

template <class Known>
struct InstantOf {
  DiskState disk;
  Known known;
};

/// Watches a file system; both must end before the recorder does, or the watch be ended.
template <class Known>
class RecorderOf {
 public:
  explicit RecorderOf(Known known) : known_(std::move(known)) {}

  void watch(MemoryFileSystem& files) {
    files.watch([this](const DiskState& disk) {
      std::lock_guard guard(mutex_);
      instants_.push_back({disk, known_});
    });
  }
  void learn(const std::function<void(Known&)>& change) {
    std::lock_guard guard(mutex_);
    change(known_);
  }
  size_t count() {
    std::lock_guard guard(mutex_);
    return instants_.size();
  }
  /// Only the thread that learns may ask.
  const Known& known() const { return known_; }
  /// When nothing is watched any more.
  std::vector<InstantOf<Known>>& instants() { return instants_; }

 private:
  std::mutex mutex_;
  Known known_;
  std::vector<InstantOf<Known>> instants_;
};

}  // namespace walmirror::test
