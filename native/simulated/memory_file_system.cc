#include "memory_file_system.h"

#include <cerrno>
#include <cstring>

#include "format.h"
#include "types.h"

namespace walmirror::simulated {
namespace {

[[noreturn]] void fail(const std::string& call, const std::string& path, int error) {
  WalFailure failure(error == ENOSPC ? "WAL_NO_SPACE" : "WAL_IO",
                     call + " " + path + ": " + std::strerror(error));
  failure.file = path;
  failure.error_number = error;
  throw failure;
}

void put(Blocks& blocks, uint64_t offset, const uint8_t* bytes, uint64_t size) {
  if (blocks.size() * kBlock < offset + size) blocks.resize((offset + size + kBlock - 1) / kBlock);
  while (size > 0) {
    uint64_t at = offset % kBlock;
    uint64_t part = std::min(size, kBlock - at);
    auto& block = blocks[offset / kBlock];
    auto fresh = block != nullptr ? std::make_shared<Block>(*block) : std::make_shared<Block>();
    if (block == nullptr) fresh->fill(0);
    std::memcpy(fresh->data() + at, bytes, part);
    block = std::move(fresh);
    offset += part;
    bytes += part;
    size -= part;
  }
}

void get(const Blocks& blocks, uint64_t offset, uint8_t* bytes, uint64_t size) {
  while (size > 0) {
    uint64_t at = offset % kBlock;
    uint64_t part = std::min(size, kBlock - at);
    uint64_t index = offset / kBlock;
    if (index < blocks.size() && blocks[index] != nullptr) {
      std::memcpy(bytes, blocks[index]->data() + at, part);
    } else {
      std::memset(bytes, 0, part);
    }
    offset += part;
    bytes += part;
    size -= part;
  }
}

void flush_range(Inode& inode, uint64_t offset, uint64_t size) {
  auto first = inode.dirty.lower_bound(offset / kSector);
  auto last = inode.dirty.lower_bound((offset + size + kSector - 1) / kSector);
  for (auto sector = first; sector != last; ++sector) flush_sector(inode, *sector);
  inode.dirty.erase(first, last);
  inode.disk_size = inode.cache_size;
}

bool exists_in(const Directory& directory, const std::string& path) {
  // The directory itself is there once something is in it.
  auto at = directory.lower_bound(path);
  return at != directory.end() && (at->first == path || at->first.starts_with(path + "/"));
}

std::vector<std::string> list_of(const Directory& directory, const std::string& path) {
  std::vector<std::string> names;
  for (const auto& [name, inode] : directory) {
    if (name.starts_with(path + "/")) names.push_back(name.substr(path.size() + 1));
  }
  return names;
}

bool counts_down_to_zero(std::atomic<int>& counter) { return counter > 0 && --counter == 0; }

class MemoryLock : public DirectoryLock {
 public:
  explicit MemoryLock(std::function<void()> release) : release_(std::move(release)) {}
  ~MemoryLock() override { release_(); }

 private:
  std::function<void()> release_;
};

}  // namespace

const std::array<uint64_t, 8>& Block::sector_sums() const {
  if (summed_) return sums_;
  for (size_t sector = 0; sector < sums_.size(); sector++) {
    uint64_t sum = 0;
    uint64_t any = 0;
    for (size_t at = sector * kSector; at < (sector + 1) * kSector; at += 8) {
      uint64_t word;
      std::memcpy(&word, data() + at, sizeof word);
      any |= word;
      sum = (sum ^ word) * 0x9e3779b97f4a7c15;
      sum ^= sum >> 29;
    }
    sums_[sector] = any == 0 ? 0 : sum | 1;
  }
  summed_ = true;
  return sums_;
}

void flush_sector(Inode& inode, uint64_t sector) {
  uint8_t bytes[kSector];
  get(inode.cache, sector * kSector, bytes, kSector);
  put(inode.disk, sector * kSector, bytes, kSector);
}

class MemoryFile : public File {
 public:
  MemoryFile(MemoryFileSystem& system, uint64_t inode, std::string path, bool direct)
      : system_(system), inode_(inode), path_(std::move(path)), direct_(direct) {
    int open = ++system_.open_files;
    system_.most_open_files = std::max<int>(system_.most_open_files, open);
  }
  ~MemoryFile() override { system_.open_files--; }

  bool direct() const override { return direct_; }

