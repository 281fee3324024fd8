// The tail that a cut sets aside: whole, durable and named before a byte of the log goes.
#include "disks.h"

namespace walmirror::test::set_aside_test {
namespace {

constexpr const char* kName = "t.diverged";

/// A log that was closed by its primary: `common` records up to the fork, `more` past it.
struct Forked {
  std::shared_ptr<MemoryFileSystem> files = std::make_shared<MemoryFileSystem>();
  Place fork;
  Place end;
  std::string tail;
};

void append_some(Owner& owner, int count) {
  for (int i = 0; i < count; i++) {
    owner.append(record_of(5, owner->closed().lsn + 1, 4000));
    owner.close_batch();
  }
  owner.settle();
}

Forked make_forked(int common = 5, int more = 40) {
  Forked log;
  Owner owner(small_options(), log.files);
  owner.open_term();
  append_some(owner, common);
  log.fork = owner->flushed();
  append_some(owner, more);
  log.end = owner->flushed();
  log.tail = read_bytes(owner.log(), log.fork.position);
  owner->close();
  return log;
}

std::string content(FileSystem& files, const std::string& path) {
  auto file = files.open(path, OpenMode::kRead, false);
  std::string bytes(file->size(), '\0');
  file->read(0, bytes.data(), bytes.size());
  return bytes;
}

size_t count_names(FileSystem& files, const std::string& directory, const std::string& end) {
  size_t count = 0;
  for (const std::string& name : files.list(directory)) count += name.ends_with(end) ? 1 : 0;
  return count;
}

/// Turns a bit of the byte at this position of the log.
void flip_at(MemoryFileSystem& files, const std::string& directory, uint64_t position) {
  uint64_t start = align_down(position, small_options().segment_bytes);
  char number[17];
  std::snprintf(number, sizeof number, "%016llx", static_cast<unsigned long long>(start));
  for (const std::string& name : files.list(directory)) {
    if (name.ends_with(std::string("-") + number + ".wal"))
      files.flip(directory + "/" + name, 8 * (position - start) + 3);
  }
}

bool holds_tail(FileSystem& files, const std::string& path, const std::string& tail) {
  std::string bytes = content(files, path);
  return bytes.size() == kSegmentHeaderBytes + tail.size() &&
         bytes.compare(kSegmentHeaderBytes, tail.size(), tail) == 0;
}

TEST(ATailThatIsSetAsideTellsWhereItBeginsAndEnds) {
  Forked log = make_forked();
  Owner owner(small_options(), log.files);
  owner->truncate(log.fork.position, kName);
  std::string bytes = content(*log.files, std::string("d/") + kName);
  CHECK(holds_tail(*log.files, std::string("d/") + kName, log.tail));
  const char* reason;
  CHECK(check_segment_header(reinterpret_cast<const uint8_t*>(bytes.data()), &reason));
  SegmentHeader header;
  TailHeader tail;
  std::memcpy(&header, bytes.data(), sizeof header);
  std::memcpy(&tail, bytes.data() + kTailHeaderAt, sizeof tail);
  CHECK_EQ(header.start, log.fork.position);
  CHECK_EQ(header.first_lsn, log.fork.lsn + 1);
  CHECK_EQ(tail.end, log.end.position);
  CHECK_EQ(tail.last_lsn, log.end.lsn);
}

TEST(ATailThatIsSetAsideUnderANameThatIsTakenLeavesThatFileAsItIs) {
  Forked log = make_forked();
  std::string other = "another tail";
  {
    auto file = log.files->open(std::string("d/") + kName, OpenMode::kCreate, false);
    Slice slice{other.data(), other.size()};
    file->write(0, &slice, 1, true);
  }
  Owner owner(small_options(), log.files);
  owner->truncate(log.fork.position, kName);
  CHECK(content(*log.files, std::string("d/") + kName) == other);
  CHECK(holds_tail(*log.files, "d/t-2.diverged", log.tail));
}

TEST(ATailThatCannotBeSetAsideLeavesTheLogAsItIsAndNothingElse) {
  int refused = 0;
  for (bool sync : {false, true}) {
    for (int n = 1; n < 6; n++) {
      Forked log = make_forked();
      Owner owner(small_options(), log.files);
      log.files->fail_errno = ENOSPC;
      log.files->fail_only(".diverged");
      (sync ? log.files->fail_sync_in : log.files->fail_write_in) = n;
      try {
        owner->truncate(log.fork.position, kName);
        continue;
      } catch (const WalFailure& failure) {
        CHECK_EQ(failure.code, "WAL_NO_SPACE");
      }
      refused++;
      CHECK_EQ(owner->closed().position, log.end.position);
      CHECK_EQ(read_all(owner.log()).last_lsn(), log.end.lsn);
      CHECK_EQ(count_names(*log.files, "d", ".new"), 0u);
      CHECK_EQ(count_names(*log.files, "d", ".diverged"), 0u);
      owner->truncate(log.fork.position, kName);
      CHECK(holds_tail(*log.files, std::string("d/") + kName, log.tail));
      CHECK_EQ(read_all(owner.log()).last_lsn(), log.fork.lsn);
    }
  }
  CHECK(refused >= 2);
}

TEST(ATailThatThereIsNoRoomForIsNotBegun) {
  Forked log = make_forked();
  Owner owner(small_options(), log.files);
  log.files->no_room_for(".diverged");
  log.files->fail_only(".diverged");
  log.files->fail_write_in = 1;
  CHECK_FAILS("WAL_NO_SPACE", owner->truncate(log.fork.position, kName));
  CHECK_EQ(log.files->fail_write_in.load(), 1);  // nothing was written
  CHECK_EQ(count_names(*log.files, "d", ".new"), 0u);
  CHECK_EQ(read_all(owner.log()).last_lsn(), log.end.lsn);
  log.files->no_room_for("/none");
  log.files->fail_write_in = 0;
  owner->truncate(log.fork.position, kName);
  CHECK(holds_tail(*log.files, std::string("d/") + kName, log.tail));
}

TEST(ATailThatDoesNotVerifyIsNotCut) {
  Forked log = make_forked();
  Owner owner(small_options(), log.files);
  // In the middle of what would go.
  uint64_t at = (log.fork.position + log.end.position) / 2;
  flip_at(*log.files, "d", at);
  CHECK_FAILS("WAL_CORRUPT", owner->truncate(log.fork.position, kName));
  CHECK_EQ(owner->closed().position, log.end.position);
  CHECK_EQ(count_names(*log.files, "d", ".diverged"), 0u);
  CHECK_EQ(count_names(*log.files, "d", ".new"), 0u);
  flip_at(*log.files, "d", at);
  owner->truncate(log.fork.position, kName);
  CHECK(holds_tail(*log.files, std::string("d/") + kName, log.tail));
}

struct ForkedTwice {
  std::vector<std::string> names{"a", "b"};
  std::shared_ptr<Disks> disks = std::make_shared<Disks>(names);
  Place fork;
  Place end;
  std::string tail;
};

ForkedTwice make_forked_twice() {
  ForkedTwice log;
  Owner owner(options_on(log.names), log.disks);
  owner.open_term();
  append_to(owner, 1, 10);
  log.fork = owner->flushed();
  append_to(owner, 1, 60);
  log.end = owner->flushed();
  log.tail = read_bytes(owner.log(), log.fork.position);
  owner->close();
  return log;
}

TEST(ATailThatOneOfTwoDirectoriesHasNoRoomForIsCutInNeitherAndNoneIsDropped) {
  for (const std::string& full : std::vector<std::string>{"a", "b"}) {
    ForkedTwice log = make_forked_twice();
    Owner owner(options_on(log.names), log.disks);
    (*log.disks)[full].files->no_room_for(".diverged");
    CHECK_FAILS("WAL_NO_SPACE", owner->truncate(log.fork.position, kName));
    CHECK_EQ(owner->closed().position, log.end.position);
    check_records(owner.log(), 1, log.end.lsn);
    for (const std::string& name : log.names) {
      CHECK_EQ(state_of(owner.log(), name), "in");
      CHECK_EQ(count_names(*log.disks, name, ".new"), 0u);
      CHECK_EQ(count_names(*log.disks, name, ".diverged"), 0u);
    }
    (*log.disks)[full].files->no_room_for("/none");
    owner->truncate(log.fork.position, kName);
    check_records(owner.log(), 1, log.fork.lsn);
    for (const std::string& name : log.names)
      CHECK(holds_tail(*log.disks, name + "/" + kName, log.tail));
  }
}

TEST(ATailThatIsDamagedInOneOfTwoDirectoriesIsSetAsideWholeInBoth) {
  for (int both = 0; both < 2; both++) {
    ForkedTwice log = make_forked_twice();
    Owner owner(options_on(log.names), log.disks);
    uint64_t third = (log.end.position - log.fork.position) / 3;
    // Each has damage of its own.
    flip_at(*(*log.disks)["a"].files, "a", log.fork.position + third);
    if (both == 1) flip_at(*(*log.disks)["b"].files, "b", log.fork.position + 2 * third);
    owner->truncate(log.fork.position, kName);
    check_records(owner.log(), 1, log.fork.lsn);
    for (const std::string& name : log.names)
      CHECK(holds_tail(*log.disks, name + "/" + kName, log.tail));
  }
}

TEST(ATailThatACrashLeftHalfSetAsideGoesWithTheNextOpening) {
  Forked log = make_forked();
  {
    auto file = log.files->open("d/t.diverged.new", OpenMode::kCreate, false);
    Slice slice{log.tail.data(), log.tail.size() / 2};
    file->write(0, &slice, 1, true);
  }
  Owner owner(small_options(), log.files);
  CHECK_EQ(count_names(*log.files, "d", ".new"), 0u);
  CHECK_EQ(read_all(owner.log()).last_lsn(), log.end.lsn);
}

TEST(ATailIsAsideWholeInBothDirectoriesBeforeAnythingGoesAtAnyInstantOfACut) {
  const std::vector<std::string> both{"a", "b"};
  auto disks = std::make_shared<Disks>(both);
  Place fork;
  Place end;
  std::string tail;
  {
    Owner owner(options_on(both), disks);
    owner.open_term();
    append_to(owner, 1, 10);
    fork = owner->flushed();
    append_to(owner, 1, 60);
    end = owner->flushed();
    tail = read_bytes(owner.log(), fork.position);
    owner->close();
  }
  std::vector<Disks::States> instants;
  {
    Owner owner(options_on(both), disks);
    disks->watch([&](const Disks::States& states) { instants.push_back(states); });
    owner->truncate(fork.position, kName);
    disks->watch(nullptr);
  }
  CHECK(instants.size() > 10);
  int cut = 0;
  for (size_t i = 0; i < instants.size(); i += kSlow ? 5 : 1) {
    for (Loss loss : {Loss::kAllUnflushed, Loss::kNothing, Loss::kSomeSectors}) {
      auto found = Disks::after_loss(instants[i], loss, i);
      Owner owner(options_on(both), found);
      uint64_t position = owner->closed().position;
      CHECK(position == fork.position || position == end.position);
      check_records(owner.log(), 1, position == end.position ? end.lsn : fork.lsn);
      CHECK_EQ(count_names(*found, "a", ".new") + count_names(*found, "b", ".new"), 0u);
      if (position == end.position) continue;
      cut++;
      for (const std::string& name : both) CHECK(holds_tail(*found, name + "/" + kName, tail));
      // The power goes again, once the cut is repeated.
      auto again = Disks::after_loss(found->states(), Loss::kAllUnflushed, i);
      Owner after(options_on(both), again);
      CHECK_EQ(after->closed().position, fork.position);
      check_records(after.log(), 1, fork.lsn);
    }
  }
  CHECK(cut > 3);
}

}  // namespace
}  // namespace walmirror::test::set_aside_test
