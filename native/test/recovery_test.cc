// What a crash, a cut or a failed flush leaves behind, one case each.
#include <atomic>

#include "log_fixture.h"

namespace walmirror::test::recovery_test {
namespace {

void append_some(Owner& owner, uint64_t count, uint64_t most = 300) {
  for (uint64_t i = 0; i < count; i++) {
    owner.append(record_of(1, owner->closed().lsn + 1, most));
    owner.close_batch();
    owner.settle();
  }
}

void check_all(Owner& owner, uint64_t last, uint64_t most = 300) {
  Found found = read_all(owner.log());
  CHECK(found.history_is_that_of_its_batches);
  CHECK_EQ(found.last_lsn(), last);
  for (uint64_t i = 0; i < found.records.size(); i++)
    CHECK(found.records[i] == record_of(1, found.first_lsn + i, most));
}

std::shared_ptr<MemoryFileSystem> power_lost(const DiskState& state,
                                             Loss loss = Loss::kAllUnflushed) {
  std::mt19937_64 random(7);
  return std::make_shared<MemoryFileSystem>(after_power_loss(state, loss, random));
}

/// A log of a few segments, left as a kill leaves it.
DiskState rolled_log(uint64_t records = 40) {
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(small_options(), files);
  owner.open_term();
  append_some(owner, records, 4000);
  CHECK(owner->segment_count() > 1);
  return files->state();
}

std::string name_of_last_segment(MemoryFileSystem& files) {
  std::string last;
  for (const std::string& name : files.list("d")) {
    if (name.ends_with(".wal")) last = name;
  }
  return "d/" + last;
}

TEST(RecoveryKeepsASegmentWhoseRenameWasUndoneAndWhoseNameAnUnreadableFileHas) {
  // A life that ends between a rename and the first flush of the segment leaves its name on a file
  // without a header; the next life removes that and renames another; the power loss undoes the
  // removal and the rename.
  auto files = std::make_shared<MemoryFileSystem>(rolled_log());
  std::string name = name_of_last_segment(*files);
  files->rename(name, "d/00000000000000aa.spare");
  files->open(name, OpenMode::kCreate, false)->allocate(65536);
  files->sync_directory("d");
  {
    Owner owner(small_options(), files);
    check_all(owner, 40, 4000);
  }
  CHECK(files->exists(name));
  Owner again(small_options(), files);
  check_all(again, 40, 4000);
}

TEST(RecoveryFlushesTheDirectoryBeforeASpareOfAKilledProcessIsUsed) {
  auto files = power_lost(rolled_log());
  Owner(small_options(), files);  // a rename that was undone leaves a segment under a spare's name
  for (const std::string& name : files->list("d")) {
    if (name.ends_with(".spare")) files->remove("d/" + name);
  }
  files->sync_directory("d");
  // Killed after the file was made, before the directory was flushed.
  files->open("d/00000000000000aa.spare", OpenMode::kCreate, false)->allocate(65536);
  files->full = true;  // so that no other file is made, and the directory flushed for that
  std::vector<std::pair<DiskState, uint64_t>> instants;
  std::atomic<uint64_t> acknowledged{0};
  files->watch([&](const DiskState& state) { instants.emplace_back(state, acknowledged); });
  Owner owner(small_options(), files);
  owner.open_term();
  for (int i = 0; i < 25; i++) {
    append_some(owner, 1, 4000);
    acknowledged = owner->flushed().lsn;
  }
  files->watch(nullptr);
  for (const auto& [state, last] : instants) {
    Owner again(small_options(), power_lost(state));
    CHECK(again->closed().lsn >= last);
  }
}

TEST(RecoveryFlushesTheFirstHeaderAgainWhenNoWatermarkCoversIt) {
  // Killed in the middle of the very first flush: all of it is in the cache, none of it on the
  // disk.
  DiskState killed;
  auto files = std::make_shared<MemoryFileSystem>();
  files->watch([&](const DiskState& state) {
    for (const auto& [number, inode] : state.inodes) {
      SegmentHeader header{};
      if (inode.cache.empty() || inode.cache[0] == nullptr || !inode.dirty.contains(0)) continue;
      std::memcpy(&header, inode.cache[0]->data(), sizeof header);
      if (header.magic == kSegmentMagic) killed = state;
    }
  });
  {
    Owner owner(small_options(), files);
    owner.open_term();
  }
  CHECK(!killed.inodes.empty());
  auto found = std::make_shared<MemoryFileSystem>(killed);
  Owner owner(small_options(), found);
  owner.open_term();
  append_some(owner, 5);
  auto after = power_lost(found->state());
  Owner again(small_options(), after);
  check_all(again, 5);
}

TEST(RecoveryDoesNotBringBackABatchWhoseSegmentLostItsHeader) {
  // The first flush of a segment: all of it reaches the disk but for the header, and the rename of
  // the file does not. Recovery writes the header again, maybe to that very file.
  DiskState torn;
  auto files = std::make_shared<MemoryFileSystem>();
  uint64_t last = 0;
  {
    Owner owner(small_options(), files);
    owner.open_term();
    files->watch([&](const DiskState& state) {
      for (const auto& [number, inode] : state.inodes) {
        if (!inode.dirty.contains(0) || !inode.dirty.contains(kBlock / kSector)) continue;
        uint32_t magic = 0;
        if (inode.cache[0] != nullptr) std::memcpy(&magic, inode.cache[0]->data(), sizeof magic);
        if (magic != kSegmentMagic || !torn.inodes.empty()) continue;
        torn = state;
        torn.inodes[number].dirty.erase(0);
      }
    });
    while (torn.inodes.empty()) {
      last = owner->closed().lsn;
      append_some(owner, 1, 4000);
    }
    files->watch(nullptr);
  }
  CHECK(torn.directories.size() > 1);
  torn.directories.resize(1);
  auto found = power_lost(torn, Loss::kNothing);
  {
    Owner owner(small_options(), found);
    check_all(owner, last, 4000);
    found = power_lost(found->state());
  }
  Owner again(small_options(), found);
  check_all(again, last, 4000);
}

TEST(RecoveryAfterACutOfAnOldPrimarysTailFindsNoCorruption) {
  // The tail was flushed in several steps, so that its later batches call its earlier ones durable;
  // they stay in the file behind the cut, framed by this very node.
  auto files = std::make_shared<MemoryFileSystem>();
  Place fork;
  {
    Owner owner(small_options(), files);
    owner.open_term();
    append_some(owner, 5);
    fork = owner->flushed();
    append_some(owner, 30);
    owner->close();
  }
  DiskState cut;
  {
    Owner owner(small_options(), files);
    Id other{};
    other.fill(0xbb);
    owner->store_role(Role::kStandby, {9, other, 1}, "b", "");
    owner->truncate(fork.position, "tail.diverged");
    CHECK_EQ(owner->closed().position, fork.position);
    cut = files->state();
  }
  Owner again(small_options(), std::make_shared<MemoryFileSystem>(cut));
  CHECK_EQ(again->closed().position, fork.position);
  check_all(again, 5);
  Owner after(small_options(), power_lost(cut));
  check_all(after, 5);
}

TEST(RecoveryAfterAPowerLossAtAnyInstantOfACutEndsAtTheForkOrAtTheOldEnd) {
  auto files = std::make_shared<MemoryFileSystem>();
  Place fork;
  uint64_t end = 0;
  std::string tail;
  {
    Owner owner(small_options(), files);
    owner.open_term();
    append_some(owner, 5, 4000);
    fork = owner->flushed();
    append_some(owner, 40, 4000);
    tail = read_bytes(owner.log(), fork.position);
    owner->close();
    end = owner->closed().position;
    CHECK_EQ(tail.size(), end - fork.position);
  }
  std::vector<DiskState> instants;
  bool done = false;
  {
    Owner owner(small_options(), files);
    files->watch([&](const DiskState& state) { instants.push_back(state); });
    owner->truncate(fork.position, "tail.diverged");
    files->watch(nullptr);
    done = true;
  }
  CHECK(done && instants.size() > 5);
  for (const DiskState& state : instants) {
    for (Loss loss : {Loss::kAllUnflushed, Loss::kNothing, Loss::kSomeSectors}) {
      std::shared_ptr<MemoryFileSystem> found = power_lost(state, loss);
      Owner owner(small_options(), found);
      uint64_t position = owner->closed().position;
      CHECK(position == fork.position || position == end);
      check_all(owner, position == end ? 45 : 5, 4000);
      // Nothing goes that is not kept aside, whole (SAFETY 2.5).
      if (position == end) continue;
      std::string aside(kSegmentHeaderBytes + tail.size() + 1, '\0');
      auto file = found->open("d/tail.diverged", OpenMode::kRead, false);
      CHECK_EQ(file->read(0, aside.data(), aside.size()), aside.size() - 1);
      CHECK(aside.compare(kSegmentHeaderBytes, tail.size(), tail) == 0);
    }
  }
}

TEST(RecoveryForgetsATermWhoseOpeningNeverReachedTheDisk) {
  // The control file may be written between the framing of the opening and its flush.
  for (int round = 0; round < 20; round++) {
    auto files = std::make_shared<MemoryFileSystem>();
    std::vector<DiskState> instants;
    {
      Owner owner(small_options(), files);
      owner.open_term();
      // Into another segment: one that holds an opening says the history itself.
      append_some(owner, 40, 4000);
      Term next = owner->term();
      next.incarnation++;
      owner->store_term(next);
      files->watch([&](const DiskState& state) { instants.push_back(state); });
      owner->frame_opening();
      owner->store_role(Role::kPrimary, next, "", "");
      owner.settle();
      files->watch(nullptr);
    }
    for (const DiskState& state : instants) {
      for (Loss loss : {Loss::kAllUnflushed, Loss::kNothing}) {
        Owner owner(small_options(), power_lost(state, loss));
        check_all(owner, 40, 4000);
      }
    }
  }
}

TEST(RecoveryKnowsTheTermOfAFillerWhoseOpeningNeverReachedTheDisk) {
  // An opening that does not fit begins with a filler. Its flush, and a watermark that is stored
  // behind it, may come before the opening is framed.
  int fillers = 0;
  for (int round = 0; round < (kSlow ? 2 : 10); round++) {
    auto files = std::make_shared<MemoryFileSystem>();
    std::vector<DiskState> instants;
    {
      Owner owner(small_options(), files);
      owner.open_term();
      while (owner->closed().position < 65536 - 400) {
        owner.append(record_of(1, owner->closed().lsn + 1));
        owner.close_batch();
      }
      owner.settle();
      Term next = owner->term();
      next.incarnation++;
      owner->store_term(next);
      files->watch([&](const DiskState& state) { instants.push_back(state); });
      while (!owner->frame_opening()) owner.wait_for_progress();
      owner.settle();
      files->watch(nullptr);
    }
    for (const DiskState& state : instants) {
      for (Loss loss : {Loss::kAllUnflushed, Loss::kNothing}) {
        Owner owner(small_options(), power_lost(state, loss));
        CHECK(read_all(owner.log()).history_is_that_of_its_batches);
        fillers += owner->closed().position == 65536 + kFirstBatch ? 1 : 0;
      }
    }
  }
  CHECK(fillers > 0);
}

TEST(RecoveryOfAPaddedLogLetsNoPartOfATornBatchComeBack) {
  // Of the last batch the first sector is whole, and one of the zeros behind it is not: the log
  // ends before it. What is written there next has the same zeros, and a power loss may keep those
  // alone.
  LogOptions options = small_options();
  options.padded = true;
  auto files = std::make_shared<MemoryFileSystem>();
  uint64_t torn;
  {
    Owner owner(options, files);
    owner.open_term();
    append_some(owner, 5);
    torn = owner->closed().position - kBlock;
    files = std::make_shared<MemoryFileSystem>(files->state());
  }
  uint64_t bit = (torn % options.segment_bytes + 3 * kSector + 100) * 8;
  std::string segment = name_of_last_segment(*files);
  files->flip(segment, bit);
  { check_all(*std::make_unique<Owner>(options, files), 4); }
  auto again = std::make_shared<MemoryFileSystem>(files->state());
  again->flip(segment, bit);
  Owner owner(options, again);
  check_all(owner, 4);
}

TEST(RecoverySaysHowMuchOfATornTailItCut) {
  DiskState torn;
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(small_options(), files);
  owner.open_term();
  append_some(owner, 3);
  files->watch([&](const DiskState& state) {
    if (torn.inodes.empty()) torn = state;
  });
  owner.append(std::string(4000, 'x'));
  owner.append(std::string(4000, 'y'));
  owner.close_batch();
  owner.settle();
  files->watch(nullptr);
  // The first part of the write reached the disk, the rest did not.
  for (auto& [number, inode] : torn.inodes) {
    if (inode.dirty.size() > 4)
      inode.dirty.erase(std::next(inode.dirty.begin(), 4), inode.dirty.end());
  }
  Owner again(small_options(), power_lost(torn, Loss::kNothing));
  check_all(again, 3);
  CHECK(again->recovery().cut_bytes > 0);
}

}  // namespace
}  // namespace walmirror::test::recovery_test
