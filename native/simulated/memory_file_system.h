// A disk in memory that knows what a power loss may leave of it: every sector that was written and
// not yet flushed is on the disk or not, each for itself, and so is every change of a directory
// from some point on.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "file_system.h"
#include "format.h"

namespace walmirror::simulated {

constexpr uint64_t kSector = 512;

/// How many disks this thread is in: what it allocates there is theirs.
inline thread_local int inside_a_disk = 0;

class DiskMutex {
 public:
  void lock() {
    mutex_.lock();
    inside_a_disk++;
  }
  void unlock() {
    inside_a_disk--;
    mutex_.unlock();
  }

 private:
  std::recursive_mutex mutex_;
};

/// What a disk writes whole, or not at all.
struct DiskModel {
  uint64_t sector = kSector;
  /// A sector under way may also be left half old, half new.
  bool mixes = false;
};

/// Never changed once shared, so that a snapshot is a copy of pointers.
struct Block : std::array<uint8_t, 4096> {
  Block() = default;
  Block(const Block& other) : std::array<uint8_t, 4096>(other) {}

  /// A hash of each sector, 0 for zeros; one thread at a time.
  const std::array<uint64_t, 8>& sector_sums() const;

 private:
  mutable bool summed_ = false;
  mutable std::array<uint64_t, 8> sums_{};
};

/// A missing block is all zeros.
using Blocks = std::vector<std::shared_ptr<const Block>>;

struct Inode {
  Blocks cache;
  Blocks disk;
  uint64_t cache_size = 0;
  uint64_t disk_size = 0;
  std::set<uint64_t> dirty;  // sectors in which the cache is newer than the disk
};

using Directory = std::map<std::string, uint64_t>;  // path to number of the inode

/// All that a disk holds at one instant, flushed or not.
struct DiskState {
  std::map<uint64_t, Inode> inodes;
  /// Directory contents: the flushed one first, then one for each change since.
  std::vector<Directory> directories{Directory{}};
  uint64_t next_inode = 1;
};

/// What a disk that lies does with a write.
enum class WriteFault {
  kLost,         // says that it is done; the old bytes stay
  kMisdirected,  // says that it is done; it is, in another place
  kShort,        // does a part of it and fails
};

class MemoryFileSystem : public FileSystem, public std::enable_shared_from_this<MemoryFileSystem> {
 public:
  MemoryFileSystem() = default;
  explicit MemoryFileSystem(DiskState state) : state_(std::move(state)) {}

  bool prepare_directory(const std::string&, bool) override { return true; }
  std::unique_ptr<DirectoryLock> lock(const std::string& path) override;
  std::unique_ptr<File> open(const std::string& path, OpenMode mode, bool direct) override;
  bool exists(const std::string& path) override;
  void rename(const std::string& from, const std::string& to) override;
  void remove(const std::string& path) override;
  void sync_directory(const std::string& path) override;
  std::vector<std::string> list(const std::string& path) override;

  DiskState state();
  /// Called with the lock held, in each instant in which a power loss is told from the one before.
  void watch(std::function<void(const DiskState&)> on_step);
  /// Fails the n-th write or sync from now on (1 is the next) with this errno, once; 0 never.
  std::atomic<int> fail_write_in{0};
  std::atomic<int> fail_sync_in{0};
  /// Counts only those of files whose names hold this.
  void fail_only(const std::string& part);
  /// Space is found for no file whose name holds this; "/none": for all.
  void no_room_for(const std::string& part);
  std::atomic<int> fail_errno{5};
  /// Does this with the n-th durable write to a segment from now on, once.
  std::atomic<int> fault_write_in{0};
  WriteFault write_fault = WriteFault::kLost;
  /// Where a misdirected write goes: so much further, around the end of the file.
  uint64_t misdirected_by = kBlock;
  /// A bit of a file decays.
  void flip(const std::string& path, uint64_t bit);
  /// Reading this sector of a file fails from now on, until it is written.
  void spoil(const std::string& path, uint64_t sector);
  /// Called before each read, without the lock.
  std::function<void(const std::string& path)> on_read;
  /// The same before each write, and whether it is to be durable when it is done.
  std::function<void(const std::string& path, bool durable)> on_write;
  /// The machine goes off in the n-th change from now on (1 is the next): from then on every call
  /// fails, and what is not on the disk is as a power loss finds it. `dies_after`: what the change
  /// writes is in the cache by then.
  std::atomic<int> die_in{0};
  std::atomic<bool> dies_after{true};
  std::atomic<bool> dead{false};
  /// Grows whenever something gets onto the disk.
  std::atomic<uint64_t> durable_changes{0};
  /// No file can be made any more.
  std::atomic<bool> full{false};
  /// Files that are open now, and the most that were.
  std::atomic<int> open_files{0};
  std::atomic<int> most_open_files{0};
  /// Space for a file is not found before this is false again.
  std::atomic<bool> hold_allocations{false};

 private:
  friend class MemoryFile;
  friend class DurableFile;
  friend class DurableView;
  void step() {
    if (on_step_) on_step_(state_);
  }
  void check_alive(const char* call, const std::string& path) const;
  /// Whether the machine goes off after this change. Throws where it does before, or has.
  bool dies(const char* call, const std::string& path);
  void change_directory(const std::function<void(Directory&)>& change);

  DiskMutex mutex_;
  std::string fail_only_;
  std::string no_room_for_ = "/none";
  DiskState state_;
  std::function<void(const DiskState&)> on_step_;
  std::set<std::string> locked_;
  std::set<std::pair<uint64_t, uint64_t>> spoiled_;  // inode, sector
};

/// Reads what a power loss now would leave, as it is at each call, and writes nothing.
std::shared_ptr<FileSystem> durable_view(std::shared_ptr<MemoryFileSystem> files);

enum class Loss { kAllUnflushed, kNothing, kSomeSectors };

/// The disk gets what the cache holds of this sector.
void flush_sector(Inode& inode, uint64_t sector);

/// Directories, files and segment headers in a few lines, for the message of a failed check.
std::string describe(const DiskState& state);

/// What is found after a power loss at this instant; everything in it is flushed.
DiskState after_power_loss(const DiskState& state, Loss loss, std::mt19937_64& random);

}  // namespace walmirror::simulated
