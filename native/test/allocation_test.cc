// Memory that runs out at any allocation of any call, once or for good: a clear error or a clean
// stop, and the log on the disk is whole.
#include <atomic>

#include "allocations.h"
#include "workers.h"
#include "workload.h"

namespace walmirror::test {
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

}  // namespace
}  // namespace walmirror::test
