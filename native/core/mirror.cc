#include "mirror.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "planted.h"
#include "types.h"

namespace walmirror {

/// What the first copy gives that does not fail.
template <typename Call>
auto Mirror::first_that_can(Call call) {
  std::vector<size_t> copies = set_->readable();
  for (size_t i = 0;; i++) {
    try {
      return call(copies.at(i));
    } catch (const WalFailure&) {
      if (i + 1 >= copies.size()) throw;
      set_->note_bad_read(copies[i]);
    }
  }
}

/// The file of each copy, opened when it is first needed. Lives as long as a call that hangs.
struct Mirror::Handles {
  std::shared_ptr<FileSystem> files;
  std::shared_ptr<CopySet> set;
  std::string directory;
  OpenMode mode;
  bool direct;
  std::mutex mutex;
  std::string path;
  std::vector<std::shared_ptr<File>> file;
  std::vector<Id> of;  // the copy that `file` belongs to: one that comes back has another id

  std::shared_ptr<File> get(size_t copy) { return get(copy, mode); }

  std::shared_ptr<File> get(size_t copy, OpenMode how) {
    constexpr int kTries = 5;
    for (int tries = 1;; tries++) {
      try {
        return open(copy, how);
      } catch (const WalFailure& failure) {
        // It is just being renamed.
        if (failure.error_number != ENOENT || tries == kTries) throw;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
  }

 private:
  std::shared_ptr<File> open(size_t copy, OpenMode how) {
    Id id = set->id(copy);
    std::string name;
    {
      std::lock_guard<std::mutex> guard(mutex);
      if (file[copy] != nullptr && of[copy] == id) return file[copy];
      name = set->directory(copy) + path.substr(directory.size());
    }
    std::shared_ptr<File> opened = files->open(name, how, direct);
    std::lock_guard<std::mutex> guard(mutex);
    file[copy] = opened;
    of[copy] = id;
    return opened;
  }
};

class MirroredFile : public File {
 public:
  MirroredFile(Mirror& mirror, std::shared_ptr<Mirror::Handles> handles)
      : mirror_(mirror), handles_(std::move(handles)) {
    std::lock_guard<std::mutex> guard(mirror_.open_mutex_);
    mirror_.open_.insert(handles_.get());
  }
  ~MirroredFile() override {
    std::lock_guard<std::mutex> guard(mirror_.open_mutex_);
    mirror_.open_.erase(handles_.get());
  }

  bool direct() const override {
    return mirror_.first_that_can([&](size_t copy) { return handles_->get(copy)->direct(); });
  }

  void write(uint64_t offset, const Slice* slices, size_t count, bool durable) override {
    size_t size = 0;
    // A copy that is left behind goes on writing when the caller's memory has changed.
    std::shared_ptr<AlignedBuffer> staged = mirror_.stage(slices, count, size);
    mirror_.run([handles = handles_, staged, size, offset, durable](size_t copy) {
      Slice slice{staged->data(), size};
      handles->get(copy)->write(offset, &slice, 1, durable);
    });
  }

  void write_batches(uint64_t offset, const Slice* slices, size_t count) override {
    size_t size = 0;
    std::shared_ptr<AlignedBuffer> staged = mirror_.stage(slices, count, size);
    mirror_.run_batch(size, [handles = handles_, staged, size, offset](size_t copy) {
      Slice slice{staged->data(), size};
      handles->get(copy)->write(offset, &slice, 1, true);
    });
  }

  size_t read(uint64_t offset, void* data, size_t size) override {
    return mirror_.first_that_can(
        [&](size_t copy) { return handles_->get(copy)->read(offset, data, size); });
  }

  size_t copies() const override { return mirror_.set_->count(); }

  size_t read_copy(size_t copy, uint64_t offset, void* data, size_t size) override {
    if (!mirror_.set_->in(copy)) throw WalFailure("WAL_IO", "the copy is not in");
    if (mirror_.set_->behind(copy)) throw WalFailure("WAL_IO", "the copy is behind");
    return handles_->get(copy)->read(offset, data, size);
  }

  void bad_copy(size_t copy) override {
    if (!mirror_.set_->behind(copy)) mirror_.set_->note_bad_read(copy);
  }

  void sync() override {
    mirror_.run([handles = handles_](size_t copy) { handles->get(copy)->sync(); });
  }

  void allocate(uint64_t size) override {
    mirror_.run([handles = handles_, size](size_t copy) { handles->get(copy)->allocate(size); });
  }

  uint64_t size() override {
    return mirror_.first_that_can([&](size_t copy) { return handles_->get(copy)->size(); });
  }

 private:
  Mirror& mirror_;
  std::shared_ptr<Mirror::Handles> handles_;
};

Mirror::Mirror(std::shared_ptr<FileSystem> files, std::shared_ptr<CopySet> set,
               std::string directory)
    : files_(std::move(files)), set_(std::move(set)), directory_(std::move(directory)) {}

std::string Mirror::path_in(size_t copy, const std::string& path) const {
  return set_->directory(copy) + path.substr(directory_.size());
}

void Mirror::in_each(const std::string& path,
                     const std::function<void(FileSystem&, const std::string&)>& call) {
  std::string name = path.substr(directory_.size());
  run([files = files_, set = set_, name, call](size_t copy) {
    call(*files, set->directory(copy) + name);
  });
}

void Mirror::let_go(size_t copy) {
  std::vector<std::shared_ptr<File>> closed;  // without the locks
  std::lock_guard<std::mutex> guard(open_mutex_);
  closed.reserve(open_.size());
  for (Handles* handles : open_) {
    std::lock_guard<std::mutex> inner(handles->mutex);
    closed.push_back(std::move(handles->file[copy]));
  }
}

void Mirror::run(const std::function<void(size_t)>& call) {
  {
    std::shared_lock<std::shared_mutex> not_joining(joins_);
    set_->each(call);
  }
  if (!PLANTED(acknowledged_before_a_drop_is_stored)) set_->settle();
}

void Mirror::run_batch(uint64_t bytes, const std::function<void(size_t)>& call) {
  {
    std::shared_lock<std::shared_mutex> not_joining(joins_);
    set_->each_batch(bytes, call);
  }
  if (!PLANTED(acknowledged_before_a_drop_is_stored)) set_->settle();
}

std::shared_ptr<AlignedBuffer> Mirror::stage(const Slice* slices, size_t count, size_t& size) {
  size = 0;
  for (size_t i = 0; i < count; i++) size += slices[i].size;
  std::shared_ptr<AlignedBuffer> staged;
  {
    std::lock_guard<std::mutex> guard(stage_mutex_);
    for (auto& stage : stages_) {
      if (stage.use_count() != 1) continue;
      staged = stage;
      break;
    }
    if (staged == nullptr) {
      staged = std::make_shared<AlignedBuffer>();
      constexpr size_t kKept = 4;
      if (stages_.size() < kKept) stages_.push_back(staged);
    }
  }
  staged->reserve(size);
  uint8_t* to = staged->data();
  for (size_t i = 0; i < count; i++) {
    std::memcpy(to, slices[i].data, slices[i].size);
    to += slices[i].size;
  }
  return staged;
}

std::unique_ptr<DirectoryLock> Mirror::lock(const std::string& path) {
  throw WalFailure("WAL_UNSUPPORTED", path + ": each copy has a lock of its own");
}

std::unique_ptr<File> Mirror::open(const std::string& path, OpenMode mode, bool direct) {
  auto handles = std::make_shared<Handles>();
  handles->files = files_;
  handles->set = set_;
  handles->directory = directory_;
  // A copy that comes in while the file is open has it under its name already.
  handles->mode = mode == OpenMode::kCreate ? OpenMode::kReadWrite : mode;
  handles->direct = direct;
  handles->path = path;
  handles->file.resize(set_->count());
  handles->of.resize(set_->count());
  if (mode == OpenMode::kCreate) {
    run([handles](size_t copy) { handles->get(copy, OpenMode::kCreate); });
  } else {
    first_that_can([&](size_t copy) { return handles->get(copy) != nullptr; });
  }
  return std::make_unique<MirroredFile>(*this, std::move(handles));
}

bool Mirror::exists(const std::string& path) {
  return first_that_can([&](size_t copy) { return files_->exists(path_in(copy, path)); });
}

void Mirror::rename(const std::string& from, const std::string& to) {
  std::vector<std::pair<std::string, std::string>> names;
  for (size_t copy = 0; copy < set_->count(); copy++) {
    names.emplace_back(path_in(copy, from), path_in(copy, to));
  }
  run([files = files_, names](size_t copy) {
    files->rename(names[copy].first, names[copy].second);
  });
  std::lock_guard<std::mutex> guard(open_mutex_);
  for (Handles* handles : open_) {
    std::lock_guard<std::mutex> inner(handles->mutex);
    if (handles->path == from) handles->path = to;
  }
}

void Mirror::remove(const std::string& path) {
  std::vector<std::string> names;
  for (size_t copy = 0; copy < set_->count(); copy++) names.push_back(path_in(copy, path));
  run([files = files_, names](size_t copy) { files->remove(names[copy]); });
}

void Mirror::sync_directory(const std::string& path) {
  std::vector<std::string> names;
  for (size_t copy = 0; copy < set_->count(); copy++) names.push_back(path_in(copy, path));
  run([files = files_, names](size_t copy) { files->sync_directory(names[copy]); });
}

std::vector<std::string> Mirror::list(const std::string& path) {
  return first_that_can([&](size_t copy) { return files_->list(path_in(copy, path)); });
}

}  // namespace walmirror
