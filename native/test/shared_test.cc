// Several threads append to one log.
#include <atomic>
#include <cstring>
#include <thread>

#include "allocations.h"
#include "log_fixture.h"

namespace walmirror::test::shared_test {
namespace {

const uint8_t* bytes_of(const std::string& text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

uint64_t append(Log& log, const std::string& record) {
  auto owning = log.own();
  return log.append(bytes_of(record), record.size());
}

void close_batch(Log& log) {
  auto owning = log.own();
  log.close_shared();
}

void share(Log& log) {
  auto owning = log.own();
  log.share();
  log.take_appends();
}

/// As in a payload.
std::string framed(const std::vector<std::string>& records) {
  std::string all;
  for (const std::string& record : records) {
    auto length = static_cast<uint32_t>(record.size());
    std::string one(record_bytes(record.size()), '\0');
    std::memcpy(one.data(), &length, sizeof length);
    std::memcpy(one.data() + sizeof length, record.data(), record.size());
    all += one;
  }
  return all;
}

uint64_t append_group(Log& log, const std::vector<std::string>& records) {
  std::string all = framed(records);
  auto owning = log.own();
  return log.append_group(bytes_of(all), all.size(), static_cast<uint32_t>(records.size()));
}

/// What each LSN was given for, as the threads that appended were told.
using Given = std::map<uint64_t, std::string>;

void check_found(Log& log, const Given& given) {
  Found found = read_all(log);
  CHECK_EQ(found.last_lsn(), given.size());
  for (const auto& [lsn, record] : given) CHECK(found.records.at(lsn - 1) == record);
}

TEST(SharedLogGivesEachRecordOfEachThreadAnLsnOfItsOwn) {
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(small_options(), files);
  owner.open_term();
  share(owner.log());
  constexpr int kThreads = 4;
  const int rounds = kSlow ? 100 : 500;
  std::vector<Given> given(kThreads);
  std::atomic<int> running{kThreads};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; thread++) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < rounds;) {
        std::string tag = std::to_string(thread) + "/" + std::to_string(i) + "/";
        if (i % 5 == 0) {
          std::vector<std::string> group;
          for (int k = 0; k < 8; k++) group.push_back(tag + record_of(7, k, 2500));
          uint64_t first = append_group(owner.log(), group);
          if (first > 0) {
            for (size_t k = 0; k < group.size(); k++) given[thread][first + k] = group[k];
            i++;
          }
        } else if (uint64_t lsn = append(owner.log(), tag + record_of(8, i, 900)); lsn > 0) {
          given[thread][lsn] = tag + record_of(8, i, 900);
          i++;
        }
        if (i % 3 == 0) close_batch(owner.log());
        std::this_thread::yield();
      }
      running--;
    });
  }
  // The owner looks at the log meanwhile, as its thread does after each flush.
  while (running > 0) {
    {
      auto owning = owner->own();
      CHECK(owner->appended() >= owner->closed().lsn);
      owner->nearly_full();
      owner->ring_floor();
    }
    owner.wait_for_progress();
  }
  for (std::thread& thread : threads) thread.join();
  close_batch(owner.log());
  owner.settle();
  Given all;
  for (const Given& each : given) {
    uint64_t last = 0;
    for (const auto& [lsn, record] : each) {
      CHECK(lsn > last);
      last = lsn;
      CHECK(all.emplace(lsn, record).second);
    }
  }
  CHECK(owner->closed().position > 4 * owner->ring()->size());
  check_found(owner.log(), all);
}

/// What each call may take is decided with the open batch, whoever has filled it.
TEST(SharedLogTakesAGroupWholeOrNotAtAllHoweverFullItIs) {
  int refused = 0;
  int taken = 0;
  for (size_t open = 1; open <= 16; open++) {
    auto files = std::make_shared<MemoryFileSystem>();
    LogOptions options = small_options();
    options.segment_bytes = 1 << 20;
    options.max_batch_bytes = 65536;
    Owner owner(options, files);
    owner.open_term();
    share(owner.log());
    // Nothing that is appended comes free: as a standby that is behind would have it.
    int pin = owner->pin(owner->closed().position);
    Given given;
    uint64_t free = owner->ring_free();
    while (owner->ring_free() > free / 2) {
      std::string record(4000, 'f');
      uint64_t lsn = append(owner.log(), record);
      CHECK(lsn > 0);
      given[lsn] = record;
      close_batch(owner.log());
    }
    for (size_t i = 0; i < open; i++) {
      uint64_t lsn = append(owner.log(), std::string(3000, 'o'));
      CHECK(lsn > 0);
      given[lsn] = std::string(3000, 'o');
    }
    std::vector<std::string> group(12, std::string(3200, 'g'));
    if (uint64_t first = append_group(owner.log(), group)) {
      taken++;
      for (const std::string& record : group) given[first++] = record;
    } else {
      refused++;
    }
    CHECK_EQ(owner->has_failed(), false);
    CHECK_EQ(owner->appended(), given.size());
    owner->unpin(pin);
    close_batch(owner.log());
    owner.settle();
    check_found(owner.log(), given);
  }
  CHECK(refused > 0);
  CHECK(taken > 0);
}

