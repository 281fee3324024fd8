// Damage of every kind, found and written anew from another copy; and what is refused.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "crc32c.h"
#include "log_reader.h"
#include "two_copies.h"
#include "workers.h"

namespace walmirror::test::repair_test {
namespace {

constexpr uint64_t kSegment = 65536;

std::shared_ptr<MemoryFileSystem> on(const DiskState& disk) {
  return std::make_shared<MemoryFileSystem>(disk);
}

uint64_t last_segment(MemoryFileSystem& files) { return segment_paths(files, "d").rbegin()->first; }

void check_no_damage(const std::shared_ptr<MemoryFileSystem>& files) {
  for (const DamagedRange& range : scrub(files)) {
    throw CheckFailed(range.file + ", positions " + std::to_string(range.from) + " to " +
                      std::to_string(range.to) + ": " + range.reason);
  }
}

/// The segments of `d` are those of `e`, the log verifies and opens, and nothing else is left.
void check_whole(const std::shared_ptr<MemoryFileSystem>& files) {
  CHECK(segment_bytes(*files, "d") == segment_bytes(*files, "e"));
  check_no_damage(files);
  for (const std::string& name : files->list("d")) CHECK(!name.ends_with(".new"));
  VerifyReport verified = LogReader::open("d", files)->verify();
  CHECK(!verified.damage);
  VerifyReport other = LogReader::open("e", files)->verify();
  CHECK_EQ(verified.end.position, other.end.position);
  Owner owner(small_options(), files);
  CHECK_EQ(owner->closed().position, other.end.position);
}

void check_sector(const DiskState& disk, const std::string& path, uint64_t start, uint64_t offset,
                  uint64_t end) {
  auto files = on(disk);
  bool behind = start + offset >= end;
  damage(*files, path, offset, behind ? kSector : std::min(kSector, end - start - offset));
  std::vector<DamagedRange> found = scrub(files);
  if (behind) {
    CHECK(found.empty());
    return;
  }
  // Two where the watermark lies in it.
  CHECK(found.size() == 1 || (found.size() == 2 && found[0].to == found[1].from));
  DamagedRange range = found[0];
  range.to = found.back().to;
  CHECK_EQ(range.file, path);
  CHECK(range.from < start + offset + kSector && range.to > start + offset);
  CHECK(range.first_lsn > 0 && range.last_lsn + 1 >= range.first_lsn);
  // No more is given up than what lies with it in one batch, or is zeros anyway.
  if (range.part == DamagedRange::Part::kBatches) CHECK(range.to - range.from < 24000);
  RepairReport report = repair(files);
  CHECK(all_repaired(report));
  CHECK_EQ(report.ranges.size(), found.size());
  CHECK(report.written_bytes > 0);
  check_whole(files);
}

void check_every_sector(bool clean) {
  DiskState disk = make_two_copies(clean);
  auto pristine = on(disk);
  CHECK(scrub(pristine).empty());
  auto paths = segment_paths(*pristine, "d");
  CHECK_EQ(paths.size(), size_t{4});
  CHECK(paths.begin()->first > 0);
  uint64_t end = LogReader::open("d", pristine)->refresh().position;
  // Behind the watermark of a log that was killed, only what a later batch proves is damage.
  uint64_t durable = clean ? end : paths.rbegin()->first;
  Shared<std::atomic<uint64_t>> sectors;
  share_work(2, paths.size() * 2, [&](size_t unit) {
    auto [start, path] = *std::next(paths.begin(), static_cast<long>(unit / 2));
    uint64_t stride = kSlow ? 29 * kSector : kSector;
    for (uint64_t offset = unit % 2 * kSegment / 2; offset < (unit % 2 + 1) * kSegment / 2;
         offset += stride) {
      bool undecided = start + offset >= durable && start + offset < end;
      if (undecided) continue;
      check_sector(disk, path, start, offset, end);
      (*sectors)++;
    }
  });
  std::printf("       %llu sectors\n", static_cast<unsigned long long>(sectors->load()));
  CHECK(sectors->load() >= (kSlow ? 16 : 384));
}

TEST(RepairOfEverySectorOfAClosedLogIsBitForBit) { check_every_sector(true); }

TEST(RepairOfEverySectorOfAKilledLogIsBitForBit) { check_every_sector(false); }

/// Each way to lose a whole segment.
const std::function<void(MemoryFileSystem&, const std::string&)> kLosses[] = {
    [](MemoryFileSystem& files, const std::string& path) { files.remove(path); },
    // Cut short: by the content of half of it under its name.
    [](MemoryFileSystem& files, const std::string& path) {
      std::string half = read_whole(files, path).substr(0, kSegment / 2);
      files.remove(path);
      Slice slice{half.data(), half.size()};
      files.open(path, OpenMode::kCreate, false)->write(0, &slice, 1, true);
    },
    // Without a header, and cut short.
    [](MemoryFileSystem& files, const std::string& path) {
      files.remove(path);
      files.open(path, OpenMode::kCreate, false)->allocate(4096);
    },
    // Longer than a segment.
    [](MemoryFileSystem& files, const std::string& path) {
      std::string more(8192, 'x');
      Slice slice{more.data(), more.size()};
      files.open(path, OpenMode::kReadWrite, false)->write(kSegment, &slice, 1, true);
    },
    // Every byte of it.
    [](MemoryFileSystem& files, const std::string& path) { damage(files, path, 0, kSegment); },
};

TEST(RepairWritesAWholeSegmentAnew) {
  for (bool clean : {true, false}) {
    DiskState disk = make_two_copies(clean);
    auto paths = segment_paths(*on(disk), "d");
    for (auto first = paths.begin(); first != paths.end(); ++first) {
      for (auto last = first; last != paths.end(); ++last) {
        for (const auto& lose : kLosses) {
          auto files = on(disk);
          for (auto at = first; at != std::next(last); ++at) lose(*files, at->second);
          // A log that was killed keeps its last segment only where something says that it was.
          bool undecided = !clean && first->first == paths.rbegin()->first &&
                           files->list("d") == on(disk)->list("d");
          if (undecided) continue;
          RepairReport report = repair(files);
          if (!clean && first->first == paths.rbegin()->first && report.ranges.empty()) continue;
          CHECK(all_repaired(report));
          auto theirs = segment_bytes(*files, "e");
          auto ours = segment_bytes(*files, "d");
          for (const auto& [start, bytes] : ours) {
            // Old bytes behind the end are not a part of the log.
            if (start != paths.rbegin()->first) CHECK(bytes == theirs[start]);
          }
          check_no_damage(files);
          Owner owner(small_options(), files);
          CHECK(owner->start().lsn + 1 == read_all(owner.log()).first_lsn);
        }
      }
    }
  }
}

TEST(RepairOfTheLastSegmentKeepsWhatTheOtherCopyHasOfIt) {
  DiskState disk = make_two_copies(false);
  auto files = on(disk);
  uint64_t end = LogReader::open("d", files)->refresh().position;
  // The watermark is put into the last segment, so that it is known to be there, up to a point.
  auto reader = LogReader::open("d", files);
  reader->refresh();
  uint64_t start = last_segment(*files) + kFirstBatch;
  AlignedBuffer buffer(65536);
  ReadOutcome piece = reader->read_into(buffer.data(), 8192, start, end);
  BatchHeader header;
  std::memcpy(&header, buffer.data() + piece.offset, sizeof header);
  std::unique_ptr<ControlFile> control = ControlFile::open(*files, "d", false);
  control->update(ControlFile::Copies::kBoth, [&](Control& content) {
    content.watermark = {header.position + header.length, header.first_lsn + header.count - 1,
                         header.crc};
  });
  control.reset();
  files->remove(segment_paths(*files, "d").rbegin()->second);
  RepairReport report = repair(files);
  CHECK(all_repaired(report));
  CHECK_EQ(LogReader::open("d", files)->refresh().position, end);
}

TEST(RepairThatCrashesAnywhereIsRepairedAgain) {
  for (bool clean : {true, false}) {
    DiskState disk = make_two_copies(clean);
    auto files = on(disk);
    auto paths = segment_paths(*files, "d");
    auto second = std::next(paths.begin());
    damage(*files, paths.begin()->second, 20000, 30000);
    damage(*files, second->second, 0, 9000);
    files->remove(std::next(second)->second);
    files->sync_directory("d");
    DiskState damaged = files->state();
    auto crashing = on(damaged);
    std::vector<DiskState> instants;
    crashing->watch([&](const DiskState& state) { instants.push_back(state); });
    CHECK(all_repaired(repair(crashing)));
    crashing->watch(nullptr);
    instants.push_back(crashing->state());
    CHECK(instants.size() > 4);
    std::mt19937_64 random(3);
    for (const DiskState& instant : instants) {
      for (Loss loss : {Loss::kAllUnflushed, Loss::kSomeSectors, Loss::kSomeSectors}) {
        auto again = on(after_power_loss(instant, loss, random));
        repair(again);
        CHECK(segment_bytes(*again, "d") == segment_bytes(*again, "e"));
        check_whole(again);
      }
    }
  }
}

TEST(RepairTakesEachRangeFromTheCopyThatHasIt) {
  auto files = on(make_two_copies(true));
  auto ours = segment_paths(*files, "d");
  auto theirs = segment_paths(*files, "e");
  auto before = segment_bytes(*files, "e");
  damage(*files, ours.begin()->second, 30000, 100);
  damage(*files, theirs.begin()->second, 50000, 100);
  damage(*files, std::next(theirs.begin())->second, 0, 100);
  CHECK(all_repaired(repair(files)));
  CHECK(segment_bytes(*files, "d") == before);
}

TEST(RepairOfWhatIsDamagedInBothIsListedAndChangesNothing) {
  auto files = on(make_two_copies(true));
  auto ours = segment_paths(*files, "d");
  damage(*files, ours.begin()->second, 30000, 100);
  damage(*files, std::next(ours.begin())->second, 10000, 100);
  damage(*files, segment_paths(*files, "e").begin()->second, 30050, 1);
  std::string first = read_whole(*files, ours.begin()->second);
  RepairReport report = repair(files);
  CHECK_EQ(report.ranges.size(), size_t{2});
  const RepairedRange& both = report.ranges[0];
  CHECK(!both.repaired);
  CHECK(both.reason.find("holds no batch that verifies") != std::string::npos);
  CHECK(both.range.last_lsn >= both.range.first_lsn && both.range.first_lsn > 0);
  CHECK(report.ranges[1].repaired);
  CHECK(read_whole(*files, ours.begin()->second) == first);
  CHECK_EQ(scrub(files).size(), size_t{1});
}

TEST(RepairDryRunSaysWhatItWouldDoAndChangesNothing) {
  auto files = on(make_two_copies(true));
  damage(*files, segment_paths(*files, "d").begin()->second, 30000, 100);
  auto before = segment_bytes(*files, "d");
  RepairReport report = repair(files, "e", true);
  CHECK(all_repaired(report));
  CHECK_EQ(report.written_bytes, uint64_t{0});
  CHECK(segment_bytes(*files, "d") == before);
}

TEST(RepairNeedsNoOtherCopyForWhatFollowsFromTheLog) {
  auto files = on(make_two_copies(true));
  for (const auto& [start, path] : segment_paths(*files, "d")) {
    damage(*files, path, 100, 1);
    if (start == last_segment(*files)) break;
    // The zeros at the end, which each of these segments has.
    std::string bytes = read_whole(*files, path);
    if (all_zero(reinterpret_cast<const uint8_t*>(bytes.data()) + kSegment - 8, 8))
      damage(*files, path, kSegment - 8, 8);
  }
  CHECK(scrub(files).size() > 4);
  CHECK(all_repaired(repair(files, "")));
  check_whole(files);
  damage(*files, segment_paths(*files, "d").begin()->second, 5000, 1);
  RepairReport report = repair(files, "");
  CHECK_EQ(report.ranges.size(), size_t{1});
  CHECK(report.ranges[0].reason.find("none was named") != std::string::npos);
}

TEST(RepairRefusesAnotherLog) {
  auto files = on(make_two_copies(true));
  Owner(small_options("f"), files).open_term();
  CHECK_FAILS("WAL_NOT_A_LOG", repair(files, "f"));
  CHECK_FAILS("WAL_NOT_FOUND", repair(files, "g"));
}

TEST(RepairRefusesAHistoryThatWentAnotherWay) {
  // `e` is the same log up to a point, and then another primary's.
  auto files = std::make_shared<MemoryFileSystem>();
  auto append = [&](const std::string& directory, uint64_t seed, uint64_t end) {
    Owner owner(small_options(directory), files);
    owner.open_term();
    while (owner->closed().position < end) {
      owner.append(record_of(seed, owner->closed().lsn + 1, 3000));
      owner.close_batch();
      owner.settle();
    }
    owner->close();
  };
  append("d", 1, kSegment + 9000);
  copy_directory(*files, "d", "e");
  append("d", 1, 3 * kSegment + 9000);
  append("e", 2, 3 * kSegment + 9000);
  auto paths = segment_paths(*files, "d");
  damage(*files, paths[0], 30000, 100);
  damage(*files, paths[2 * kSegment], 30000, 100);
  auto before = read_whole(*files, paths[2 * kSegment]);
  RepairReport report = repair(files);
  CHECK_EQ(report.ranges.size(), size_t{2});
  CHECK(report.ranges[0].repaired);
  CHECK(!report.ranges[1].repaired);
  CHECK(report.ranges[1].reason.find("another history") != std::string::npos ||
        report.ranges[1].reason.find("holds no batch") != std::string::npos);
  CHECK(read_whole(*files, paths[2 * kSegment]) == before);
  // Damaged from where the two parted: what comes next there continues, what is here does not.
  auto other = std::make_shared<MemoryFileSystem>(files->state());
  uint64_t fork = LogReader::open("e", other)->control().history.back().position;
  damage(*other, paths[kSegment], fork % kSegment, 600);
  report = repair(other);
  CHECK(!report.ranges[0].repaired);
  CHECK(report.ranges[0].reason.find("not what this log goes on from") != std::string::npos);
}

TEST(RepairFromAShorterCopySaysWhatIsNotThere) {
  auto files = on(make_two_copies(true));
  auto theirs = segment_paths(*files, "e");
  auto ours = segment_paths(*files, "d");
  damage(*files, ours.rbegin()->second, 6000, 10);
  damage(*files, std::next(ours.rbegin())->second, 6000, 10);
  files->remove(theirs.rbegin()->second);
  damage(*files, std::next(theirs.rbegin())->second, 4096, kSegment - 4096);
  RepairReport report = repair(files);
  CHECK_EQ(report.ranges.size(), size_t{2});
  CHECK(report.ranges[0].reason.find("ends before, or is damaged too") != std::string::npos);
  CHECK(report.ranges[1].reason.find("is missing there too") != std::string::npos);
}

TEST(RepairNeedsAControlFile) {
  auto files = on(make_two_copies(true));
  damage(*files, "d/control", 100);
  CHECK(scrub(files).empty());
  damage(*files, "d/control", kControlCopyBytes + 100);
  CHECK_FAILS("WAL_CORRUPT", scrub(files));
  CHECK_FAILS("WAL_CORRUPT", repair(files));
  files->remove("d/control");
  CHECK_FAILS("WAL_CORRUPT", scrub(files));
  CHECK_FAILS("WAL_CORRUPT", repair(files));
}

TEST(RepairDoesWithoutTheControlFileOfTheOtherCopy) {
  auto files = on(make_two_copies(true));
  damage(*files, segment_paths(*files, "d").begin()->second, 30000, 100);
  files->remove("e/control");
  CHECK(all_repaired(repair(files)));
}

TEST(RepairOfALogThatIsOpenIsRefused) {
  auto files = on(make_two_copies(true));
  Owner owner(small_options(), files);
  CHECK_FAILS("WAL_LOCKED", repair(files));
}

/// A disk that cannot read some blocks of one file, until they are written.
class BadBlocks : public MemoryFileSystem {
 public:
  BadBlocks(DiskState state, std::string path, std::set<uint64_t> blocks)
      : MemoryFileSystem(std::move(state)), path_(std::move(path)), blocks_(std::move(blocks)) {}

