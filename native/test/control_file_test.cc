#include "control_file.h"

#include <cstring>

#include "memory_file_system.h"
#include "test.h"

namespace walmirror::test {
namespace {

Control sample() {
  Control control;
  control.segment_bytes = 65536;
  control.max_record_bytes = 4096;
  control.term = {1, {}, 1};
  control.name = "a";
  return control;
}

void flip(MemoryFileSystem& files, uint64_t offset) {
  auto file = files.open("d/control", OpenMode::kReadWrite, false);
  uint8_t byte;
  file->read(offset, &byte, 1);
  byte ^= 1;
  Slice slice{&byte, 1};
  file->write(offset, &slice, 1, true);
}

/// Changes many sectors of a copy, so that one of which only some are written does not verify.
void remember(ControlFile& control, uint64_t position, ControlFile::Copies copies) {
  control.update(copies, [&](Control& now) {
    now.watermark = {position, position / 100, 7};
    now.history.assign(200, {{1, {}, 1}, position, position});
  });
}

TEST(ControlFileGivesBackWhatWasStored) {
  MemoryFileSystem files;
  {
    auto control = ControlFile::create(files, "d", sample());
    control->update(ControlFile::Copies::kBoth, [](Control& now) {
      now.role = Role::kFenced;
      now.clean = true;
      now.primary_address = std::string(300, 'x');
      now.history.assign(300, {{9, {}, 2}, 5, 6});
      now.history.back().lsn = 77;
    });
  }
  Control found = ControlFile::open(files, "d", true)->current();
  CHECK(found.role == Role::kFenced && found.clean && !found.cut_under_way);
  CHECK_EQ(found.primary_address, std::string(127, 'x'));
  CHECK_EQ(found.history.size(), 256u);
  CHECK_EQ(found.history.back().lsn, 77u);
}

TEST(ControlFileThatIsNotThereIsToldFromOneThatIsBad) {
  MemoryFileSystem files;
  CHECK(ControlFile::open(files, "d", false) == nullptr);
  ControlFile::create(files, "d", sample());
  flip(files, 100);
  CHECK_EQ(ControlFile::open(files, "d", false)->current().name, "a");
  flip(files, kControlCopyBytes + 16000);
  CHECK_FAILS("WAL_CORRUPT", ControlFile::open(files, "d", false));
}

TEST(ControlFileStoredOnBothCopiesSurvivesTheLossOfEither) {
  for (uint64_t copy = 0; copy < 2; copy++) {
    for (int updates = 0; updates < 3; updates++) {
      MemoryFileSystem files;
      auto control = ControlFile::create(files, "d", sample());
      for (int i = 0; i < updates; i++) remember(*control, 1000, ControlFile::Copies::kOne);
      remember(*control, 5000, ControlFile::Copies::kBoth);
      flip(files, copy * kControlCopyBytes + 9000);
      CHECK_EQ(ControlFile::open(files, "d", false)->current().watermark.position, 5000u);
    }
  }
}

TEST(ControlFileIsWholeAfterAPowerLossAtAnyInstant) {
  std::mt19937_64 random(1);
  MemoryFileSystem files;
  uint64_t stored = 0;
  int instants = 0;
  files.watch([&](const DiskState& state) {
    for (int round = 0; round < 30; round++) {
      Loss loss = round == 0   ? Loss::kAllUnflushed
                  : round == 1 ? Loss::kNothing
                               : Loss::kSomeSectors;
      MemoryFileSystem found(after_power_loss(state, loss, random));
      auto control = ControlFile::open(found, "d", false);
      CHECK(control != nullptr || stored == 0);
      if (control != nullptr) CHECK(control->current().watermark.position >= stored);
      instants++;
    }
  });
  auto control = ControlFile::create(files, "d", sample());
  for (uint64_t position = 1000; position < 20000; position += 1000) {
    bool both = position % 3000 == 0;
    remember(*control, position, both ? ControlFile::Copies::kBoth : ControlFile::Copies::kOne);
    stored = position;
  }
  CHECK(instants > 500);
}

TEST(ControlFileIsWholeAfterAKillInTheMiddleOfAWriteAndThenAPowerLoss) {
  // The copy that the killed process was writing is in the cache, whole, and not on the disk. The
  // next process reads it; overwriting the other copy before this one is flushed would leave the
  // disk with none.
  std::mt19937_64 random(2);
  MemoryFileSystem files;
  auto control = ControlFile::create(files, "d", sample());
  std::vector<DiskState> killed;
  files.watch([&](const DiskState& state) { killed.push_back(state); });
  remember(*control, 1000, ControlFile::Copies::kBoth);
  for (const DiskState& state : killed) {
    MemoryFileSystem next(state);
    auto opened = ControlFile::open(next, "d", false);
    std::vector<DiskState> instants;
    next.watch([&](const DiskState& instant) { instants.push_back(instant); });
    remember(*opened, 2000, ControlFile::Copies::kOne);
    for (const DiskState& instant : instants) {
      for (int round = 0; round < 20; round++) {
        MemoryFileSystem found(after_power_loss(instant, Loss::kSomeSectors, random));
        ControlFile::open(found, "d", false);
      }
    }
  }
}

}  // namespace
}  // namespace walmirror::test