TEST(SharedLogThatClosesTakesEachAppendWholeOrRefusesIt) {
  for (int round = 0; round < (kSlow ? 5 : 20); round++) {
    auto files = std::make_shared<MemoryFileSystem>();
    std::mutex mutex;
    Given given;
    {
      Owner owner(small_options(), files);
      owner.open_term();
      share(owner.log());
      std::atomic<int> refused{0};
      std::vector<std::thread> threads;
      for (int thread = 0; thread < 3; thread++) {
        threads.emplace_back([&, thread] {
          for (uint64_t i = 0;; i++) {
            std::string record = std::to_string(thread) + ":" + record_of(thread, i, 500);
            try {
              auto owning = owner->own();
              uint64_t lsn = owner->append(bytes_of(record), record.size());
              owner->close_shared();
              if (lsn == 0) continue;
              std::lock_guard guard(mutex);
              given[lsn] = record;
            } catch (const WalFailure& failure) {
              CHECK_EQ(failure.code, "WAL_CLOSED");
              refused++;
              return;
            }
          }
        });
      }
      for (;;) {
        owner.wait_for_progress();
        auto owning = owner->own();
        if (owner->appended() > 50) break;
      }
      owner->close();
      for (std::thread& thread : threads) thread.join();
      CHECK_EQ(refused.load(), 3);
      CHECK_EQ(owner->flushed().lsn, given.size());
    }
    Owner again(small_options(), files);
    CHECK(again->recovery().clean);
    check_found(again.log(), given);
  }
}

/// As where the thread that has it ends, in the middle of a turn of another.
TEST(SharedLogThatClosesHasWhatWasAppendedLast) {
  auto files = std::make_shared<MemoryFileSystem>();
  {
    Owner owner(small_options(), files);
    owner.open_term();
    share(owner.log());
    CHECK_EQ(append(owner.log(), "a"), 1u);
    owner->close();
    CHECK_EQ(owner->flushed().lsn, 1u);
  }
  Owner again(small_options(), files);
  check_found(again.log(), {{1, "a"}});
}