  std::unique_ptr<File> open(const std::string& path, OpenMode mode, bool direct) override {
    auto file = MemoryFileSystem::open(path, mode, direct);
    if (path != path_) return file;
    return std::make_unique<BadFile>(std::move(file), blocks_);
  }

 private:
  class BadFile : public File {
   public:
    BadFile(std::unique_ptr<File> file, std::set<uint64_t>& blocks)
        : file_(std::move(file)), blocks_(blocks) {}
    bool direct() const override { return file_->direct(); }
    void write(uint64_t offset, const Slice* slices, size_t count, bool durable) override {
      uint64_t size = 0;
      for (size_t i = 0; i < count; i++) size += slices[i].size;
      for (uint64_t at = offset; at < offset + size; at += kBlock) blocks_.erase(at / kBlock);
      file_->write(offset, slices, count, durable);
    }
    size_t read(uint64_t offset, void* data, size_t size) override {
      for (uint64_t at = offset; at < offset + size; at += kBlock) {
        if (blocks_.contains(at / kBlock)) throw WalFailure("WAL_IO", "pread: I/O error");
      }
      return file_->read(offset, data, size);
    }
    void sync() override { file_->sync(); }
    void allocate(uint64_t size) override { file_->allocate(size); }
    uint64_t size() override { return file_->size(); }

