// A disk that loses a write, puts it elsewhere, does half of it, or lets bits decay: what comes of
// it is told, by file, offset and LSN, or it changes nothing. What was durable by any evidence is
// never taken for the end of the log, and what does not verify is never served.
#include "log_fixture.h"
#include "log_reader.h"

namespace walmirror::test::lying_disk_test {
namespace {

constexpr uint64_t kRecords = 40;
constexpr uint64_t kMost = 3000;

/// Where each flush ended.
using Flushes = std::vector<Place>;

Flushes write_log(const std::shared_ptr<MemoryFileSystem>& files, bool clean) {
  Flushes flushes;
  Owner owner(small_options(), files);
  owner.open_term();
  flushes.push_back(owner->flushed());
  for (uint64_t lsn = 1; lsn <= kRecords; lsn++) {
    owner.append(record_of(3, lsn, kMost));
    owner.close_batch();
    owner.settle();
    flushes.push_back(owner->flushed());
  }
  if (clean) owner->close();
  return flushes;
}

/// A file as it is after a kill: no clean close, and the watermark of the first opening.
std::shared_ptr<MemoryFileSystem> killed_copy(MemoryFileSystem& files) {
  return std::make_shared<MemoryFileSystem>(files.state());
}

struct Outcome {
  bool told = false;
  uint64_t last_lsn = 0;
};

void check_told(const WalFailure& failure) {
  CHECK_EQ(failure.code, "WAL_CORRUPT");
  CHECK(failure.file.starts_with("d/"));
  CHECK(failure.offset >= 0 && failure.lsn >= 0);
}

/// Opens and reads all that there is: right records, or damage that is told.
Outcome open_and_read(const std::shared_ptr<MemoryFileSystem>& files) {
  Outcome outcome;
  try {
    Owner owner(small_options(), files);
    outcome.last_lsn = owner->flushed().lsn;
    Found found = read_all(owner.log());
    for (size_t i = 0; i < found.records.size(); i++)
      CHECK(found.records[i] == record_of(3, found.first_lsn + i, kMost));
  } catch (const WalFailure& failure) {
    check_told(failure);
    outcome.told = true;
  }
  return outcome;
}

/// What `verify` says, which opens nothing and changes nothing.
Outcome verify(const std::shared_ptr<MemoryFileSystem>& files) {
  VerifyReport report = LogReader::open("d", files)->verify();
  if (report.damage) check_told(*report.damage);
  return {report.damage.has_value(), report.end.lsn};
}

struct Sum {
  int told = 0;
  int harmless = 0;
  int undetectable = 0;
};

/// One write of the log goes wrong and the process knows nothing of it.
void check_write(WriteFault fault, uint64_t by, int n, bool clean, Sum& sum) {
  auto files = std::make_shared<MemoryFileSystem>();
  files->write_fault = fault;
  files->misdirected_by = by;
  files->fault_write_in = n;
  Flushes flushes;
  std::shared_ptr<MemoryFileSystem> found;
  {
    flushes = write_log(files, clean);
    found = killed_copy(*files);
  }
  if (files->fault_write_in > 0) return;  // how many there are depends on the threads
  Outcome verified = verify(std::make_shared<MemoryFileSystem>(found->state()));
  Outcome opened = open_and_read(found);
  if (verified.told || opened.told) {
    sum.told++;
    return;
  }
  CHECK_EQ(verified.last_lsn, opened.last_lsn);
  if (opened.last_lsn == kRecords) {
    sum.harmless++;
    return;
  }
  // The last flush, of which nothing says that it was ever done (SAFETY 6.3).
  CHECK(!clean);
  CHECK_EQ(opened.last_lsn, kRecords - 1);
  sum.undetectable++;
}

int count_writes() {
  auto files = std::make_shared<MemoryFileSystem>();
  files->fault_write_in = 1'000'000;
  files->write_fault = WriteFault::kLost;
  write_log(files, true);
  return 1'000'000 - files->fault_write_in;
}

TEST(ALostWriteIsToldOrHarmlessAndOnlyTheLastFlushOfAKilledLogCanGo) {
  int writes = count_writes();
  CHECK(writes > static_cast<int>(kRecords));
  Sum clean, killed;
  for (int n = 1; n <= writes; n += kSlow ? 7 : 1) {
    check_write(WriteFault::kLost, 0, n, true, clean);
    check_write(WriteFault::kLost, 0, n, false, killed);
  }
  std::printf("       lost writes: told %d, healed %d, last flush %d\n", clean.told + killed.told,
              clean.harmless + killed.harmless, killed.undetectable);
  CHECK(clean.told > 0 && killed.told > 0 && killed.undetectable <= 1);
}

TEST(AMisdirectedWriteIsToldOrHarmlessAndNothingWrongIsServed) {
  int writes = count_writes();
  Sum clean, killed;
  for (int n = 1; n <= writes; n += kSlow ? 7 : 1) {
    for (uint64_t blocks : {1u, 3u, 13u}) {
      check_write(WriteFault::kMisdirected, blocks * kBlock, n, true, clean);
      check_write(WriteFault::kMisdirected, blocks * kBlock, n, false, killed);
    }
  }
  std::printf("       misdirected writes: told %d, healed %d, last flush %d\n",
              clean.told + killed.told, clean.harmless + killed.harmless, killed.undetectable);
  CHECK(clean.told > 0 && killed.told > 0 && killed.undetectable <= 3);
}

TEST(AShortWriteThatFailsIsFinalAndLosesNothingAcknowledged) {
  int writes = count_writes();
  int failed = 0;
  for (int n = 1; n <= writes; n += kSlow ? 7 : 1) {
    for (int error : {5, 28}) {
      auto files = std::make_shared<MemoryFileSystem>();
      files->write_fault = WriteFault::kShort;
      files->fail_errno = error;
      files->fault_write_in = n;
      uint64_t acknowledged = 0;
      bool opened = false;
      std::string code;
      try {
        Owner owner(small_options(), files);
        opened = true;
        owner.open_term();
        for (uint64_t lsn = 1; lsn <= kRecords; lsn++) {
          owner.append(record_of(3, lsn, kMost));
          owner.close_batch();
          owner.settle();
          acknowledged = lsn;
        }
      } catch (const WalFailure& failure) {
        code = failure.code;
      }
      if (!code.empty())
        CHECK_EQ(code, opened ? "WAL_FLUSH_FAILED" : error == 5 ? "WAL_IO" : "WAL_NO_SPACE");
      failed += code.empty() ? 0 : 1;
      std::mt19937_64 random(static_cast<uint64_t>(n));
      for (Loss loss : {Loss::kNothing, Loss::kAllUnflushed}) {
        Outcome outcome = open_and_read(
            std::make_shared<MemoryFileSystem>(after_power_loss(files->state(), loss, random)));
        CHECK(!outcome.told);
        CHECK(outcome.last_lsn >= acknowledged && outcome.last_lsn <= acknowledged + 1);
      }
    }
  }
  CHECK(failed > (kSlow ? 5 : 40));
}

std::vector<std::string> names(MemoryFileSystem& files, const char* ending) {
  std::vector<std::string> found;
  for (const std::string& name : files.list("d")) {
    if (name.ends_with(ending)) found.push_back("d/" + name);
  }
  return found;
}

TEST(WhatHasDecayedOnTheDiskIsToldAndNeverServedByAnOpenLog) {
  auto files = std::make_shared<MemoryFileSystem>();
  write_log(files, true);
  Owner owner(small_options(), files);
  uint64_t end = owner->flushed().position;
  AlignedBuffer buffer(262144);
  int told = 0;
  int harmless = 0;
  for (const std::string& path : names(*files, ".wal")) {
    for (uint64_t bit = 0; bit < 65536 * 8; bit += kSlow ? 49999 : 4999) {
      files->flip(path, bit);
      uint64_t lsn = 0;
      try {
        for (uint64_t at = kFirstBatch; at < end;) {
          ReadOutcome read = owner->read_into(buffer.data(), buffer.size(), at, end);
          CHECK(read.next > at);
          uint64_t record = 0;
          for (uint64_t in = 0; in < read.length;) {
            BatchHeader header;
            const uint8_t* batch = buffer.data() + read.offset + in;
            std::memcpy(&header, batch, sizeof header);
            const uint8_t* bytes = batch + kBatchHeaderBytes;
            for (record = 0; record < header.count; record++) {
              uint32_t length;
              std::memcpy(&length, bytes, 4);
              std::string got(reinterpret_cast<const char*>(bytes + 4), length);
              CHECK(got == record_of(3, ++lsn, kMost));
              bytes += record_bytes(length);
            }
            if (is_filler(header)) break;
            in += header.length;
          }
          at = read.next;
        }
        CHECK_EQ(lsn, kRecords);
        harmless++;
      } catch (const WalFailure& failure) {
        CHECK_EQ(failure.code, "WAL_CORRUPT");
        CHECK_EQ(failure.file, path);
        CHECK(static_cast<uint64_t>(failure.offset) <= bit / 8);
        told++;
      }
      files->flip(path, bit);  // and back
    }
  }
  CHECK(told > 0 && harmless > 0);
}

TEST(ASectorThatCannotBeReadIsNamedAndNotTakenForTheEndOfTheLog) {
  for (bool clean : {true, false}) {
    auto written = std::make_shared<MemoryFileSystem>();
    write_log(written, clean);
    int told = 0;
    std::vector<std::string> files = names(*written, ".wal");
    files.push_back("d/control");
    for (const std::string& path : files) {
      for (uint64_t sector = 0; sector < 128; sector += kSlow ? 13 : 1) {
        auto found = killed_copy(*written);
        if (path == "d/control" && sector >= 64) break;
        found->spoil(path, sector);
        try {
          Owner owner(small_options(), found);
          CHECK_EQ(owner->flushed().lsn, kRecords);
          CHECK_EQ(read_all(owner.log()).last_lsn(), kRecords);
        } catch (const WalFailure& failure) {
          CHECK_EQ(failure.code, "WAL_IO");
          CHECK_EQ(failure.file, path);
          CHECK_EQ(failure.error_number, 5);
          told++;
        }
      }
    }
    CHECK(told > (kSlow ? 5 : 60));
  }
}

}  // namespace
}  // namespace walmirror::test::lying_disk_test
