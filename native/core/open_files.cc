#include "open_files.h"

#include <algorithm>

#include "types.h"

namespace walmirror {

std::shared_ptr<File> OpenFiles::get(const std::string& path, std::weak_ptr<File>& known) {
  {
    std::lock_guard<std::mutex> guard(mutex_);
    if (closed_) throw WalFailure("WAL_CLOSED", "the log is closed");
    if (std::shared_ptr<File> file = known.lock()) {
      used(file);
      return file;
    }
  }
  // Not under the lock: a look-up on a cold disk must not hold up the writer.
  std::shared_ptr<File> file = files_->open(path, mode_, true);
  std::lock_guard<std::mutex> guard(mutex_);
  if (std::shared_ptr<File> other = known.lock()) file = other;
  known = file;
  used(file);
  return file;
}

void OpenFiles::used(const std::shared_ptr<File>& file) {
  if (!recent_.empty() && recent_.back() == file) return;
  auto at = std::find(recent_.begin(), recent_.end(), file);
  if (at != recent_.end()) {
    recent_.erase(at);
  } else if (recent_.size() == kMost) {
    recent_.erase(recent_.begin());
  }
  recent_.push_back(file);
}

void OpenFiles::forget(std::weak_ptr<File>& known) {
  std::lock_guard<std::mutex> guard(mutex_);
  auto at = std::find(recent_.begin(), recent_.end(), known.lock());
  if (at != recent_.end()) recent_.erase(at);
  known.reset();
}

void OpenFiles::close() {
  std::lock_guard<std::mutex> guard(mutex_);
  closed_ = true;
  recent_.clear();
}

}  // namespace walmirror
