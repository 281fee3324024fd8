// What one copy has yet to write: how a write comes, or does not.
#include "backlog.h"

#include <thread>
#include <utility>

#include "allocations.h"
#include "test.h"

namespace walmirror::test::backlog_test {
namespace {

using Clock = std::chrono::steady_clock;

struct OneCopy {
  Lanes lanes;
  std::shared_ptr<Backlog> backlog = std::make_shared<Backlog>();
  std::shared_ptr<CopyRound> round = std::make_shared<CopyRound>(std::vector<size_t>{0});

  Backlog::Write write(std::function<void(size_t)> call) {
    return {std::move(call), nullptr, round, 0, 100};
  }
};

TEST(BacklogForgetsAWriteForWhichThereIsNoThreadOrNoMemory) {
  int failed = 0;
  for (uint64_t nth = 1;; nth++) {
    OneCopy copy;
    std::atomic<int> made{0};
    bool threw = false;
    bool hit;
    {
      Backlog::Write write = copy.write([&](size_t) { made++; });
      FailingAllocations failing(nth, false);
      try {
        copy.backlog->push(copy.lanes, std::move(write));
      } catch (const std::bad_alloc&) {
        threw = true;
      }
      hit = failing.seen() >= nth;
    }
    if (threw) {
      failed++;
      CHECK(copy.backlog->idle());
      CHECK_EQ(copy.backlog->bytes(), 0u);
      CHECK_EQ(copy.backlog->came(), 0u);
      CHECK(copy.lanes.quiet());
      // The next one is not behind it for ever.
      copy.backlog->push(copy.lanes, copy.write([&](size_t) { made++; }));
    }
    CHECK(copy.backlog->wait_until_done(1, std::chrono::seconds(20)));
    CHECK_EQ(copy.backlog->came(), 1u);
    CHECK_EQ(made.load(), 1);
    if (!hit) break;
  }
  CHECK(failed >= 3);
}

/// What is stored of a log, its watermark say, waits for the writes that came before it.
TEST(BacklogIsWaitedForUntilTheLastOfThatManyWritesIsMade) {
  OneCopy copy;
  std::atomic<bool> waited{false};
  std::atomic<bool> made{false};
  copy.backlog->push(copy.lanes, copy.write([&](size_t) {
    // Whoever does not wait for it is through long before.
    auto until = Clock::now() + std::chrono::milliseconds(500);
    while (!waited && Clock::now() < until) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    made = !waited;
  }));
  copy.backlog->wait_for(1);
  waited = true;
  CHECK(copy.backlog->wait_until_done(1, std::chrono::seconds(20)));
  CHECK(made);
}

TEST(BacklogOfACopyThatWasDroppedWritesNothingOnceItsLanesAreQuiet) {
  OneCopy copy;
  std::atomic<bool> began{false};
  std::atomic<bool> looking{false};
  std::atomic<bool> looked{false};
  std::atomic<bool> quiet{false};
  std::atomic<bool> written_after{false};
  // As the keeper does before it fills the directory anew.
  std::thread keeper([&] {
    began.wait(false);
    looking = true;
    copy.backlog->give_up();
    quiet = copy.lanes.quiet();
    looked = true;
  });
  {
    Backlog::Write write = copy.write([&](size_t) { written_after = looked && quiet; });
    bool first = true;
    BeforeAllocations meanwhile([&] {
      if (!std::exchange(first, false)) return;
      began = true;
      began.notify_all();
      auto wait = [](const std::atomic<bool>& for_it, std::chrono::seconds most) {
        auto until = Clock::now() + most;
        while (!for_it && Clock::now() < until) {
          std::this_thread::sleep_for(
              std::chrono::milliseconds(1));  // a busy machine has few turns
        }
      };
      wait(looking, std::chrono::seconds(20));
      // It may have to wait until the write has come: then that takes all of this time.
      wait(looked, std::chrono::seconds(1));
    });
    copy.backlog->push(copy.lanes, std::move(write));
    CHECK(!first);
  }
  keeper.join();
  copy.lanes.end();
  std::vector<CopyRound::Call> calls;
  copy.round->wait(std::chrono::seconds(20), nullptr, calls);
  CHECK(!written_after);
}

}  // namespace
}  // namespace walmirror::test::backlog_test
