// The scrub of a log that is open: what it finds, what it leaves alone, and that it is in nobody's
// way.
#include <thread>

#include "two_copies.h"

namespace walmirror::test::scrubber_test {
namespace {

constexpr uint64_t kSegment = 65536;

ScrubStatus wait_for_pass(Log& log, uint64_t pass) {
  for (int i = 0; i < 5000; i++) {
    ScrubStatus status = log.scrubber().status();
    if (status.passes >= pass) return status;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  throw CheckFailed("the scrub does not end");
}

ScrubStatus scrub_now(Log& log) { return wait_for_pass(log, log.scrubber().run_now()); }

void append_until(Owner& owner, uint64_t position) {
  while (owner->closed().position < position) {
    owner.append(record_of(1, owner->closed().lsn + 1, 3000));
    owner.close_batch();
    owner.settle();
  }
}

std::string path_of(MemoryFileSystem& files, uint64_t number) {
  return segment_paths(files, "d").at(number * kSegment);
}

TEST(ScrubOfAnOpenLogVerifiesItsSealedSegments) {
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(small_options(), files);
  owner.open_term();
  ScrubStatus status = scrub_now(owner.log());
  CHECK_EQ(status.of, uint64_t{0});
  append_until(owner, 4 * kSegment + 10000);
  status = scrub_now(owner.log());
  CHECK(!status.running);
  CHECK_EQ(status.passes, uint64_t{2});
  CHECK(status.finished_ms > 0);
  CHECK_EQ(status.damaged_ranges, uint64_t{0});
  CHECK(status.of + kSegmentHeaderBytes >= 4 * kSegment);
}

TEST(ScrubOfAnOpenLogTellsEachDamagedRangeAndAppendsGoOn) {
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(small_options(), files);
  owner.open_term();
  append_until(owner, 4 * kSegment + 10000);
  owner->set_commit(owner->flushed().position, owner->flushed().lsn);
  uint64_t news = owner->scrubber().news_count();
  damage(*files, path_of(*files, 0), 30000, 10);
  damage(*files, path_of(*files, 1), 100, 1);
  files->remove(path_of(*files, 2));
  ScrubStatus status = scrub_now(owner.log());
  CHECK_EQ(status.damage.size(), size_t{2});  // the header followed from the log
  CHECK_EQ(status.repaired, uint64_t{1});
  CHECK_EQ(status.found, uint64_t{3});
  CHECK(owner->scrubber().news_count() >= news + 4);
  CHECK(status.damage[0].from < 30010 && status.damage[0].to > 30000);
  CHECK(status.damage[0].last_lsn >= status.damage[0].first_lsn);
  CHECK_EQ(status.damage[1].reason, std::string("the segment is missing"));
  append_until(owner, 5 * kSegment + 10000);
  // Found again, and not told as news.
  status = scrub_now(owner.log());
  CHECK_EQ(status.damage.size(), size_t{2});
  CHECK_EQ(status.found, uint64_t{3});
}

TEST(ScrubOfAnOpenLogRepairsWhatIsCommittedFromASource) {
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(small_options(), files);
  owner.open_term();
  append_until(owner, 4 * kSegment + 10000);
  copy_directory(*files, "d", "e");
  damage(*files, path_of(*files, 0), 30000, 10);
  damage(*files, path_of(*files, 2), 0, kSegment);
  files->remove(path_of(*files, 1));
  damage(*files, path_of(*files, 3), 30000, 10);
  owner->scrubber().repair_from(
      std::make_shared<DirectorySource>(files, "e", read_control(*files, "d")));
  ScrubStatus status = scrub_now(owner.log());
  CHECK_EQ(status.repaired, uint64_t{0});
  CHECK(status.reason.find("only what is committed") != std::string::npos);
  owner->set_commit(3 * kSegment + 20000, 0);
  status = scrub_now(owner.log());
  CHECK_EQ(status.damage.size(), size_t{1});
  owner->set_commit(owner->flushed().position, owner->flushed().lsn);
  status = scrub_now(owner.log());
  CHECK_EQ(status.damaged_ranges, uint64_t{0});
  CHECK(status.reason.empty());
  for (uint64_t number = 0; number < 4; number++)
    CHECK(read_whole(*files, path_of(*files, number)) ==
          segment_bytes(*files, "e").at(number * kSegment));
  CHECK_EQ(read_all(owner.log()).last_lsn(), owner->closed().lsn);
}

TEST(ScrubOfALogThatIsTrimmedAndAppendedToFindsNothing) {
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(small_options(), files);
  owner.open_term();
  append_until(owner, 4 * kSegment);
  int rounds = kSlow ? 20 : 150;
  // More of them where the scrubber's thread has little of the processors.
  auto passes = [&] { return owner->scrubber().status().passes; };
  for (int i = 0; i < rounds || (passes() <= 3 && i < 100 * rounds); i++) {
    owner->scrubber().run_now();
    append_until(owner, owner->closed().position + 20000);
    owner->set_commit(owner->flushed().position, owner->flushed().lsn);
    if (i % 2 == 0) owner->trim(owner->flushed().position - 3 * kSegment);
  }
  ScrubStatus status = scrub_now(owner.log());
  CHECK_EQ(status.found, uint64_t{0});
  CHECK(status.passes > 3);
  CHECK(owner->start().position > (kSlow ? 3 : 10) * kSegment);
}

TEST(ScrubOfAStandbyThatIsCutFindsNothing) {
  auto files = std::make_shared<MemoryFileSystem>();
  {
    Owner source(small_options("e"), files);
    source.open_term();
    append_until(source, 6 * kSegment);
    source->close();
  }
  Owner from(small_options("e"), files);
  LogOptions options = small_options();
  options.role = Role::kStandby;
  options.log_id = from->control().log_id;
  options.salt = from->control().salt;
  Owner standby(options, files);
  std::string bytes = read_bytes(from.log(), kFirstBatch);
  auto receive = [&] {
    // What is received may wait for the file of the next segment: it is closed then.
    while (standby->closed().position < kFirstBatch + bytes.size()) {
      uint64_t at = standby->received() - kFirstBatch;
      uint64_t taken =
          standby->ingest(reinterpret_cast<const uint8_t*>(bytes.data()) + at, bytes.size() - at);
      if (taken == 0) standby.wait_for_progress();
    }
    standby.settle();
  };
  AlignedBuffer buffer(32768);
  standby->store_role(Role::kStandby, from->term(), "e", "nowhere");
  for (int i = 0; i < (kSlow ? 4 : 20); i++) {
    standby->begin_ingest(from->history());
    receive();
    standby->scrubber().run_now();
    uint64_t wanted = (2 + i % 3) * kSegment + 20000;
    uint64_t end = from->flushed().position;
    uint64_t position = kFirstBatch;
    while (position < wanted)
      position = from->read_into(buffer.data(), buffer.size(), position, end).next;
    standby->truncate(position, "t" + std::to_string(i) + ".diverged");
  }
  standby->begin_ingest(from->history());
  receive();
  ScrubStatus status = scrub_now(standby.log());
  CHECK_EQ(status.found, uint64_t{0});
  CHECK(status.of >= 5 * kSegment - kSegmentHeaderBytes);
}

TEST(ScrubKeepsToItsRateAndStopsAtOnce) {
  auto files = std::make_shared<MemoryFileSystem>();
  auto began = std::chrono::steady_clock::now();
  {
    Owner owner(small_options(), files);
    owner.open_term();
    append_until(owner, 8 * kSegment + 10000);
    ScrubSettings settings;
    settings.bytes_per_second = 1000;
    settings.repeat = true;
    settings.every = std::chrono::hours(1);
    owner->scrubber().configure(settings);
    ScrubStatus status = owner->scrubber().status();
    for (int i = 0; i < 1000 && !status.running; i++) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      status = owner->scrubber().status();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    CHECK(owner->scrubber().status().running);
    append_until(owner, 9 * kSegment);
    owner->close();
  }
  CHECK(std::chrono::steady_clock::now() - began < std::chrono::seconds(kSlow ? 30 : 5));
}

}  // namespace
}  // namespace walmirror::test::scrubber_test
