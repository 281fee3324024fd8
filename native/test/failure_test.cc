// Writes and flushes that fail: final for the log, and never believed by the next process.
#include "log_fixture.h"

namespace walmirror::test::failure_test {
namespace {

struct Life {
  uint64_t acknowledged = 0;
  bool failed = false;
};

/// Appends records of `life` in one batch each, until done or failed.
Life live(const std::shared_ptr<MemoryFileSystem>& files, uint64_t life, int records) {
  Life result;
  try {
    Owner owner(small_options(), files);
    owner.open_term();
    result.acknowledged = owner->flushed().lsn;
    for (int i = 0; i < records; i++) {
      owner.append(record_of(life, owner->closed().lsn + 1, 4000));
      owner.close_batch();
      if (i % 3 != 0) continue;
      owner.settle();
      result.acknowledged = owner->flushed().lsn;
    }
    owner.settle();
    result.acknowledged = owner->flushed().lsn;
    owner->close();
    result.failed = owner->failure().has_value();
  } catch (const WalFailure& failure) {
    CHECK(failure.code == "WAL_FLUSH_FAILED" || failure.code == "WAL_IO");
    result.failed = true;
  }
  return result;
}

TEST(FailedWriteIsFinalForTheLogAndNothingIsFlushedAfterIt) {
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(small_options(), files);
  owner.open_term();
  owner.append("one");
  owner.close_batch();
  owner.settle();
  Place before = owner->flushed();
  files->fail_write_in = 1;
  owner.append("two");
  owner.close_batch();
  CHECK_FAILS("WAL_FLUSH_FAILED", owner.settle());
  CHECK_EQ(owner->flushed().position, before.position);
  CHECK_FAILS("WAL_FLUSH_FAILED", owner.append("three"));
  CHECK_EQ(owner->failure()->error_number, 5);
  CHECK(!owner->failure()->file.empty());
  owner->close();
  CHECK_EQ(owner->flushed().position, before.position);
  owner.drop();
  CHECK(!Owner(small_options(), files)->recovery().clean);
}

TEST(FailedWriteAtAnyPointLosesNothingAcknowledgedByTheNextProcessEither) {
  // The failed write is in the cache and not on the disk: the next process reads it there, and must
  // not build on it before it has written it again (SAFETY 5.4). Then the power goes.
  int failed = 0;
  for (int n = 1; n < 120; n++) {
    auto files = std::make_shared<MemoryFileSystem>();
    files->fail_write_in = n;
    Life first = live(files, 1, 40);
    failed += first.failed ? 1 : 0;
    files->fail_write_in = 0;
    Life second = live(files, 2, 10);
    CHECK(!second.failed);
    CHECK(second.acknowledged >= first.acknowledged);
    std::mt19937_64 random(1);
    auto found = std::make_shared<MemoryFileSystem>(
        after_power_loss(files->state(), Loss::kAllUnflushed, random));
    try {
      Owner owner(small_options(), found);
      Found records = read_all(owner.log());
      CHECK(records.last_lsn() >= second.acknowledged);
      for (uint64_t lsn = 1; lsn <= first.acknowledged; lsn++) {
        CHECK(records.records[lsn - 1] == record_of(1, lsn, 4000));
      }
    } catch (const std::exception& error) {
      throw CheckFailed("write " + std::to_string(n) + ": " + error.what() +
                        describe(files->state()));
    }
  }
  CHECK(failed > 20);
}

TEST(FailedWriteAndThenAKillAtAnyInstantOfTheNextProcessLoseNothingAcknowledged) {
  for (int n = 5; n < 60; n += 3) {
    auto files = std::make_shared<MemoryFileSystem>();
    files->fail_write_in = n;
    Life first = live(files, 1, 40);
    files->fail_write_in = 0;
    std::vector<DiskState> instants;
    files->watch([&](const DiskState& state) { instants.push_back(state); });
    live(files, 2, 3);
    files->watch(nullptr);
    std::mt19937_64 random(static_cast<uint64_t>(n));
    for (const DiskState& state : instants) {
      for (Loss loss : {Loss::kAllUnflushed, Loss::kSomeSectors, Loss::kNothing}) {
        Owner owner(small_options(),
                    std::make_shared<MemoryFileSystem>(after_power_loss(state, loss, random)));
        Found records = read_all(owner.log());
        CHECK(records.last_lsn() >= first.acknowledged);
        for (uint64_t lsn = 1; lsn <= first.acknowledged; lsn++) {
          CHECK(records.records[lsn - 1] == record_of(1, lsn, 4000));
        }
      }
    }
  }
}

TEST(ATermThatThereIsNoRoomToOpenIsNotStored) {
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(small_options(), files);
  owner.open_term();
  files->full = true;
  uint64_t lsn = 0;
  // Up to the last byte of what was prepared before.
  for (uint64_t bytes = 4000; bytes > 0; bytes /= 2) {
    for (bool fits = true; fits;) {
      try {
        owner.append(std::string(bytes, 'x'));
        owner.close_batch();
        owner.settle();
        lsn++;
      } catch (const WalFailure& failure) {
        CHECK_EQ(failure.code, "WAL_NO_SPACE");
        fits = false;
      }
    }
  }
  owner.settle();
  const Rule rule{CommitLevel::kRemoteFlush, "ANY 1 (*)", {Id{0x11}}, false};
  const Term other{2, Id{0x22}, 0};
  owner->store_rule(rule);
  owner->store_role(Role::kStandby, other, "b", "");
  Term next{3, owner->control().node_id, 1};
  CHECK_FAILS("WAL_NO_SPACE", owner->store_term(next, Rule{CommitLevel::kLocal, "", {}, false}));
  CHECK(!owner->failure());
  Control stored = owner->control();
  CHECK(stored.role == Role::kStandby);
  CHECK(stored.term == other);
  CHECK(stored.rule == rule);
  CHECK(owner->term() == other);
  files->full = false;
  owner.open_term(next);
  CHECK(owner->control().role == Role::kPrimary);
  CHECK_EQ(read_all(owner.log()).last_lsn(), lsn);
}

TEST(FullDiskRefusesAppendsUntilThereIsSpaceAndLosesNothing) {
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(small_options(), files);
  owner.open_term();
  files->full = true;
  uint64_t last = 0;
  std::string code;
  for (int i = 0; i < 200 && code.empty(); i++) {
    try {
      last = owner.append(record_of(7, last + 1, 4000));
      owner.close_batch();
      owner.settle();
    } catch (const WalFailure& failure) {
      code = failure.code;
    }
  }
  CHECK_EQ(code, "WAL_NO_SPACE");
  CHECK(!owner->failure());
  CHECK(last > 10);
  owner.settle();
  files->full = false;
  for (int tries = 0;; tries++) {
    try {
      CHECK_EQ(owner.append(record_of(7, last + 1, 4000)), last + 1);
      break;
    } catch (const WalFailure& failure) {
      CHECK_EQ(failure.code, "WAL_NO_SPACE");
      CHECK(tries < 1000);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  owner.close_batch();
  owner.settle();
  Found found = read_all(owner.log());
  CHECK_EQ(found.last_lsn(), last + 1);
  for (uint64_t lsn = 1; lsn <= last + 1; lsn++) {
    CHECK(found.records[lsn - 1] == record_of(7, lsn, 4000));
  }
}

}  // namespace
}  // namespace walmirror::test::failure_test
