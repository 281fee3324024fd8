// The log as its owner sees it: appending, rolling, reading, receiving, trimming.
#include <atomic>
#include <random>
#include <thread>

#include "log_fixture.h"
#include "log_reader.h"

namespace walmirror::test::log_test {
namespace {

std::string bytes_of(char fill, size_t size) { return std::string(size, fill); }

TEST(LogGivesBackWhatWasAppendedAfterACloseAndAnOpening) {
  TempDir dir;
  LogOptions options = small_options(dir.path() + "/log");
  uint64_t last = 0;
  for (int life = 0; life < 3; life++) {
    Owner owner(options, posix_file_system());
    CHECK_EQ(owner->closed().lsn, last);
    CHECK_EQ(owner->recovery().clean, true);
    owner.open_term();
    for (int i = 0; i < 200; i++) {
      uint64_t lsn = owner.append(record_of(1, last + 1, 3000));
      CHECK_EQ(lsn, last + 1);
      last = lsn;
    }
    owner.close_batch();
    owner->close();
  }
  Owner owner(options, posix_file_system());
  Found found = read_all(owner.log());
  CHECK_EQ(found.last_lsn(), last);
  for (uint64_t lsn = 1; lsn <= last; lsn++) {
    CHECK(found.records[lsn - 1] == record_of(1, lsn, 3000));
  }
  CHECK(owner->segment_count() > 3);
}

TEST(LogWrapsItsRingManyTimesWithoutMixingUpBytes) {
  auto files = std::make_shared<MemoryFileSystem>();
  LogOptions options = small_options();
  options.segment_bytes = 1 << 20;
  Owner owner(options, files);
  owner.open_term();
  for (uint64_t lsn = 1; lsn <= 3000; lsn++) {
    owner.append(record_of(2, lsn, 900));
    if (lsn % 7 == 0) owner.close_batch();
  }
  owner.close_batch();
  owner.settle();
  CHECK(owner->closed().position > 8 * owner->ring()->size());
  Found found = read_all(owner.log());
  CHECK_EQ(found.last_lsn(), 3000u);
  for (uint64_t lsn = 1; lsn <= 3000; lsn++) {
    CHECK(found.records[lsn - 1] == record_of(2, lsn, 900));
  }
}

TEST(LogHasFewFilesOpenHoweverLongItIs) {
  auto files = std::make_shared<MemoryFileSystem>();
  // Beside what is kept open: the control file, the segment that is written, spares.
  constexpr int kMost = static_cast<int>(OpenFiles::kMost) + 16;
  uint64_t last = 0;
  for (int life = 0; life < 2; life++) {
    Owner owner(small_options(), files);
    owner.open_term();
    while (owner->segment_count() < 200u * (life + 1)) {
      last = owner.append(record_of(9, last + 1, 4000));
      owner.close_batch();
    }
    owner.settle();
    Found found = read_all(owner.log());
    CHECK_EQ(found.last_lsn(), last);
    for (uint64_t lsn = 1; lsn <= last; lsn++) {
      CHECK(found.records[lsn - 1] == record_of(9, lsn, 4000));
    }
    // Whoever reads a file keeps it, and finds it, while others come and go.
    CHECK(owner->locate(1) > 0);
    owner->close();
    CHECK_EQ(files->open_files.load(), 0);
  }
  // A crash in the middle of a trim leaves any number of segments below the start.
  Owner owner(small_options(), files);
  owner->set_commit(owner->closed().position, last);
  owner->trim(owner->closed().position);
  CHECK_EQ(owner->segment_count(), 1u);
  CHECK(owner->spare_count() <= 8);
  CHECK(files->most_open_files <= kMost);
}

TEST(LogReaderDoesNotTakeATrimForDamage) {
  TempDir dir;
  LogOptions options = small_options(dir.path() + "/log");
  Owner owner(options, posix_file_system());
  owner.open_term();
  uint64_t last = 0;
  auto fill = [&](size_t segments) {
    while (owner->segment_count() < segments) {
      last = owner.append(record_of(9, last + 1, 4000));
      owner.close_batch();
    }
    owner.settle();
  };
  fill(6);
  std::unique_ptr<LogReader> reader = LogReader::open(options.directory, posix_file_system());
  uint64_t end = reader->refresh().position;
  owner->set_commit(owner->closed().position, last);
  owner->trim(owner->closed().position);
  fill(6);  // the files are other segments by now
  AlignedBuffer buffer(65536);
  std::string code;
  try {
    reader->read_into(buffer.data(), buffer.size(), kFirstBatch, end);
  } catch (const WalFailure& failure) {
    code = failure.code;
  }
  CHECK_EQ(code, "WAL_LSN_GONE");
}

TEST(LogOpensThoughATrimOfManySegmentsWasCutShort) {
  auto files = std::make_shared<MemoryFileSystem>();
  std::vector<DiskState> instants;
  uint64_t last = 0;
  {
    Owner owner(small_options(), files);
    owner.open_term();
    while (owner->segment_count() < 100) {
      last = owner.append(record_of(9, last + 1, 4000));
      owner.close_batch();
    }
    owner.settle();
    owner->set_commit(owner->closed().position, last);
    files->watch([&](const DiskState& state) { instants.push_back(state); });
    owner->trim(owner->closed().position);
    files->watch(nullptr);
  }
  CHECK(instants.size() > 100);
  for (size_t i = 0; i < instants.size(); i += 5) {
    auto found = std::make_shared<MemoryFileSystem>(instants[i]);
    Owner owner(small_options(), found);
    CHECK_EQ(owner->closed().lsn, last);
    CHECK(owner->spare_count() <= 9);
    CHECK(found->most_open_files <= static_cast<int>(OpenFiles::kMost) + 16);
  }
}

TEST(LogKeepsPinnedBytesOfTheRingHoweverMuchIsAppended) {
  Owner owner(small_options(), std::make_shared<MemoryFileSystem>());
  owner.open_term();
  uint64_t from = owner->closed().position;
  owner.append(bytes_of('a', 3000));
  owner.close_batch();
  uint64_t to = owner->closed().position;
  std::string before(reinterpret_cast<char*>(owner->ring()->at(from)), to - from);
  int pin = owner->pin(from);
  int refused = 0;
  for (int i = 0; i < 2000 && refused < 50; i++) {
    if (!owner->reserve(0, 0, record_bytes(1000))) {
      owner.settle();
      // Else it is a segment that is not there yet.
      if (owner->ring_free() < 2 * kBlock) {
        refused++;
      } else {
        owner.wait_for_progress();
      }
      continue;
    }
    owner->put(0, reinterpret_cast<const uint8_t*>(bytes_of('b', 1000).data()), 1000);
    owner->close_batch(record_bytes(1000), 1);
  }
  CHECK_EQ(refused, 50);
  std::string after(reinterpret_cast<char*>(owner->ring()->at(from)), to - from);
  CHECK(before == after);
  owner->unpin(pin);
  owner.append("goes on");
  owner.close_batch();
  owner.settle();
}

TEST(LogRefusesWhatItsOwnerGetsWrongAndStaysUsable) {
  Owner owner(small_options(), std::make_shared<MemoryFileSystem>());
  owner.open_term();
  CHECK(owner->reserve(0, 0, 100));
  auto throws = [](auto call) {
    try {
      call();
    } catch (const std::exception&) {
      return true;
    }
    return false;
  };
  uint8_t data[64] = {};
  CHECK(throws([&] { owner->put(2, data, 4); }));
  CHECK(throws([&] { owner->put(0, data, 1u << 20); }));
  CHECK(throws([&] { owner->put(1ull << 40, data, 4); }));
  CHECK(throws([&] { owner->close_batch(owner->capacity() + 4, 1); }));
  data[0] = 'x';
  owner->put(0, data, 4);
  CHECK(throws([&] { owner->close_batch(8, 2); }));
  CHECK(throws([&] { owner->reserve(0, 0, 1u << 20); }));
  owner->close_batch(8, 1);
  CHECK_EQ(owner->closed().lsn, 1u);
  owner.settle();
}

/// A primary's bytes over several segments, openings included.
std::string source(Owner& owner, uint64_t records) {
  owner.open_term();
  for (uint64_t i = 0; i < records; i++) {
    owner.append(record_of(3, i + 1, 2500));
    if (i % 3 == 0) owner.close_batch();
  }
  owner.close_batch();
  owner.settle();
  return read_bytes(owner.log(), kFirstBatch);
}

LogOptions standby_options(Log& primary) {
  LogOptions options = small_options("s");
  options.role = Role::kStandby;
  options.log_id = primary.identity().log_id;
  options.salt = primary.identity().salt;
  options.padded = primary.identity().align == kBlock;
  return options;
}

void ingest_all(Owner& owner, const std::string& bytes, const std::function<uint64_t()>& chunk) {
  auto data = reinterpret_cast<const uint8_t*>(bytes.data());
  uint64_t end = kFirstBatch + bytes.size();
  for (uint64_t at = 0; owner->closed().position < end;) {
    uint64_t taken = owner->ingest(data + at, std::min(chunk(), bytes.size() - at));
    at += taken;
    if (taken == 0) std::this_thread::yield();
  }
  owner.settle();
}

/// A part of a batch lies in the ring, over what was there: a new session begins with that batch.
TEST(WhatWasReceivedOfABatchThatNeverCameWholeIsNotTakenForWhatItOverwrote) {
  Owner primary(small_options(), std::make_shared<MemoryFileSystem>());
  std::string bytes = source(primary, 240);
  auto data = reinterpret_cast<const uint8_t*>(bytes.data());
  std::map<uint64_t, uint32_t> ends;
  for (uint64_t at = kFirstBatch; at < kFirstBatch + bytes.size();) {
    BatchHeader header;
    std::memcpy(&header, data + (at - kFirstBatch), sizeof header);
    at = batch_end(primary->identity(), header);
    ends[at] = header.crc;
  }
  CHECK(ends.size() > 60 && bytes.size() > 250'000);
  uint64_t looked = 0;
  for (auto last = ends.begin(); std::next(last) != ends.end(); ++last) {
    Owner standby(standby_options(primary.log()), std::make_shared<MemoryFileSystem>());
    standby->store_role(Role::kStandby, primary->term(), "a", "");
    standby->begin_ingest(primary->history());
    uint64_t size = std::next(last)->first - kFirstBatch - 1;
    for (uint64_t at = 0; at < size;) {
      at += standby->ingest(data + at, size - at);
      std::this_thread::yield();
    }
    standby.settle();
    uint64_t floor = standby->ring_floor();
    standby->begin_ingest(primary->history());
    CHECK(standby->ring_floor() >= floor);
    for (auto [end, crc] : ends) {
      if (end > standby->closed().position) break;
      std::optional<uint32_t> found = standby->checksum_in_ring(end);
      CHECK(!found || *found == crc);
      looked += found ? 1 : 0;
    }
  }
  CHECK(looked > 500);
}

TEST(LogThatReceivesInPiecesOfAnySizeEndsUpWithTheSameBytes) {
  for (bool padded : {false, true}) {
    LogOptions options = small_options();
    options.padded = padded;
    Owner primary(options, std::make_shared<MemoryFileSystem>());
    std::string bytes = source(primary, 150);
    std::mt19937_64 random(4);
    std::vector<std::function<uint64_t()>> chunkings = {
        [] { return 1; }, [] { return 127; }, [] { return 4096; },
        [&] { return 1 + random() % 9000; }, [] { return 1u << 30; }};
    for (const auto& chunk : chunkings) {
      Owner standby(standby_options(primary.log()), std::make_shared<MemoryFileSystem>());
      standby->store_role(Role::kStandby, primary->term(), "a", "");
      standby->begin_ingest(primary->history());
      ingest_all(standby, bytes, chunk);
      CHECK_EQ(standby->flushed().position, primary->flushed().position);
      CHECK_EQ(standby->closed().crc, primary->closed().crc);
      CHECK(read_bytes(standby.log(), kFirstBatch) == bytes);
    }
  }
}

TEST(LogThatReceivesBytesWithAnyOneChangedKeepsNothingOfTheirBatch) {
  Owner primary(small_options(), std::make_shared<MemoryFileSystem>());
  std::string bytes = source(primary, 6);
  Owner standby(standby_options(primary.log()), std::make_shared<MemoryFileSystem>());
  standby->store_role(Role::kStandby, primary->term(), "a", "");
  uint64_t last = 0;
  for (size_t at = 0; at < bytes.size(); at++) {
    std::string changed = bytes;
    changed[at] = static_cast<char>(changed[at] ^ (1 << at % 8));
    changed.append(1 << 15, '\0');
    standby->begin_ingest(primary->history());
    uint64_t from = standby->closed().position - kFirstBatch;
    CHECK_FAILS("WAL_PEER_INVALID",
                standby->ingest(reinterpret_cast<const uint8_t*>(changed.data()) + from,
                                changed.size() - from));
    CHECK(standby->closed().position <= kFirstBatch + at);
    CHECK(standby->closed().position >= last);
    last = standby->closed().position;
    CHECK_EQ(standby->received(), last);
  }
}

/// Reads, looks up and trims on the task thread while the owner appends and the writer flushes.
void read_and_trim_beside_a_writer(const std::shared_ptr<FileSystem>& files,
                                   const std::string& directory, int batches) {
  LogOptions options = small_options(directory);
  Owner owner(options, files);
  owner.open_term();
  std::atomic<bool> failed{false};
  std::atomic<int> running{0};
  std::atomic<uint64_t> records{0};
  auto task = [&] {
    running++;
    owner->post([&] {
      try {
        Place start = owner->start();
        uint64_t end = owner->flushed().position;
        AlignedBuffer buffer(65536 + 2 * kBlock);
        for (uint64_t at = start.position; at < end;) {
          ReadOutcome outcome = owner->read_into(buffer.data(), buffer.size(), at, end);
          CHECK(outcome.next > at);
          at = outcome.next;
          records = outcome.lsn;
        }
        uint64_t lsn = owner->flushed().lsn;
        if (lsn > 0) CHECK(owner->locate(lsn) < owner->flushed().position);
        CHECK(owner->locate(start.lsn + 1) >= start.position);
        owner->trim(end - (end - start.position) / 3);
      } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        failed = true;
      }
      running--;
    });
  };
  int claim = owner->retain(kFirstBatch);
  for (int i = 0; i < batches; i++) {
    for (int n = 0; n < 5; n++) owner.append(record_of(5, owner->closed().lsn + 1 + n, 800));
    owner.close_batch();
    owner->set_commit(owner->flushed().position, owner->flushed().lsn);
    owner->move_retain(claim, owner->flushed().position);
    if (running < 2) task();
    (void)owner->statistics();
    (void)owner->failure();
    (void)owner->ring_free();
  }
  owner.settle();
  owner->release(claim);
  while (running > 0) std::this_thread::yield();
  CHECK(!failed);
  CHECK(owner->start().lsn > 0);
  CHECK(records > 0);
  owner->close();
}

TEST(LogReadsAndTrimsBesideItsWriter) {
  read_and_trim_beside_a_writer(std::make_shared<MemoryFileSystem>(), "d", 3000);
}

TEST(LogReadsAndTrimsBesideItsWriterOnARealDisk) {
  TempDir dir;
  read_and_trim_beside_a_writer(posix_file_system(), dir.path() + "/log", 600);
}

TEST(LogClosedWhileTasksAndFlushesAreUnderWayFinishesThem) {
  for (int round = 0; round < 50; round++) {
    auto files = std::make_shared<MemoryFileSystem>();
    std::atomic<int> done{0};
    uint64_t last = 0;
    {
      Owner owner(small_options(), files);
      owner.open_term();
      for (int i = 0; i < 20; i++) {
        last = owner.append(record_of(6, last + 1));
        owner.close_batch();
        owner->post([&] {
          AlignedBuffer buffer(kBlock);
          done++;
        });
      }
      if (round % 2 == 0) owner->close();
    }
    CHECK_EQ(done.load(), 20);
    Owner again(small_options(), files);
    CHECK_EQ(again->closed().lsn, last);
  }
}

TEST(TrimKeepsWhatIsClaimedAndFreesItWhenTheClaimMovesOrEnds) {
  LogOptions options = small_options();
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(options, files);
  owner.open_term();
  while (owner->segment_count() < 8) {
    owner.append(record_of(3, owner->closed().lsn + 1, 4000));
    owner.close_batch();
    owner.settle();
  }
  Place end = owner->flushed();
  owner->set_commit(end.position, end.lsn);
  auto start_after = [&](uint64_t number) {
    return number * options.segment_bytes + kSegmentHeaderBytes;
  };
  int claim = owner->retain(2 * options.segment_bytes + 20000);
  int other = owner->retain(start_after(6));
  owner->trim(end.position);
  CHECK_EQ(owner->start().position, start_after(2));
  CHECK_EQ(read_all(owner.log()).last_lsn(), end.lsn);
  owner->move_retain(claim, 4 * options.segment_bytes + 5000);
  owner->trim(end.position);
  CHECK_EQ(owner->start().position, start_after(4));
  owner->release(claim);
  owner->trim(end.position);
  CHECK_EQ(owner->start().position, start_after(6));
  owner->release(other);
  owner->trim(end.position);
  CHECK_EQ(owner->start().position, start_after(7));
  CHECK_EQ(owner->segment_count(), uint64_t{1});
}

}  // namespace
}  // namespace walmirror::test::log_test
