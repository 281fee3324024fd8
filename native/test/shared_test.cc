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
  log.refuse_appends({});
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
  close_batch(owner.log());  // nothing of a log that takes nothing is published
  CHECK_EQ(owner->closed().lsn, 0u);
  {
    auto owning = owner->own();
    owner->refuse_appends({});
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
  uint64_t hits = 0;
  for (uint64_t nth = 1; nth <= 40; nth += kSlow ? 7 : 1) {
    auto files = std::make_shared<MemoryFileSystem>();
    Owner owner(small_options(), files);
    owner.open_term();
    share(owner.log());
    std::vector<std::string> records;
    for (int i = 0; i < 60; i++) records.emplace_back(1500, static_cast<char>('a' + i % 26));
    std::vector<std::pair<uint64_t, size_t>> taken;
    taken.reserve(records.size());
    {
      FailingAllocations failing(nth, false);
      for (size_t i = 0; i < records.size() && failing.seen() <= nth + 5; i++) {
        uint64_t lsn = 0;
        try {
          lsn = append(owner.log(), records[i]);
          if (i % 4 == 3) close_batch(owner.log());
        } catch (const std::bad_alloc&) {
        } catch (const WalFailure&) {
        }
        if (lsn > 0) taken.emplace_back(lsn, i);
      }
      if (failing.seen() >= nth) hits++;
    }
    Given given;
    for (const auto& [lsn, i] : taken) CHECK(given.emplace(lsn, records[i]).second);
    if (owner->has_failed()) continue;  // a flush found no memory
    close_batch(owner.log());
    owner.settle();
    check_found(owner.log(), given);
  }
  CHECK(hits > 0);
}

}  // namespace
}  // namespace walmirror::test::shared_test
