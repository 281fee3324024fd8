#include "disks.h"

#include <cstring>
#include <thread>

namespace walmirror::test {
namespace {

[[noreturn]] void fail(const std::string& path, int error) {
  WalFailure failure(error == ENOSPC ? "WAL_NO_SPACE" : "WAL_IO",
                     path + ": " + std::strerror(error));
  failure.file = path;
  failure.error_number = error;
  throw failure;
}

}  // namespace

template <typename Call>
void Disk::change(const std::string& path, Call call) {
  check_alive(path);
  std::unique_lock<std::recursive_mutex> one_at_a_time(*in_turn);
  bool now = fails_now();
  if (now && !once) dead = true;
  if (now && fault == Fault::kBefore) fail(path, error);
  call();
  if (settled) settled();
  if (now) fail(path, error);
}

namespace {

class DiskFile : public File {
 public:
  DiskFile(std::shared_ptr<Disk> disk, std::unique_ptr<File> file, std::string path)
      : disk_(std::move(disk)), file_(std::move(file)), path_(std::move(path)) {}

  bool direct() const override { return file_->direct(); }
  void write(uint64_t offset, const Slice* slices, size_t count, bool durable) override {
    disk_->hangs.wait(true);
    disk_->change(path_, [&] { file_->write(offset, slices, count, durable); });
  }
  size_t read(uint64_t offset, void* data, size_t size) override {
    disk_->check_alive(path_);
    return file_->read(offset, data, size);
  }
  void sync() override {
    disk_->change(path_, [&] { file_->sync(); });
  }
  void allocate(uint64_t size) override {
    disk_->change(path_, [&] { file_->allocate(size); });
  }
  uint64_t size() override { return file_->size(); }