  void write(uint64_t offset, const Slice* slices, size_t count, bool durable) override {
    if (system_.on_write) system_.on_write(path_, durable);
    std::lock_guard guard(system_.mutex_);
    uint64_t size = 0;
    for (size_t i = 0; i < count; i++) {
      check_direct(offset + size, slices[i].data, slices[i].size);
      size += slices[i].size;
    }
    bool dies = system_.dies("pwritev2", path_);
    bool fails = counts() && counts_down_to_zero(system_.fail_write_in);
    Inode& inode = system_.state_.inodes.at(inode_);
    bool is_log = durable && path_.find("/control") == std::string::npos;
    if (is_log && counts_down_to_zero(system_.fault_write_in)) {
      if (system_.write_fault == WriteFault::kLost) return;
      if (system_.write_fault == WriteFault::kMisdirected) {
        offset = (offset + system_.misdirected_by) % (inode.cache_size - size + kBlock);
      } else {
        put_slices(inode, offset, size / 2 / kSector * kSector, slices, count);
        flush_range(inode, offset, size / 2 / kSector * kSector);
        fail("pwritev2", path_, system_.fail_errno);
      }
    }
    put_slices(inode, offset, size, slices, count);
    system_.step();
    if (dies) fail("pwritev2", path_, EIO);
    if (fails) {
      // As Linux does: the pages count as clean although the disk never got them, and reads give
      // them.
      for (uint64_t sector = offset / kSector; sector * kSector < offset + size; sector++) {
        inode.dirty.erase(sector);
      }
      fail("pwritev2", path_, system_.fail_errno);
    }
    if (!durable) return;
    flush_range(inode, offset, size);
    system_.durable_changes++;
  }

  size_t read(uint64_t offset, void* data, size_t size) override {
    if (system_.on_read) system_.on_read(path_);
    std::lock_guard guard(system_.mutex_);
    system_.check_alive("pread", path_);
    check_direct(offset, data, size);
    const Inode& inode = system_.state_.inodes.at(inode_);
    if (offset >= inode.cache_size) return 0;
    size = std::min<uint64_t>(size, inode.cache_size - offset);
    auto spoiled = system_.spoiled_.lower_bound({inode_, offset / kSector});
    if (spoiled != system_.spoiled_.end() &&
        *spoiled < std::pair{inode_, (offset + size) / kSector})
      fail("pread", path_, EIO);
    get(inode.cache, offset, static_cast<uint8_t*>(data), size);
    return size;
  }

  void sync() override {
    std::lock_guard guard(system_.mutex_);
    system_.step();
    if (system_.dies("fdatasync", path_)) fail("fdatasync", path_, EIO);
    Inode& inode = system_.state_.inodes.at(inode_);
    if (counts() && counts_down_to_zero(system_.fail_sync_in)) {
      // As Linux does: the pages count as clean, the disk never got them, and the next sync
      // succeeds.
      inode.dirty.clear();
      fail("fdatasync", path_, system_.fail_errno);
    }
    flush_range(inode, 0, inode.cache.size() * kBlock);
    system_.durable_changes++;
  }

  void allocate(uint64_t size) override {
    system_.hold_allocations.wait(true);
    std::lock_guard guard(system_.mutex_);
    bool dies = system_.dies("fallocate", path_);
    if (path_.find(system_.no_room_for_) != std::string::npos)
      fail("posix_fallocate", path_, ENOSPC);
    Inode& inode = system_.state_.inodes.at(inode_);
    inode.cache_size = std::max(inode.cache_size, size);
    system_.step();
    if (dies) fail("fallocate", path_, EIO);
  }

  uint64_t size() override {
    std::lock_guard guard(system_.mutex_);
    return system_.state_.inodes.at(inode_).cache_size;
  }

 private:
  bool counts() const { return path_.find(system_.fail_only_) != std::string::npos; }

  /// The first `size` bytes of them.
  void put_slices(Inode& inode, uint64_t offset, uint64_t size, const Slice* slices, size_t count) {
    uint64_t at = offset;
    for (size_t i = 0; i < count && at < offset + size; i++) {
      uint64_t part = std::min<uint64_t>(slices[i].size, offset + size - at);
      put(inode.cache, at, static_cast<const uint8_t*>(slices[i].data), part);
      at += part;
    }
    for (uint64_t sector = offset / kSector; sector * kSector < offset + size; sector++) {
      inode.dirty.insert(sector);
      system_.spoiled_.erase({inode_, sector});
    }
    inode.cache_size = std::max(inode.cache_size, offset + size);
  }

  void check_direct(uint64_t offset, const void* data, uint64_t size) const {
    if (!direct_) return;
    if (offset % kBlock != 0 || size % kBlock != 0 ||
        reinterpret_cast<uintptr_t>(data) % kBlock != 0) {
      fail("an unaligned direct transfer", path_, EINVAL);
    }
  }

