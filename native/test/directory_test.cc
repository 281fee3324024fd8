// What people and other programs do to a log's directory: refused by name, and nothing is removed
// that may be needed.
#include "log_fixture.h"

namespace walmirror::test::directory_test {
namespace {

std::shared_ptr<MemoryFileSystem> rolled_log() {
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(small_options(), files);
  owner.open_term();
  for (uint64_t lsn = 1; lsn <= 60; lsn++) {
    owner.append(record_of(4, lsn, 4000));
    owner.close_batch();
  }
  owner->close();
  return files;
}

std::vector<std::string> segments(MemoryFileSystem& files) {
  std::vector<std::string> found;
  for (const std::string& name : files.list("d")) {
    if (name.ends_with(".wal")) found.push_back("d/" + name);
  }
  return found;
}

void copy(FileSystem& files, const std::string& from, const std::string& to) {
  auto source = files.open(from, OpenMode::kRead, false);
  std::string bytes(source->size(), '\0');
  CHECK_EQ(source->read(0, bytes.data(), bytes.size()), bytes.size());
  auto target = files.open(to, OpenMode::kCreate, false);
  Slice slice{bytes.data(), bytes.size()};
  target->write(0, &slice, 1, true);
  files.sync_directory("d");
}

TEST(SegmentsThatClaimTheSamePlaceAreRefusedByName) {
  auto files = rolled_log();
  copy(*files, segments(*files)[1], "d/00000000000000aa-0000000000000000.wal");
  CHECK_FAILS("WAL_CORRUPT", Owner(small_options(), files));
  files->remove("d/00000000000000aa-0000000000000000.wal");
  CHECK_EQ(read_all(Owner(small_options(), files).log()).last_lsn(), 60u);
}

TEST(ASegmentOfAnotherLogIsRefusedByNameAndStays) {
  auto files = rolled_log();
  auto other = rolled_log();
  auto bytes = std::make_unique<std::string>(65536, '\0');
  other->open(segments(*other)[0], OpenMode::kRead, false)->read(0, bytes->data(), bytes->size());
  std::string path = "d/0000000000000001-00000000ffff0000.wal";
  {
    auto target = files->open(path, OpenMode::kCreate, false);
    Slice slice{bytes->data(), bytes->size()};
    target->write(0, &slice, 1, true);
  }
  files->sync_directory("d");
  CHECK_FAILS("WAL_CORRUPT", Owner(small_options(), files));
  CHECK(files->exists(path));
}

TEST(WhatCannotBeReadStaysWhereTheLogIsRefused) {
  for (size_t number : {size_t{0}, size_t{1}, segments(*rolled_log()).size() - 1}) {
    auto files = rolled_log();
    std::string path = segments(*files)[number];
    files->flip(path, 100);
    std::vector<std::string> before = files->list("d");
    CHECK_FAILS("WAL_CORRUPT", Owner(small_options(), files));
    CHECK(files->list("d") == before);
    files->flip(path, 100);
    CHECK_EQ(read_all(Owner(small_options(), files).log()).last_lsn(), 60u);
  }
}

TEST(AnOlderControlFileBesideANewerLogIsRefused) {
  auto files = rolled_log();
  copy(*files, "d/control", "d/kept");
  {
    Owner owner(small_options(), files);
    owner.open_term();
    owner->close();
  }
  copy(*files, "d/kept", "d/control");
  files->remove("d/kept");
  CHECK_FAILS("WAL_CORRUPT", Owner(small_options(), files));
}

TEST(ATruncateCutsNothingThatIsKnownToBeCommitted) {
  auto files = std::make_shared<MemoryFileSystem>();
  Place fork;
  {
    Owner owner(small_options(), files);
    owner.open_term();
    fork = owner->flushed();
    owner.append("committed");
    owner.close_batch();
    owner.settle();
    owner->set_commit(owner->flushed().position, owner->flushed().lsn);
    owner->close();
  }
  Owner owner(small_options(), files);
  Place end = owner->closed().place();
  CHECK_FAILS("WAL_COMMITTED_LOST", owner->truncate(fork.position, "tail.diverged"));
  CHECK_EQ(owner->closed().position, end.position);
  CHECK(!owner->failure());
  CHECK_EQ(read_all(owner.log()).last_lsn(), 1u);
}

TEST(TheClockOfALogNeverFallsBelowWhatItHolds) {
  constexpr uint64_t kFuture = 4'000'000'000'000'000;
  auto files = std::make_shared<MemoryFileSystem>();
  Owner(small_options(), files)->close();
  ControlFile::open(*files, "d", false)->update(ControlFile::Copies::kBoth, [](Control& content) {
    content.wall_clock_us = kFuture;
  });
  Owner owner(small_options(), files);
  owner.open_term();
  std::string bytes = read_bytes(owner.log(), kFirstBatch);
  BatchHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  CHECK_EQ(header.wall_clock_us, kFuture);
}

}  // namespace
}  // namespace walmirror::test::directory_test
