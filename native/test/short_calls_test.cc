// The real file system under calls that do less than they were asked to: what is done counts, the
// rest follows, and what cannot be read is not taken for the end of a file.
#include "short_calls.h"
#include "log_fixture.h"

namespace walmirror::test::short_calls_test {
namespace {

constexpr uint64_t kRecords = 30;

/// Appends records and reads them back. Returns the calls of the kind that were made.
void live(const LogOptions& options) {
  Owner owner(options, posix_file_system());
  owner.open_term();
  uint64_t last = owner->closed().lsn;
  for (uint64_t lsn = last + 1; lsn <= last + kRecords; lsn++) {
    owner.append(record_of(6, lsn, 4000));
    owner.close_batch();
    if (lsn % 3 == 0) owner.settle();
  }
  owner.settle();
}

void check(const LogOptions& options, uint64_t records) {
  Owner owner(options, posix_file_system());
  Found found = read_all(owner.log());
  CHECK_EQ(found.last_lsn(), records);
  for (uint64_t lsn = 1; lsn <= records; lsn++)
    CHECK(found.records[lsn - 1] == record_of(6, lsn, 4000));
}

/// Ends whatever a test left armed.
struct Armed {
  Armed(std::atomic<int>& counter_, ShortCall how, int n) : counter(counter_) {
    short_calls().how = how;
    counter = n;
  }
  ~Armed() { counter = 0; }
  bool hit() const { return counter == 0; }
  std::atomic<int>& counter;
};

TEST(AWriteThatIsShortOrInterruptedGoesOnWhereverItIs) {
  TempDir dir;
  int hits = 0;
  for (ShortCall how : {ShortCall::kHalf, ShortCall::kInterrupted}) {
    for (int n = 1; n <= 40; n += kSlow ? 5 : 1) {
      LogOptions options = small_options(dir.path() + "/" + std::to_string(n) + "-" +
                                         std::to_string(static_cast<int>(how)));
      {
        Armed armed(short_calls().write_in, how, n);
        live(options);
        live(options);
        hits += armed.hit() ? 1 : 0;
      }
      check(options, 2 * kRecords);
    }
  }
  CHECK(hits > (kSlow ? 10 : 60));
}

TEST(AWriteThatDoesNothingIsAFailedFlush) {
  TempDir dir;
  LogOptions options = small_options(dir.path() + "/log");
  uint64_t acknowledged = 0;
  {
    Owner owner(options, posix_file_system());
    owner.open_term();
    owner.append(record_of(6, 1, 4000));
    owner.close_batch();
    owner.settle();
    acknowledged = owner->flushed().lsn;
    Armed armed(short_calls().write_in, ShortCall::kNothing, 1);
    owner.append(record_of(6, 2, 4000));
    owner.close_batch();
    CHECK_FAILS("WAL_FLUSH_FAILED", owner.settle());
    CHECK_EQ(owner->flushed().lsn, acknowledged);
  }
  check(options, acknowledged);
}

TEST(AReadThatIsShortOrInterruptedGoesOnAndOneThatStopsInAFileIsAnError) {
  TempDir dir;
  LogOptions options = small_options(dir.path() + "/log");
  live(options);
  int failed = 0;
  for (ShortCall how : {ShortCall::kHalf, ShortCall::kInterrupted, ShortCall::kOneSector}) {
    for (int n = 1; n <= 40; n += kSlow ? 3 : 1) {
      Armed armed(short_calls().read_in, how, n);
      try {
        check(options, kRecords);
      } catch (const WalFailure& failure) {
        // A disk that cannot read on says so with a short count first.
        CHECK(how == ShortCall::kOneSector);
        CHECK_EQ(failure.code, "WAL_IO");
        CHECK(!failure.file.empty());
        failed++;
      }
    }
  }
  check(options, kRecords);
  CHECK(failed > (kSlow ? 1 : 3));
}

}  // namespace
}  // namespace walmirror::test::short_calls_test