 private:
  std::shared_ptr<Disk> disk_;
  std::unique_ptr<File> file_;
  std::string path_;
};

}  // namespace

void Disk::fail_from(int call, Fault how, int with) {
  error = with;
  fault = how;
  fails_in = call;  // Last: others call meanwhile.
}

void Disk::heal() {
  fails_in = 0;
  fault = Fault::kNone;
  dead = false;
  once = false;
}

bool Disk::fails_now() {
  int left = fails_in;
  while (left > 0 && !fails_in.compare_exchange_weak(left, left - 1)) {
  }
  return left == 1;
}

void Disk::check_alive(const std::string& path) const {
  if (dead) fail(path, error);
}

void Disk::wait_for_names(const std::string& path) {
  if (!path.ends_with(".wal") && !path.ends_with(".spare")) return;
  names_waiting++;
  names_hang.wait(true);
  names_waiting--;
}

Disks::Disks(const std::vector<std::string>& names) {
  for (const std::string& name : names) disks_[name] = std::make_shared<Disk>(in_turn_);
}

Disk& Disks::of(const std::string& path) { return *disks_.at(path.substr(0, path.find('/'))); }

bool Disks::prepare_directory(const std::string& path, bool create) {
  Disk& disk = of(path);
  disk.check_alive(path);
  if (disk.gone && create) disk.gone = false;
  return !disk.gone;
}

std::unique_ptr<DirectoryLock> Disks::lock(const std::string& path) {
  of(path).check_alive(path);
  return of(path).files->lock(path);
}

std::unique_ptr<File> Disks::open(const std::string& path, OpenMode mode, bool direct) {
  std::shared_ptr<Disk> disk = disks_.at(path.substr(0, path.find('/')));
  disk->check_alive(path);
  if (disk->gone) fail(path, ENOENT);
  std::unique_ptr<File> file;
  if (mode == OpenMode::kCreate) {
    disk->change(path, [&] { file = disk->files->open(path, mode, direct); });
  } else {
    file = disk->files->open(path, mode, direct);
  }
  return std::make_unique<DiskFile>(disk, std::move(file), path);
}

bool Disks::exists(const std::string& path) {
  of(path).check_alive(path);
  return !of(path).gone && of(path).files->exists(path);
}

void Disks::rename(const std::string& from, const std::string& to) {
  if (of(from).gone) fail(from, ENOENT);
  of(from).wait_for_names(from);
  of(from).change(from, [&] { of(from).files->rename(from, to); });
}

void Disks::remove(const std::string& path) {
  if (of(path).gone) return;
  of(path).wait_for_names(path);
  of(path).change(path, [&] { of(path).files->remove(path); });
}

void Disks::sync_directory(const std::string& path) {
  if (of(path).gone) fail(path, ENOENT);
  of(path).change(path, [&] { of(path).files->sync_directory(path); });
}

std::vector<std::string> Disks::list(const std::string& path) {
  of(path).check_alive(path);
  if (of(path).gone) fail(path, ENOENT);
  return of(path).files->list(path);
}

Disks::States Disks::states() {
  States states;
  for (auto& [name, disk] : disks_) states[name] = disk->files->state();
  return states;
}

void Disks::watch(std::function<void(const States&)> on_step) {
  std::lock_guard guard(*in_turn_);
  auto last = std::make_shared<States>(states());
  for (auto& [name, disk] : disks_) {
    if (!on_step) {
      disk->files->watch(nullptr);
      disk->settled = nullptr;
      continue;
    }
    disk->files->watch([last, on_step, name = name](const DiskState& state) {
      (*last)[name] = state;
      on_step(*last);
    });
    // What it flushed is not told by a step.
    disk->settled = [last, name = name, files = disk->files] { (*last)[name] = files->state(); };
  }
}

std::shared_ptr<Disks> Disks::after_loss(const States& states, Loss loss, uint64_t seed) {
  auto found = std::make_shared<Disks>(std::vector<std::string>{});
  std::mt19937_64 random(seed);
  for (const auto& [name, state] : states) {
    auto disk = std::make_shared<Disk>(found->in_turn_);
    disk->files = std::make_shared<MemoryFileSystem>(after_power_loss(state, loss, random));
    found->disks_[name] = std::move(disk);
  }
  return found;
}

LogOptions options_on(const std::vector<std::string>& names) {
  LogOptions options = small_options(names[0]);
  options.mirrors.assign(names.begin() + 1, names.end());
  options.copy_lag_ms = 20'000;
  options.copy_look_ms = 20;
  return options;
}

std::string segment_bytes(Disks& disks, const std::string& name, uint64_t end) {
  std::string all;
  for (const std::string& file : disks.list(name)) {
    if (!file.ends_with(".wal")) continue;
    all += file + "\n";
    uint64_t start = std::stoull(file.substr(17, 16), nullptr, 16);
    auto opened = disks.open(name + "/" + file, OpenMode::kRead, false);
    uint64_t size = start < end ? std::min<uint64_t>(opened->size(), end - start) : 0;
    std::string bytes(size, '\0');
    opened->read(0, bytes.data(), size);
    all += bytes;
  }
  return all;
}

void append_to(Owner& owner, uint64_t seed, uint64_t lsn, uint64_t most) {
  while (owner->closed().lsn < lsn) {
    owner.append(record_of(seed, owner->closed().lsn + 1, most));
    owner.close_batch();
  }
  owner.settle();
}

void check_records(Log& log, uint64_t seed, uint64_t lsn, uint64_t most) {
  Found found = read_all(log);
  CHECK(found.last_lsn() >= lsn);
  for (uint64_t at = found.first_lsn; at <= lsn; at++) {
    if (found.records[at - found.first_lsn] != record_of(seed, at, most))
      throw CheckFailed("record " + std::to_string(at) + " is another one");
  }
}

std::string state_of(Log& log, const std::string& name) {
  for (const CopyStatus& row : log.copies()) {
    if (row.directory == name) return row.in ? "in" : row.reason;
  }
  return "none";
}

}  // namespace walmirror::test