  MemoryFileSystem& system_;
  uint64_t inode_;
  std::string path_;
  bool direct_;
};

std::unique_ptr<DirectoryLock> MemoryFileSystem::lock(const std::string& path) {
  std::lock_guard guard(mutex_);
  if (!locked_.insert(path).second) throw WalFailure("WAL_LOCKED", path + " is locked");
  // A call that was left behind lets go of the lock when it ends, and nobody waits for it.
  return std::make_unique<MemoryLock>([this, path, keep = weak_from_this().lock()] {
    std::lock_guard inner(mutex_);
    locked_.erase(path);
  });
}

std::unique_ptr<File> MemoryFileSystem::open(const std::string& path, OpenMode mode, bool direct) {
  std::lock_guard guard(mutex_);
  check_alive("open", path);
  const Directory& now = state_.directories.back();
  if (!now.contains(path)) {
    if (mode != OpenMode::kCreate) fail("open", path, ENOENT);
    if (full) fail("open", path, ENOSPC);
    uint64_t inode = state_.next_inode++;
    state_.inodes[inode] = Inode{};
    change_directory([&](Directory& directory) { directory[path] = inode; });
  }
  return std::make_unique<MemoryFile>(*this, state_.directories.back().at(path), path, direct);
}

bool MemoryFileSystem::exists(const std::string& path) {
  std::lock_guard guard(mutex_);
  return exists_in(state_.directories.back(), path);
}

void MemoryFileSystem::rename(const std::string& from, const std::string& to) {
  std::lock_guard guard(mutex_);
  if (!state_.directories.back().contains(from)) fail("rename", from, ENOENT);
  change_directory([&](Directory& directory) {
    directory[to] = directory.at(from);
    directory.erase(from);
  });
}

void MemoryFileSystem::remove(const std::string& path) {
  std::lock_guard guard(mutex_);
  if (!state_.directories.back().contains(path)) return;
  change_directory([&](Directory& directory) { directory.erase(path); });
}

void MemoryFileSystem::sync_directory(const std::string& path) {
  std::lock_guard guard(mutex_);
  step();
  if (dies("fsync", path)) fail("fsync", path, EIO);
  state_.directories.erase(state_.directories.begin(), state_.directories.end() - 1);
  durable_changes++;
}

std::vector<std::string> MemoryFileSystem::list(const std::string& path) {
  std::lock_guard guard(mutex_);
  return list_of(state_.directories.back(), path);
}

void MemoryFileSystem::fail_only(const std::string& part) {
  std::lock_guard guard(mutex_);
  fail_only_ = part;
}

void MemoryFileSystem::no_room_for(const std::string& part) {
  std::lock_guard guard(mutex_);
  no_room_for_ = part;
}

void MemoryFileSystem::watch(std::function<void(const DiskState&)> on_step) {
  std::lock_guard guard(mutex_);
  on_step_ = std::move(on_step);
}

void MemoryFileSystem::flip(const std::string& path, uint64_t bit) {
  std::lock_guard guard(mutex_);
  Inode& inode = state_.inodes.at(state_.directories.back().at(path));
  for (Blocks* blocks : {&inode.cache, &inode.disk}) {
    uint8_t byte;
    get(*blocks, bit / 8, &byte, 1);
    byte ^= static_cast<uint8_t>(1 << bit % 8);
    put(*blocks, bit / 8, &byte, 1);
  }
}

void MemoryFileSystem::spoil(const std::string& path, uint64_t sector) {
  std::lock_guard guard(mutex_);
  spoiled_.insert({state_.directories.back().at(path), sector});
}

DiskState MemoryFileSystem::state() {
  std::lock_guard guard(mutex_);
  return state_;
}

void MemoryFileSystem::change_directory(const std::function<void(Directory&)>& change) {
  bool off = dies("rename", "");
  Directory next = state_.directories.back();
  change(next);
  state_.directories.push_back(std::move(next));
  step();
  if (off) fail("rename", "", EIO);
}

void MemoryFileSystem::check_alive(const char* call, const std::string& path) const {
  if (dead) fail(call, path, EIO);
}

bool MemoryFileSystem::dies(const char* call, const std::string& path) {
  check_alive(call, path);
  if (!counts_down_to_zero(die_in)) return false;
  dead = true;
  if (!dies_after) fail(call, path, EIO);
  return true;
}

class DurableFile : public File {
 public:
  DurableFile(std::shared_ptr<MemoryFileSystem> system, uint64_t inode, std::string path,
              bool direct)
      : system_(std::move(system)), inode_(inode), path_(std::move(path)), direct_(direct) {}