TEST(SharedLogIsRefusedWhatItsOwnerRefuses) {
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(small_options(), files);
  CHECK_FAILS("WAL_CLOSED", append(owner.log(), "not shared"));
  share(owner.log());
  CHECK_FAILS("WAL_IS_STANDBY", append(owner.log(), "no term"));
  owner.open_term();
  CHECK_EQ(append(owner.log(), "a"), 1u);
  {
    auto owning = owner->own();
    owner->refuse_appends(WalFailure("WAL_FENCED", "a newer primary exists"));
  }
  CHECK_FAILS("WAL_FENCED", append(owner.log(), "b"));
  CHECK_FAILS("WAL_FENCED", append_group(owner.log(), {"b", "c"}));
  {
    auto owning = owner->own();
    FailingAllocations failing(1, true);
    owner->refuse_appends();  // as it is told where there is no memory for the words
  }
  CHECK_FAILS("WAL_CLOSED", append(owner.log(), "b"));
  close_batch(owner.log());  // nothing of a log that takes nothing is published
  CHECK_EQ(owner->closed().lsn, 0u);
  {
    auto owning = owner->own();
    owner->take_appends();
  }
  CHECK_EQ(append(owner.log(), "b"), 2u);
  bool refused = false;
  try {
    auto owning = owner->own();
    owner->close_batch(8, 1);  // records of the caller's own
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  CHECK(refused);
  owner.close_batch();
  owner.settle();
  check_found(owner.log(), {{1, "a"}, {2, "b"}});
}

/// An LSN that was given is never given again, and what was refused is nowhere.
TEST(SharedLogWithoutMemoryGivesNoLsnTwice) {
  std::vector<std::string> records;
  for (char letter = 'a'; letter <= 'z'; letter++) records.emplace_back(1500, letter);
  constexpr size_t kMost = 3000;
  for (uint64_t nth = 1; nth <= 20; nth += kSlow ? 5 : 1) {
    auto files = std::make_shared<MemoryFileSystem>();
    Owner owner(small_options(), files);
    owner.open_term();
    share(owner.log());
    std::vector<uint64_t> lsns;  // of each record that was taken
    lsns.reserve(kMost);
    std::vector<size_t> taken;
    taken.reserve(kMost);
    {
      FailingAllocations failing(nth, false);
      for (size_t i = 0; failing.seen() < nth && taken.size() < kMost; i++) {
        try {
          const std::string& record = records[i % records.size()];
          uint64_t lsn = append(owner.log(), record);
          if (lsn > 0) {
            lsns.push_back(lsn);
            taken.push_back(i % records.size());
          } else {
            owner.wait_for_progress();
          }
          if (i % 4 == 3) close_batch(owner.log());
        } catch (const std::bad_alloc&) {
        } catch (const WalFailure&) {
          break;  // a flush found no memory
        }
      }
      CHECK(failing.seen() >= nth || owner->has_failed());
    }
    Given given;
    for (size_t i = 0; i < lsns.size(); i++)
      CHECK(given.emplace(lsns[i], records[taken[i]]).second);
    try {
      close_batch(owner.log());
      owner.settle();
    } catch (const WalFailure&) {
      CHECK(owner->has_failed());
    }
    // A flush that found no memory is final: what was not closed by then is not in the log.
    if (owner->has_failed()) continue;
    check_found(owner.log(), given);
  }
}

/// The same of groups: of what was refused no record is there, and of a group that was cut short
/// those that are there come first, and nothing after them.
TEST(SharedLogWithoutMemoryTakesAGroupOrSaysThatAPartIsThere) {
  std::vector<std::vector<std::string>> groups;
  std::vector<std::string> payloads;
  for (int i = 0; i < 8; i++) {
    groups.emplace_back();
    for (int k = 0; k < 12; k++) groups.back().emplace_back(3500, static_cast<char>('a' + i + k));
    payloads.push_back(framed(groups.back()));
  }
  enum class End { kTaken, kRefused, kPartTaken };
  uint64_t parts = 0;
  uint64_t refusals = 0;
  for (uint64_t nth = 1; nth <= 40; nth++) {
    auto files = std::make_shared<MemoryFileSystem>();
    std::vector<std::string> given;
    size_t sure = 0;
    {
      Owner owner(small_options(), files);
      owner.open_term();
      share(owner.log());
      // It may be a thread of the log that finds no memory, and the log that fails.
      auto settles = [&] {
        try {
          owner.settle();
        } catch (const WalFailure&) {
          CHECK(owner->has_failed());
        }
        return !owner->has_failed();
      };
      for (size_t i = 0; i < groups.size() && settles(); i++) {
        uint64_t before = owner->appended();
        uint64_t lsn = 0;
        End end = End::kRefused;
        {
          FailingAllocations failing(nth - std::min(nth - 1, 5 * i), false);
          auto owning = owner->own();
          try {
            lsn = owner->append_group(bytes_of(payloads[i]), payloads[i].size(), 12);
            if (lsn > 0) end = End::kTaken;
          } catch (const std::bad_alloc&) {
          } catch (const WalFailure&) {
          } catch (const PartTaken&) {
            end = End::kPartTaken;
          }
        }
        if (end == End::kRefused) {
          refusals++;
          CHECK_EQ(owner->appended(), before);
          continue;
        }
        CHECK(owner->appended() > before);
        given.insert(given.end(), groups[i].begin(), groups[i].end());
        if (end == End::kPartTaken) {
          parts++;
          CHECK(owner->has_failed());
          CHECK(owner->appended() < before + groups[i].size());
          break;
        }
        CHECK_EQ(lsn, before + 1);
        CHECK_EQ(owner->appended(), given.size());
      }
      if (settles()) {
        close_batch(owner.log());
        if (settles()) sure = given.size();
      }
      owner.drop();
    }
    Owner again(small_options(), files);
    Found found = read_all(again.log());
    CHECK(found.records.size() >= sure);
    CHECK(found.records.size() <= given.size());
    for (size_t i = 0; i < found.records.size(); i++) CHECK(found.records[i] == given[i]);
  }
  CHECK(parts > 0);
  CHECK(refusals > 0);
}

/// A thread that is quiet for so long that the ticker sleeps, and then never lets go.
TEST(SharedLogClosesABatchThatHasOutlivedTheTicker) {
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(small_options(), files);
  owner.open_term();
  share(owner.log());
  for (bool group : {false, true}) {
    uint64_t first = append(owner.log(), "quiet");
    while (owner->tick_word()->load() != Log::kAsleep)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK_EQ(owner->closed().lsn, first - 1);
    CHECK_EQ(group ? append_group(owner.log(), {"busy"}) : append(owner.log(), "busy"), first + 1);
    CHECK_EQ(owner->closed().lsn, first);
    close_batch(owner.log());
  }
}

/// The owner is asked for the end of the log while a task of its own cuts it.
TEST(SharedLogThatIsCutTellsItsEndMeanwhile) {
  auto files = std::make_shared<MemoryFileSystem>();
  {
    Owner owner(small_options(), files);
    owner.open_term();
    for (int i = 0; i < 20; i++) {
      owner.append(record_of(9, i));
      owner.close_batch();
    }
    owner.settle();
  }
  LogOptions options = small_options();
  options.role = Role::kStandby;
  Owner owner(options, files);
  share(owner.log());
  uint64_t last = owner->closed().lsn;
  CHECK_EQ(last, 20u);
  uint64_t start = owner->start().position;
  std::atomic<bool> done{false};
  CHECK(owner->post([&] {
    owner->truncate(start, "tail.diverged");
    done = true;
  }));
  while (!done) {
    auto owning = owner->own();
    uint64_t lsn = owner->appended();
    CHECK(lsn == last || lsn == 0);
  }
  CHECK_EQ(owner->appended(), 0u);
}

}  // namespace
}  // namespace walmirror::test::shared_test
