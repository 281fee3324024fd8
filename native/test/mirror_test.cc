// A log on several disks: what is acknowledged is on each that is in, and one that fails is left
// behind before anything is acknowledged without it (SAFETY 7.1).
#include <thread>

#include "disks.h"

namespace walmirror::test::mirror_test {
namespace {

const std::vector<std::string> kBoth{"a", "b"};

TEST(MirrorHoldsTheSameBytesOnEachDisk) {
  auto disks = std::make_shared<Disks>(std::vector<std::string>{"a", "b", "c"});
  LogOptions options = options_on({"a", "b", "c"});
  uint64_t end;
  {
    Owner owner(options, disks);
    CHECK(owner->recovery().created);
    owner.open_term();
    append_to(owner, 1, 150);
    end = owner->flushed().position;
    CHECK(end > 2 * options.segment_bytes);
    for (const CopyStatus& row : owner->copies()) CHECK(row.in);
    check_records(owner.log(), 1, 150);
    std::string all = segment_bytes(*disks, "a", end);
    CHECK(all.size() > end - kFirstBatch);
    CHECK(all == segment_bytes(*disks, "b", end));
    CHECK(all == segment_bytes(*disks, "c", end));
    owner->close();
  }
  Owner again(options, disks);
  CHECK(again->recovery().clean);
  CHECK_EQ(again->flushed().position, end);
  check_records(again.log(), 1, 150);
}

TEST(MirrorRefusesASecondOpenerOfAnyOfItsDirectories) {
  auto disks = std::make_shared<Disks>(kBoth);
  Owner owner(options_on(kBoth), disks);
  CHECK_FAILS("WAL_LOCKED", Owner(options_on({"b", "a"}), disks));
  CHECK_FAILS("WAL_LOCKED", Owner(options_on({"b"}), disks));
  CHECK_FAILS("WAL_LOCKED", Owner(options_on({"a"}), disks));
}

/// A life on two disks of which one fails for good at its n-th call. What is acknowledged is
/// checked against what both disks, and the good one alone, would have after a power loss then.
bool live_while_one_fails(const std::string& bad, int n, Fault how, int error) {
  const std::string good = bad == "a" ? "b" : "a";
  auto disks = std::make_shared<Disks>(kBoth);
  {
    Owner owner(options_on(kBoth), disks);
    owner.open_term();
    append_to(owner, 1, 5);
    owner->close();
  }
  (*disks)[bad].fail_from(n, how, error);
  uint64_t acknowledged = 5;
  bool failed = false;
  {
    Owner owner(options_on(kBoth), disks);
    owner.open_term();
    while (acknowledged < 60) {
      append_to(owner, 1, acknowledged + 5);
      acknowledged += 5;
      Disks::States now = disks->states();
      failed = (*disks)[bad].dead;
      // Whichever disk is asked alone has all, or says that it may not have.
      auto alone = Disks::after_loss({{good, now[good]}}, Loss::kAllUnflushed, 1);
      try {
        Owner left(options_on({good}), alone);
        try {
          check_records(left.log(), 1, acknowledged);
        } catch (const CheckFailed& e) {
          throw CheckFailed(std::string("good alone ") + e.what() + " acked " +
                            std::to_string(acknowledged) + " found " +
                            std::to_string(left->flushed().lsn) + state_of(owner.log(), bad));
        }
      } catch (const WalFailure& failure) {
        CHECK_EQ(failure.code, "WAL_COPY_MISSING");
        LogOptions accepting = options_on({bad});
        accepting.accept_missing = {good};
        auto other = Disks::after_loss({{bad, now[bad]}}, Loss::kAllUnflushed, 1);
        Owner in(accepting, other);
        check_records(in.log(), 1, acknowledged);
      }
      auto other = Disks::after_loss({{bad, now[bad]}}, Loss::kAllUnflushed, 1);
      CHECK_FAILS("WAL_COPY_MISSING", Owner(options_on({bad}), other));
    }
    CHECK(!owner->failure());
    CHECK_EQ(state_of(owner.log(), good), "in");
    owner->close();
    CHECK(!owner->failure());
  }
  auto after = Disks::after_loss(disks->states(), Loss::kAllUnflushed, 1);
  Owner owner(options_on(kBoth), after);
  check_records(owner.log(), 1, acknowledged);
  owner.open_term();
  append_to(owner, 1, acknowledged + 5);
  CHECK_EQ(state_of(owner.log(), bad), "in");  // healed
  uint64_t end = owner->flushed().position;
  CHECK(segment_bytes(*after, "a", end) == segment_bytes(*after, "b", end));
  return failed;
}

TEST(MirrorGoesOnWhereOneDiskFailsAtAnyCallAndAcknowledgesNothingBeforeThatIsStored) {
  int failed = 0;
  for (const std::string& bad : kBoth) {
    for (int n = 1; n < 90; n += kSlow ? 7 : 1) {
      Fault how = n % 2 == 0 ? Fault::kBefore : Fault::kAfter;
      try {
        failed += live_while_one_fails(bad, n, how, n % 3 == 0 ? 28 : 5) ? 1 : 0;
      } catch (const std::exception& error) {
        throw CheckFailed(bad + " fails at call " + std::to_string(n) + ": " + error.what());
      }
    }
  }
  CHECK(failed > (kSlow ? 8 : 60));
}

TEST(MirrorWithoutAGoodDiskHasFailedForGood) {
  for (int n = 1; n < 30; n++) {
    auto disks = std::make_shared<Disks>(kBoth);
    Owner owner(options_on(kBoth), disks);
    owner.open_term();
    append_to(owner, 1, 5);
    Place before = owner->flushed();
    // The other fails a few calls later: while the first failure is being stored, maybe.
    (*disks)["b"].fail_from(1, Fault::kBefore);
    (*disks)["a"].fail_from(n, Fault::kBefore);
    uint64_t acknowledged = 5;
    std::string code;
    try {
      while (acknowledged < 200) append_to(owner, 1, ++acknowledged);
    } catch (const WalFailure& failure) {
      code = failure.code;
      acknowledged--;
    }
    if (code != "WAL_FLUSH_FAILED" && code != "WAL_IO")
      throw CheckFailed("at call " + std::to_string(n) + " it failed with '" + code + "'");
    CHECK(owner->flushed().position >= before.position);
    owner->close();
    owner.drop();
    auto after = Disks::after_loss(disks->states(), Loss::kAllUnflushed, 1);
    Owner again(options_on(kBoth), after);
    check_records(again.log(), 1, acknowledged);
  }
}

TEST(MirrorLeavesBehindADiskThatHangs) {
  for (const std::string& slow : kBoth) {
    auto disks = std::make_shared<Disks>(kBoth);
    LogOptions options = options_on(kBoth);
    options.copy_lag_ms = 2000;
    {
      Owner owner(options, disks);
      owner.open_term();
      (*disks)[slow].hangs = true;
      append_to(owner, 1, 20);
      std::string why = state_of(owner.log(), slow);
      CHECK(why.find("longer than on another copy") != std::string::npos ||
            why.find("has not returned yet") != std::string::npos);
      check_records(owner.log(), 1, 20);
      owner->close();
      CHECK(!owner->failure());
    }
    (*disks)[slow].hangs = false;
    (*disks)[slow].hangs.notify_all();
    // Until the call has returned, its directory stays locked.
    options.copy_lag_ms = 10000;  // and none is slow any more
    for (int tries = 0;; tries++) {
      try {
        Owner again(options, disks);
        check_records(again.log(), 1, 20);
        CHECK_EQ(state_of(again.log(), slow), "in");
        break;
      } catch (const WalFailure& failure) {
        CHECK_EQ(failure.code, "WAL_LOCKED");
        CHECK(tries < 1000);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
    }
  }
}

TEST(MirrorReadsWhatVerifiesFromWhicheverDiskHasIt) {
  auto disks = std::make_shared<Disks>(kBoth);
  Owner owner(options_on(kBoth), disks);
  owner.open_term();
  append_to(owner, 1, 120);
  // Each disk is damaged in every segment, at places of its own.
  int at = 0;
  for (const std::string& name : kBoth) {
    for (const std::string& file : disks->list(name)) {
      if (!file.ends_with(".wal")) continue;
      auto opened = disks->open(name + "/" + file, OpenMode::kReadWrite, false);
      for (uint64_t offset = 5000 + 9000u * (at++ % 2); offset < 60000; offset += 18000) {
        uint8_t bytes[16] = {0x5a};
        Slice slice{bytes, sizeof bytes};
        opened->write(offset, &slice, 1, true);
      }
    }
    at = 1;
  }
  check_records(owner.log(), 1, 120);
  for (uint64_t lsn = 1; lsn <= 120; lsn += 7) {
    CHECK(owner->locate(lsn) < owner->flushed().position);
  }
  uint64_t bad = 0;
  for (const CopyStatus& row : owner->copies()) bad += row.bad_reads;
  CHECK(bad > 0);
}

TEST(MirrorAfterAPowerLossAtAnyInstantHasAllThatWasAcknowledgedAndGoesOn) {
  auto disks = std::make_shared<Disks>(kBoth);
  std::vector<std::pair<Disks::States, uint64_t>> instants;
  std::atomic<uint64_t> acknowledged{0};
  {
    Owner owner(options_on(kBoth), disks);
    owner.open_term();
    disks->watch([&](const Disks::States& states) { instants.emplace_back(states, acknowledged); });
    for (uint64_t lsn = 3; lsn <= 120; lsn += 3) {
      append_to(owner, 1, lsn);
      acknowledged = lsn;
    }
    owner->close();
    disks->watch(nullptr);
  }
  CHECK(instants.size() > 100);
  uint64_t seed = 0;
  for (size_t i = 0; i < instants.size(); i += kSlow ? 11 : 1) {
    const auto& [states, known] = instants[i];
    for (Loss loss : {Loss::kAllUnflushed, Loss::kSomeSectors, Loss::kNothing}) {
      auto found = Disks::after_loss(states, loss, ++seed);
      Owner owner(options_on(kBoth), found);
      check_records(owner.log(), 1, known);
      uint64_t last = owner->flushed().lsn;
      owner.open_term();
      append_to(owner, 1, last + 2);
      uint64_t end = owner->flushed().position;
      CHECK(segment_bytes(*found, "a", end) == segment_bytes(*found, "b", end));
      // Once more, and then from one disk that the operator calls the only one.
      auto again = Disks::after_loss(found->states(), Loss::kAllUnflushed, ++seed);
      LogOptions alone = options_on({seed % 2 == 0 ? "a" : "b"});
      CHECK_FAILS("WAL_COPY_MISSING", Owner(alone, again));
      alone.accept_missing = {seed % 2 == 0 ? "b" : "a"};
      Owner one(alone, again);
      check_records(one.log(), 1, last + 2);
    }
  }
}

}  // namespace
}  // namespace walmirror::test::mirror_test