   private:
    std::unique_ptr<File> file_;
    std::set<uint64_t>& blocks_;
  };

  std::string path_;
  std::set<uint64_t> blocks_;
};

TEST(RepairOfBlocksThatCannotBeReadTakesThoseAndNoMore) {
  DiskState disk = make_two_copies(true);
  auto paths = segment_paths(*on(disk), "d");
  for (uint64_t block = 0; block < kSegment / kBlock; block++) {
    auto files = std::make_shared<BadBlocks>(disk, paths.begin()->second,
                                             std::set<uint64_t>{block, (block + 9) % 16});
    std::vector<DamagedRange> found = scrub(files);
    CHECK(!found.empty() && found.size() <= 2);
    CHECK(all_repaired(repair(files)));
    CHECK(scrub(files).empty());
    CHECK(segment_bytes(*files, "d") == segment_bytes(*files, "e"));
  }
}

/// A record that looks like a batch of the log, at the place where it lies.
std::string false_batch(const Control& control, uint64_t position, uint64_t lsn) {
  BatchHeader header{};
  header.magic = kBatchMagic;
  header.length = 256;
  header.version = kFormatVersion;
  header.log_id = control.log_id;
  header.salt = control.salt;
  header.position = position;
  header.first_lsn = lsn;
  header.epoch = control.term.epoch;
  header.opener = control.term.opener;
  header.incarnation = control.term.incarnation;
  header.count = 1;
  header.payload = header.raw_bytes = 128;
  std::string bytes(256, '\0');
  uint32_t length = 124;
  std::memcpy(bytes.data() + kBatchHeaderBytes, &length, sizeof length);
  std::memcpy(bytes.data(), &header, sizeof header);
  header.crc = crc32c(0, reinterpret_cast<const uint8_t*>(bytes.data()) + 8, 248);
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

TEST(RepairIsNotMisledByARecordThatLooksLikeABatch) {
  auto files = std::make_shared<MemoryFileSystem>();
  uint64_t hit = 0;
  {
    Owner owner(small_options(), files);
    owner.open_term();
    while (owner->closed().position < 2 * kSegment) {
      uint64_t position = owner->closed().position;
      uint64_t record = position + kBatchHeaderBytes;
      uint64_t lsn = owner->closed().lsn + 1;
      // Its bytes come after their length, at a multiple of 8 where four are put before them.
      std::string bytes = "----" + false_batch(owner->control(), record + 8, lsn);
      owner.append(bytes + std::string(900, 'x'));
      owner.close_batch();
      owner.settle();
      if (hit == 0 && position > 20000 && position < 40000) hit = position;
    }
    owner->close();
  }
  copy_directory(*files, "d", "e");
  damage(*files, segment_paths(*files, "d")[0], hit + 20, 1);
  std::vector<DamagedRange> found = scrub(files);
  CHECK(!found.empty());
  CHECK_EQ(found[0].from, hit);
  CHECK(all_repaired(repair(files)));
  check_whole(files);
}

}  // namespace
}  // namespace walmirror::test::repair_test
