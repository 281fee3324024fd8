#include "control_file.h"

#include <cstring>

#include "crc32c.h"
#include "disks.h"
#include "test.h"

namespace walmirror::test::control_file_test {
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
  Rule rule{CommitLevel::kRemoteApply, std::string(kRuleTextBytes - 1, 'r'), {}, true};
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
  CHECK_EQ(ControlFile::open(files, "d", true)->current().name, "a");
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

enum class Harm { kUnreadable, kGarbage, kTorn, kZeros };
constexpr Harm kHarms[] = {Harm::kUnreadable, Harm::kGarbage, Harm::kTorn, Harm::kZeros};

void harm(MemoryFileSystem& files, uint64_t copy, Harm how, const std::string& directory = "d") {
  std::string path = directory + "/control";
  uint64_t start = copy * kControlCopyBytes;
  if (how == Harm::kUnreadable) return files.spoil(path, start / kSector + 5);
  std::string bytes(kControlCopyBytes, how == Harm::kGarbage ? '\x5a' : '\0');
  if (how == Harm::kTorn) bytes.resize(kSector);
  Slice slice{bytes.data(), bytes.size()};
  files.open(path, OpenMode::kReadWrite, false)->write(start, &slice, 1, true);
}

void check_told(MemoryFileSystem& files, bool read_only) {
  CHECK_EQ(ControlFile::open(files, "d", read_only)->current().watermark.position, 5000u);
}

/// What was told of is on both; a later watermark may be on the bad one alone.
void store_and_harm(MemoryFileSystem& files, uint64_t copy, int updates, Harm how) {
  auto control = ControlFile::create(files, "d", sample());
  for (int i = 0; i < updates; i++) remember(*control, 1000, ControlFile::Copies::kOne);
  remember(*control, 5000, ControlFile::Copies::kBoth);
  harm(files, copy, how);
}

TEST(ControlFileWithOneBadCopyIsReadFromTheOtherAndIsWholeAgain) {
  for (int which = 0; which < 16; which++) {
    uint64_t copy = which % 2;
    MemoryFileSystem files;
    store_and_harm(files, copy, which / 2 % 2, kHarms[which / 4]);
    check_told(files, true);
    check_told(files, false);
    // That opening made it whole, on the disk: the copy that it was read from is no longer needed.
    std::mt19937_64 random(1);
    MemoryFileSystem later(after_power_loss(files.state(), Loss::kAllUnflushed, random));
    harm(later, 1 - copy, Harm::kGarbage);
    check_told(later, false);
    harm(later, copy, Harm::kGarbage);
    auto control = ControlFile::open(later, "d", false);
    remember(*control, 6000, ControlFile::Copies::kOne);
    CHECK_EQ(ControlFile::open(later, "d", true)->current().watermark.position, 6000u);
  }
}

TEST(ControlFileThatIsOnlyReadKeepsItsBadCopyAsItIs) {
  for (uint64_t copy = 0; copy < 2; copy++) {
    MemoryFileSystem files;
    store_and_harm(files, copy, 0, Harm::kUnreadable);
    check_told(files, true);
    AlignedBuffer bytes(kControlCopyBytes);
    auto file = files.open("d/control", OpenMode::kRead, false);
    CHECK_FAILS("WAL_IO", file->read(copy * kControlCopyBytes, bytes.data(), kControlCopyBytes));
  }
}

TEST(ControlFileWithOneBadCopyKeepsTheOtherThroughAPowerLossAtAnyInstantOfItsMending) {
  std::mt19937_64 random(3);
  int instants = 0;
  for (int which = 0; which < 16; which++) {
    MemoryFileSystem files;
    store_and_harm(files, which % 2, which / 2 % 2, kHarms[which / 4]);
    files.watch([&](const DiskState& state) {
      for (int round = 0; round < 20; round++) {
        MemoryFileSystem found(after_power_loss(state, Loss::kSomeSectors, random));
        check_told(found, false);
        instants++;
      }
    });
    check_told(files, false);
    files.watch(nullptr);
  }
  CHECK(instants >= 16 * 20);
}

TEST(ControlFileWithTwoBadCopiesIsRefusedByName) {
  for (Harm first : kHarms) {
    for (Harm second : kHarms) {
      MemoryFileSystem files;
      ControlFile::create(files, "d", sample());
      harm(files, 0, first);
      harm(files, 1, second);
      bool unreadable = first == Harm::kUnreadable || second == Harm::kUnreadable;
      try {
        ControlFile::open(files, "d", false);
        throw CheckFailed("it was opened");
      } catch (const WalFailure& failure) {
        CHECK_EQ(failure.code, unreadable ? "WAL_IO" : "WAL_CORRUPT");
        CHECK_EQ(failure.file, "d/control");
      }
    }
  }
}

TEST(ALogOpensWithOneBadCopyOfItsControlFileAndGoesOn) {
  for (int which = 0; which < 8; which++) {
    auto files = std::make_shared<MemoryFileSystem>();
    {
      Owner owner(small_options(), files);
      owner.open_term();
      append_to(owner, 1, 50);
      if (which % 4 < 2) owner->close();
    }
    harm(*files, which % 2, which < 4 ? Harm::kUnreadable : Harm::kGarbage);
    Owner owner(small_options(), files);
    check_records(owner.log(), 1, 50);
    owner.open_term();
    append_to(owner, 1, 60);
    owner->close();
    harm(*files, 1 - which % 2, Harm::kGarbage);
    check_records(Owner(small_options(), files).log(), 1, 60);
  }
}

TEST(ALogWithTwoDirectoriesMendsABadCopyOfEitherControlFile) {
  const std::vector<std::string> both{"a", "b"};
  for (int which = 0; which < 8; which++) {
    const std::string& bad = both[which / 2 % 2];
    auto disks = std::make_shared<Disks>(both);
    {
      Owner owner(options_on(both), disks);
      owner.open_term();
      append_to(owner, 1, 30);
      owner->close();
    }
    harm(*(*disks)[bad].files, which % 2, which < 4 ? Harm::kUnreadable : Harm::kGarbage, bad);
    {
      Owner owner(options_on(both), disks);
      for (const std::string& name : both) CHECK_EQ(state_of(owner.log(), name), "in");
      owner.open_term();
      append_to(owner, 1, 40);
      owner->close();
    }
    harm(*(*disks)[bad].files, 1 - which % 2, Harm::kGarbage, bad);
    Owner owner(options_on(both), disks);
    for (const std::string& name : both) CHECK_EQ(state_of(owner.log(), name), "in");
    check_records(owner.log(), 1, 40);
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
}  // namespace walmirror::test::control_file_test
