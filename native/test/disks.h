// Several disks, each with a directory of one log, that fail, hang and lose power each for itself.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "log_fixture.h"

namespace walmirror::test {

enum class Fault {
  kNone,
  kBefore,  // the call does nothing, and so do all that follow
  kAfter,   // the call does its work and says that it failed; all that follow do nothing
};

struct Disk {
  std::shared_ptr<MemoryFileSystem> files = std::make_shared<MemoryFileSystem>();
  /// So many more calls that change something, and it fails (1: with the next); 0: it does not.
  std::atomic<int> fails_in{0};
  std::atomic<Fault> fault{Fault::kNone};
  std::atomic<int> error{5};
  /// Fails only the one call.
  std::atomic<bool> once{false};
  std::atomic<bool> dead{false};
  /// Writes return only when this is false again.
  std::atomic<bool> hangs{false};
  /// Segments are renamed and removed only when this is false again; calls that wait for it.
  std::atomic<bool> names_hang{false};
  std::atomic<int> names_waiting{0};
  /// The directory was removed: what is open can still be used.
  std::atomic<bool> gone{false};

  /// Held by a call that changes something: one for all disks, whose instants come one after the
  /// other.
  const std::shared_ptr<std::recursive_mutex> in_turn;
  explicit Disk(std::shared_ptr<std::recursive_mutex> turn) : in_turn(std::move(turn)) {}
  /// Called after each change, while it is watched. Under `in_turn`.
  std::function<void()> settled;

  void fail_from(int call, Fault how, int with = 5);
  void heal();
  /// Runs what changes the disk, or fails.
  template <typename Call>
  void change(const std::string& path, Call call);
  void check_alive(const std::string& path) const;
  /// Before the name of this file goes.
  void wait_for_names(const std::string& path);

 private:
  bool fails_now();
};

/// Routes each path to the disk that its first part names.
class Disks : public FileSystem {
 public:
  explicit Disks(const std::vector<std::string>& names);

  bool prepare_directory(const std::string& path, bool create) override;
  std::unique_ptr<DirectoryLock> lock(const std::string& path) override;
  std::unique_ptr<File> open(const std::string& path, OpenMode mode, bool direct) override;
  bool exists(const std::string& path) override;
  void rename(const std::string& from, const std::string& to) override;
  void remove(const std::string& path) override;
  void sync_directory(const std::string& path) override;
  std::vector<std::string> list(const std::string& path) override;

  Disk& operator[](const std::string& name) { return *disks_.at(name); }

  using States = std::map<std::string, DiskState>;
  States states();
  /// Calls with the states of all disks in each instant in which one of them changes. Before and
  /// after, nothing may be under way.
  void watch(std::function<void(const States&)> on_step);
  /// Runs this between two changes: what a watch gathers can be looked at meanwhile.
  template <typename Call>
  void between_changes(Call call) {
    std::lock_guard guard(*in_turn_);
    call();
  }

  /// The disks of these names, as a power loss of that kind leaves them.
  static std::shared_ptr<Disks> after_loss(const States& states, Loss loss, uint64_t seed);

 private:
  Disk& of(const std::string& path);

  std::shared_ptr<std::recursive_mutex> in_turn_ = std::make_shared<std::recursive_mutex>();
  std::map<std::string, std::shared_ptr<Disk>> disks_;
};

/// Options for a log on disks of these names.
LogOptions options_on(const std::vector<std::string>& names);

/// What two directories hold of the log: names of segments and their bytes up to `end`.
std::string segment_bytes(Disks& disks, const std::string& name, uint64_t end);

/// 'in', or why the copy in this directory is not.
std::string state_of(Log& log, const std::string& name);

/// Appends records of this seed, a batch each, up to `lsn`; waits for the flush of all.
void append_to(Owner& owner, uint64_t seed, uint64_t lsn, uint64_t most = 2000);
/// Checks that the records up to `lsn` are those of this seed.
void check_records(Log& log, uint64_t seed, uint64_t lsn, uint64_t most = 2000);

}  // namespace walmirror::test
