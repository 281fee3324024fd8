// Memory that runs out at any allocation of any call, once or for good: a clear error or a clean
// stop, and the log on the disk is whole.
#include <atomic>

#include "allocations.h"
#include "disks.h"
#include "two_copies.h"
#include "workers.h"
#include "workload.h"

namespace walmirror::test::allocation_test {
namespace {

struct Scenario {
  const char* name;
  Ops before;
  std::optional<Op> tested;  // none: reads all, appends and commits
};

/// Opening is a part of the first operation.
const Scenario kScenarios[] = {
    {"open, promote", {}, Op::kPromote},
    {"append", {Op::kPromote}, Op::kAppend},
    {"commit", {Op::kPromote, Op::kAppend, Op::kAppend}, Op::kCommit},
    {"roll", {Op::kPromote}, Op::kRoll},
    {"open, receive, roll", {}, Op::kRoll},
    {"receive", {Op::kAppend, Op::kCommit, Op::kAppend}, Op::kCommit},
    {"open, truncate", {}, Op::kTruncate},
    {"trim", {Op::kPromote, Op::kRoll}, Op::kRecycle},
    {"close", {Op::kPromote, Op::kAppend}, Op::kClose},
    {"read", {Op::kPromote, Op::kAppend, Op::kCommit}, std::nullopt},
    {"promote", {Op::kRoll}, Op::kPromote},
};

struct Counts {
  std::atomic<uint64_t> failures{0};
  std::atomic<uint64_t> errors{0};
  std::atomic<uint64_t> stops{0};
};

class OutOfMemory {
 public:
  OutOfMemory(const Start& start, const Scenario& scenario, Counts& counts)
      : start_(start), scenario_(scenario), counts_(counts) {}

  void check_each(bool ever_after) {
    for (uint64_t nth = 1;; nth += kSlow ? 7 : 1) {
      try {
        if (!check(nth, ever_after)) return;
      } catch (const std::exception& error) {
        throw CheckFailed(std::string(scenario_.name) + ", allocation " + std::to_string(nth) +
                          (ever_after ? " and all after it: " : ": ") + error.what());
      }
    }
  }

 private:
  /// False: there are fewer allocations.
  bool check(uint64_t nth, bool ever_after) {
    Run run(start_);
    for (Op op : scenario_.before) CHECK(run.apply(op));
    bool failed = false;
    bool hit;
    {
      FailingAllocations failing(nth, ever_after);
      try {
        if (scenario_.tested) {
          CHECK(run.apply(*scenario_.tested));
        } else {
          run.go_on();
        }
      } catch (const CheckFailed&) {
        throw;
      } catch (const std::exception&) {
        failed = true;
      }
      if (ever_after) run.drop();
      hit = failing.seen() >= nth;
    }
    if (hit) counts_.failures++;
    if (failed) counts_.errors++;
    // What failed for want of memory either goes on, or says why not.
    if (!failed && !ever_after && run.stopped()) counts_.stops++;
    if (!ever_after) check_usable(run);
    run.drop();
    check_disk(run);
    return hit;
  }

  /// After an error the log takes the next call, or its failure says why not.
  void check_usable(Run& run) {
    try {
      run.go_on();
    } catch (const WalFailure& failure) {
      CHECK(run.stopped() || failure.code == "WAL_CLOSED");
    }
  }

  void check_disk(Run& run) {
    std::mt19937_64 random(1);
    for (Loss loss : {Loss::kNothing, Loss::kAllUnflushed}) {
      auto found = std::make_shared<MemoryFileSystem>(after_power_loss(run.disk(), loss, random));
      std::vector<InstantOf<Known>> instants;
      recover(found, run.known(), loss == Loss::kNothing ? nullptr : &instants);
    }
  }

