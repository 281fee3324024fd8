#include "two_copies.h"

#include <cstdio>

namespace walmirror::test {

void copy_directory(MemoryFileSystem& files, const std::string& from, const std::string& to) {
  for (const std::string& name : files.list(from)) {
    if (name == "lock") continue;
    std::string bytes = read_whole(files, from + "/" + name);
    auto copy = files.open(to + "/" + name, OpenMode::kCreate, false);
    Slice slice{bytes.data(), bytes.size()};
    copy->write(0, &slice, 1, true);
  }
  files.sync_directory(to);
}

DiskState make_two_copies(bool clean) {
  auto files = std::make_shared<MemoryFileSystem>();
  LogOptions options = small_options();
  options.max_batch_bytes = 8192;
  const uint64_t ends[] = {2 * options.segment_bytes, 4 * options.segment_bytes + 9000,
                           5 * options.segment_bytes + 9000};
  Place watermark;
  uint64_t lsn = 0;
  for (uint64_t end : ends) {
    Owner owner(options, files);
    owner.open_term();
    while (owner->closed().position < end) {
      for (int i = 0; i < 4; i++) {
        lsn++;
        owner.append(record_of(1, lsn, 1500));
      }
      owner.close_batch();
      owner.settle();
      if (owner->closed().position < 4 * options.segment_bytes + 30000)
        watermark = owner->flushed();
    }
    if (end == ends[0]) {
      owner->set_commit(owner->flushed().position, lsn);
      owner->trim(owner->flushed().position);
    }
    owner->close();
  }
  if (!clean) {
    std::unique_ptr<ControlFile> control = ControlFile::open(*files, "d", false);
    control->update(ControlFile::Copies::kBoth, [&](Control& content) {
      content.clean = false;
      content.watermark = watermark;
    });
  }
  copy_directory(*files, "d", "e");
  std::mt19937_64 unused;
  return after_power_loss(files->state(), Loss::kNothing, unused);
}

std::string read_whole(MemoryFileSystem& files, const std::string& path) {
  auto file = files.open(path, OpenMode::kRead, false);
  std::string bytes(file->size(), '\0');
  file->read(0, bytes.data(), bytes.size());
  return bytes;
}

std::map<uint64_t, std::string> segment_paths(MemoryFileSystem& files,
                                              const std::string& directory) {
  std::map<uint64_t, std::string> paths;
  for (const std::string& name : files.list(directory)) {
    if (!name.ends_with(".wal")) continue;
    paths[std::stoull(name.substr(17, 16), nullptr, 16)] = directory + "/" + name;
  }
  return paths;
}

std::map<uint64_t, std::string> segment_bytes(MemoryFileSystem& files,
                                              const std::string& directory) {
  std::map<uint64_t, std::string> bytes;
  for (const auto& [start, path] : segment_paths(files, directory))
    bytes[start] = read_whole(files, path);
  return bytes;
}

void damage(MemoryFileSystem& files, const std::string& path, uint64_t offset, uint64_t size) {
  auto file = files.open(path, OpenMode::kReadWrite, false);
  std::string bytes(size, '\0');
  file->read(offset, bytes.data(), size);
  for (char& byte : bytes) byte = static_cast<char>(byte ^ 0x5a);
  Slice slice{bytes.data(), size};
  file->write(offset, &slice, 1, true);
}

std::vector<DamagedRange> scrub(const std::shared_ptr<MemoryFileSystem>& files,
                                const std::string& directory) {
  ScrubReport report = scrub_directory(files, directory, [](uint64_t, uint64_t) { return true; });
  std::vector<DamagedRange> ranges;
  for (const Damage& each : report.damage)
    ranges.insert(ranges.end(), each.ranges.begin(), each.ranges.end());
  return ranges;
}

RepairReport repair(const std::shared_ptr<MemoryFileSystem>& files, const std::string& source,
                    bool dry_run) {
  Control control = read_control(*files, "d");
  std::unique_ptr<DirectorySource> other;
  if (!source.empty()) other = std::make_unique<DirectorySource>(files, source, control);
  RepairOptions options;
  options.directory = "d";
  options.dry_run = dry_run;
  options.source = other.get();
  options.progress = [](uint64_t, uint64_t) { return true; };
  return repair_directory(files, options);
}

bool all_repaired(const RepairReport& report) {
  for (const RepairedRange& each : report.ranges) {
    if (each.repaired) continue;
    std::printf("       not repaired: %s, %llu to %llu (%s): %s\n", each.range.file.c_str(),
                static_cast<unsigned long long>(each.range.from),
                static_cast<unsigned long long>(each.range.to), each.range.reason.c_str(),
                each.reason.c_str());
    return false;
  }
  return !report.ranges.empty();
}

}  // namespace walmirror::test