  bool direct() const override { return direct_; }
  size_t read(uint64_t offset, void* data, size_t size) override {
    std::lock_guard guard(system_->mutex_);
    const Inode& inode = system_->state_.inodes.at(inode_);
    if (offset >= inode.disk_size) return 0;
    size = std::min<uint64_t>(size, inode.disk_size - offset);
    get(inode.disk, offset, static_cast<uint8_t*>(data), size);
    return size;
  }
  uint64_t size() override {
    std::lock_guard guard(system_->mutex_);
    return system_->state_.inodes.at(inode_).disk_size;
  }
  void write(uint64_t, const Slice*, size_t, bool) override { fail("write", path_, EROFS); }
  void sync() override { fail("sync", path_, EROFS); }
  void allocate(uint64_t) override { fail("allocate", path_, EROFS); }

 private:
  std::shared_ptr<MemoryFileSystem> system_;
  uint64_t inode_;
  std::string path_;
  bool direct_;
};

class DurableView : public FileSystem {
 public:
  explicit DurableView(std::shared_ptr<MemoryFileSystem> system) : system_(std::move(system)) {}

  bool prepare_directory(const std::string&, bool) override { return true; }
  std::unique_ptr<DirectoryLock> lock(const std::string& path) override {
    fail("lock", path, EROFS);
  }
  std::unique_ptr<File> open(const std::string& path, OpenMode, bool direct) override {
    std::lock_guard guard(system_->mutex_);
    const Directory& names = system_->state_.directories.front();
    auto found = names.find(path);
    if (found == names.end()) fail("open", path, ENOENT);
    return std::make_unique<DurableFile>(system_, found->second, path, direct);
  }
  bool exists(const std::string& path) override {
    std::lock_guard guard(system_->mutex_);
    return exists_in(system_->state_.directories.front(), path);
  }
  std::vector<std::string> list(const std::string& path) override {
    std::lock_guard guard(system_->mutex_);
    return list_of(system_->state_.directories.front(), path);
  }
  void rename(const std::string& from, const std::string&) override { fail("rename", from, EROFS); }
  void remove(const std::string& path) override { fail("remove", path, EROFS); }
  void sync_directory(const std::string& path) override { fail("sync", path, EROFS); }

 private:
  std::shared_ptr<MemoryFileSystem> system_;
};

std::shared_ptr<FileSystem> durable_view(std::shared_ptr<MemoryFileSystem> files) {
  return std::make_shared<DurableView>(std::move(files));
}

DiskState after_power_loss(const DiskState& state, Loss loss, std::mt19937_64& random) {
  DiskState found;
  found.next_inode = state.next_inode;
  size_t kept = state.directories.size() - 1;
  if (loss == Loss::kAllUnflushed) kept = 0;
  if (loss == Loss::kSomeSectors) kept = random() % state.directories.size();
  found.directories = {state.directories[kept]};
  for (const auto& [path, number] : found.directories[0]) {
    Inode inode = state.inodes.at(number);
    uint64_t eighths = random() % 9;  // how many of eight sectors make it: from none to all
    for (uint64_t sector : inode.dirty) {
      if (loss == Loss::kNothing || (loss == Loss::kSomeSectors && random() % 8 < eighths)) {
        flush_sector(inode, sector);
        inode.disk_size =
            std::max(inode.disk_size, std::min(inode.cache_size, (sector + 1) * kSector));
      }
    }
    if (loss == Loss::kNothing || (loss == Loss::kSomeSectors && random() % 2 == 0)) {
      inode.disk_size = inode.cache_size;
    }
    inode.dirty.clear();
    inode.cache = inode.disk;
    inode.cache_size = inode.disk_size;
    found.inodes[number] = std::move(inode);
  }
  return found;
}

namespace {

std::string describe_header(const Blocks& blocks) {
  SegmentHeader header;
  get(blocks, 0, reinterpret_cast<uint8_t*>(&header), sizeof header);
  if (header.magic != kSegmentMagic) return "no header";
  return "segment at " + std::to_string(header.start) + ", first LSN " +
         std::to_string(header.first_lsn);
}

}  // namespace

std::string describe(const DiskState& state) {
  std::string text;
  for (const Directory& directory : state.directories) {
    text += "\n  directory:";
    for (const auto& [name, number] : directory) text += " " + name + "=" + std::to_string(number);
  }
  for (const auto& [number, inode] : state.inodes) {
    text += "\n  file " + std::to_string(number) + ": flushed " + describe_header(inode.disk) +
            "; cached " + describe_header(inode.cache) + "; " + std::to_string(inode.dirty.size()) +
            " dirty sectors";
  }
  return text;
}

}  // namespace walmirror::simulated