  const Start& start_;
  const Scenario& scenario_;
  Counts& counts_;
};

TEST(OutOfMemoryAtAnyAllocationIsAnErrorOrACleanStopAndTheLogIsWhole) {
  Start start = make_used_start();
  Shared<Counts> counts;
  size_t scenarios = std::size(kScenarios);
  share_work(kSlow ? 1 : 2, 2 * scenarios, [&](size_t i) {
    OutOfMemory(start, kScenarios[i % scenarios], *counts).check_each(i >= scenarios);
  });
  std::printf("       %llu failed allocations, %llu errors, %llu logs stopped later\n",
              static_cast<unsigned long long>(counts->failures),
              static_cast<unsigned long long>(counts->errors),
              static_cast<unsigned long long>(counts->stops));
  CHECK(counts->failures > 100 && counts->errors > 50);
}

/// Runs `attempt` with each allocation failing in turn, until there are fewer; then `check`, with
/// whether it threw. Both get a fresh state from `make`.
template <typename Make, typename Attempt, typename Check>
void fail_each(const char* what, Make make, Attempt attempt, Check check) {
  uint64_t failures = 0;
  uint64_t errors = 0;
  for (bool ever_after : {false, true}) {
    for (uint64_t nth = 1;; nth += kSlow ? 23 : 3) {
      auto state = make();
      bool failed = false;
      bool hit;
      {
        FailingAllocations failing(nth, ever_after);
        try {
          attempt(state);
        } catch (const CheckFailed&) {
          throw;
        } catch (const std::exception&) {
          failed = true;
        }
        hit = failing.seen() >= nth;
      }
      try {
        check(state, failed);
      } catch (const std::exception& error) {
        throw CheckFailed(std::string(what) + ", allocation " + std::to_string(nth) +
                          (ever_after ? " and all after it: " : ": ") + error.what());
      }
      if (!hit) break;
      failures++;
      errors += failed ? 1 : 0;
    }
  }
  std::printf("       %s: %llu failed allocations, %llu errors\n", what,
              static_cast<unsigned long long>(failures), static_cast<unsigned long long>(errors));
  CHECK(failures > (kSlow ? 4 : 10) && errors > (kSlow ? 2 : 5));
}

std::shared_ptr<MemoryFileSystem> with_damage(const DiskState& disk) {
  auto files = std::make_shared<MemoryFileSystem>(disk);
  auto paths = segment_paths(*files, "d");
  damage(*files, paths.begin()->second, 20000, 5000);
  damage(*files, std::next(paths.begin())->second, 100, 1);
  return files;
}

TEST(OutOfMemoryInAScrubIsAnErrorAndChangesNothing) {
  DiskState disk = make_two_copies(false);
  size_t found = scrub(with_damage(disk)).size();
  fail_each(
      "scrub", [&] { return with_damage(disk); },
      [&](const auto& files) { CHECK_EQ(scrub(files).size(), found); },
      [&](const auto& files, bool) { CHECK_EQ(scrub(files).size(), found); });
}

TEST(OutOfMemoryInARepairLeavesWhatTheNextOneMends) {
  DiskState disk = make_two_copies(false);
  fail_each(
      "repair", [&] { return with_damage(disk); }, [](const auto& files) { repair(files); },
      [](const auto& files, bool) {
        repair(files);
        CHECK(scrub(files).empty());
        CHECK(segment_bytes(*files, "d") == segment_bytes(*files, "e"));
        Owner owner(small_options(), files);
      });
}

struct OnTwoDisks {
  std::shared_ptr<Disks> disks;
  uint64_t acknowledged = 0;
};

OnTwoDisks make_two_disks() {
  OnTwoDisks made{std::make_shared<Disks>(std::vector<std::string>{"a", "b"}), 20};
  Owner owner(options_on({"a", "b"}), made.disks);
  owner.open_term();
  append_to(owner, 1, made.acknowledged);
  return made;
}

TEST(OutOfMemoryWithTwoDirectoriesLosesNothingOnEither) {
  fail_each(
      "two directories", make_two_disks,
      [](OnTwoDisks& state) {
        Owner owner(options_on({"a", "b"}), state.disks);
        owner.open_term();
        for (int i = 0; i < 20; i++) {
          append_to(owner, 1, state.acknowledged + 1);
          state.acknowledged++;
        }
        owner->close();
      },
      [](OnTwoDisks& state, bool) {
        auto found = Disks::after_loss(state.disks->states(), Loss::kAllUnflushed, 1);
        Owner owner(options_on({"a", "b"}), found);
        check_records(owner.log(), 1, state.acknowledged);
        owner.open_term();
        append_to(owner, 1, owner->closed().lsn + 10);
        owner->close();
        uint64_t end = owner->flushed().position;
        for (const char* name : {"a", "b"}) CHECK_EQ(state_of(owner.log(), name), "in");
        CHECK(segment_bytes(*found, "a", end) == segment_bytes(*found, "b", end));
      });
}

}  // namespace
}  // namespace walmirror::test::allocation_test
