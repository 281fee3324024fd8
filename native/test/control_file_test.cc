#include "control_file.h"

#include <cstring>

#include "crc32c.h"
#include "log_fixture.h"
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

Id node(uint8_t seed) {
  Id id{};
  id.fill(seed);
  return id;
}

Rule longest_rule() {
  Rule rule{CommitLevel::kRemoteApply, std::string(kRuleTextBytes - 1, 'r'), {}};
  for (uint8_t i = 0; i < kMaxMembers; i++) rule.members.push_back(node(i));
  return rule;
}

TEST(ControlFileGivesBackTheRuleAndTheLastContact) {
  MemoryFileSystem files;
  auto control = ControlFile::create(files, "d", sample());
  CHECK(!ControlFile::open(files, "d", true)->current().rule);
  for (const Rule& rule : {Rule{}, longest_rule()}) {
    control->update(ControlFile::Copies::kBoth, [&](Control& now) {
      now.rule = rule;
      now.contact_us = 77;
      now.history.assign(256, {{9, {}, 2}, 5, 6});
    });
    Control found = ControlFile::open(files, "d", true)->current();
    CHECK(found.rule == rule);
    CHECK_EQ(found.contact_us, 77u);
    CHECK_EQ(found.history.size(), 256u);
  }
  control->update(ControlFile::Copies::kBoth, [](Control& now) { now.rule.reset(); });
  CHECK(!ControlFile::open(files, "d", true)->current().rule);
}

/// A value in both copies, under a checksum that is right.
void forge(MemoryFileSystem& files, uint64_t offset, uint32_t value) {
  auto file = files.open("d/control", OpenMode::kReadWrite, false);
  for (uint64_t copy = 0; copy < 2; copy++) {
    AlignedBuffer bytes(kControlCopyBytes);
    file->read(copy * kControlCopyBytes, bytes.data(), kControlCopyBytes);
    std::memcpy(bytes.data() + offset, &value, sizeof value);
    uint32_t crc = crc32c(0, bytes.data() + 8, kControlCopyBytes - 8);
    std::memcpy(bytes.data() + 4, &crc, sizeof crc);
    Slice slice{bytes.data(), kControlCopyBytes};
    file->write(copy * kControlCopyBytes, &slice, 1, true);
  }
}

TEST(ControlFileWithMoreMembersOrLevelsThanThereCanBeIsRefused) {
  struct {
    uint64_t offset;
    uint32_t most;
  } const fields[] = {{offsetof(ControlBlock, rule_level), 5},
                      {offsetof(ControlBlock, rule_members), kMaxMembers}};
  for (const auto& field : fields) {
    MemoryFileSystem files;
    Control control = sample();
    control.rule = longest_rule();
    ControlFile::create(files, "d", control);
    forge(files, field.offset, field.most);
    CHECK(ControlFile::open(files, "d", true) != nullptr);
    for (uint32_t value : {field.most + 1, UINT32_MAX}) {
      forge(files, field.offset, value);
      CHECK_FAILS("WAL_CORRUPT", ControlFile::open(files, "d", true));
    }
  }
}

TEST(ARuleIsStoredWithItsTermAndForgottenWithIt) {
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(small_options(), files);
  Rule rule{CommitLevel::kRemoteFlush, "ANY 1 (*)", {}};
  Term first{1, owner->control().node_id, 1};
  owner->store_term(first, rule);
  CHECK(owner->control().rule == rule);
  rule.members.push_back(node(1));
  owner->store_rule(rule);
  CHECK(owner->control().rule == rule);
  // The same term: whose name or address changed.
  owner->store_role(Role::kStandby, first, "b", "");
  CHECK(owner->control().rule == rule);
  owner->store_role(Role::kStandby, {1, first.opener, 2}, "b", "");
  CHECK(!owner->control().rule);
  owner->store_rule(rule);
  owner->store_contact(9);
  owner->close();
  Control found = ControlFile::open(*files, "d", true)->current();
  CHECK(found.rule == rule);
  CHECK_EQ(found.contact_us, 9u);
}

TEST(ARuleThatDoesNotFitIsRefusedAndNothingIsStored) {
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(small_options(), files);
  owner->store_rule(longest_rule());
  Rule many = longest_rule();
  many.members.push_back(node(99));
  Rule text = longest_rule();
  text.standbys += 'r';
  Rule zero = longest_rule();
  zero.standbys[5] = '\0';
  for (const Rule& rule : {many, text, zero}) {
    CHECK_FAILS("WAL_UNSUPPORTED", owner->store_rule(rule));
    CHECK_FAILS("WAL_UNSUPPORTED", owner->store_term({1, {}, 1}, rule));
    CHECK(owner->control().rule == longest_rule());
  }
  CHECK(!owner->failure());
}

TEST(PowerLossAtAnyInstantLeavesTheOldRuleOrTheNewAndNoTermWithoutItsOwn) {
  auto files = std::make_shared<MemoryFileSystem>();
  std::mt19937_64 random(5);
  Rule old{CommitLevel::kRemoteFlush, "ANY 1 (*)", {node(1)}};
  Rule fresh{CommitLevel::kLocal, "", {}};
  int instants = 0;
  {
    Owner owner(small_options(), files);
    Term term{1, owner->control().node_id, 1};
    owner->store_term(term, old);
    files->watch([&](const DiskState& state) {
      for (int round = 0; round < 20; round++) {
        MemoryFileSystem found(after_power_loss(state, Loss::kSomeSectors, random));
        Control control = ControlFile::open(found, "d", true)->current();
        CHECK(control.rule == (control.term == term ? old : fresh));
        instants++;
      }
    });
    owner->store_term({1, term.opener, 2}, fresh);
    files->watch(nullptr);
  }
  CHECK(instants >= 40);
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
