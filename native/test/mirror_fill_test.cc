// A copy that comes back while the log is open is filled beside the appends, and is in when it has
// all (SAFETY 7).
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <thread>

#include "copy_opening.h"
#include "disks.h"

namespace walmirror::test::mirror_fill_test {
namespace {

const std::vector<std::string> kBoth{"a", "b"};

/// Appends until the copy is as asked for; returns the last LSN.
uint64_t append_until(Owner& owner, const std::string& name, bool in, uint64_t lsn) {
  auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while ((state_of(owner.log(), name) == "in") != in) {
    if (std::chrono::steady_clock::now() > until)
      throw CheckFailed(name + " stays " + state_of(owner.log(), name));
    append_to(owner, 1, ++lsn);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return lsn;
}

TEST(FillingBringsBackADiskThatFailedWhileTheLogGoesOn) {
  for (const std::string& bad : kBoth) {
    const std::string good = bad == "a" ? "b" : "a";
    auto disks = std::make_shared<Disks>(kBoth);
    uint64_t lsn = 100;
    {
      Owner owner(options_on(kBoth), disks);
      owner.open_term();
      append_to(owner, 1, lsn);
      (*disks)[bad].dead = true;
      append_to(owner, 1, lsn += 100);
      CHECK(state_of(owner.log(), bad) != "in");
      (*disks)[bad].heal();
      lsn = append_until(owner, bad, true, lsn);
      append_to(owner, 1, lsn += 20);
      uint64_t end = owner->flushed().position;
      CHECK(segment_bytes(*disks, "a", end) == segment_bytes(*disks, "b", end));
      // Then the one that it was filled from is lost, in the middle of it all.
      (*disks)[good].dead = true;
      append_to(owner, 1, lsn += 20);
      CHECK(!owner->failure());
      check_records(owner.log(), 1, lsn);
    }
    auto alone = Disks::after_loss({{bad, disks->states()[bad]}}, Loss::kAllUnflushed, 1);
    Owner left(options_on({bad}), alone);
    check_records(left.log(), 1, lsn);
  }
}

/// Nothing in the directory, as it was left, looks like something that was lost.
void check_undamaged(const std::shared_ptr<Disks>& disks, const std::string& name) {
  constexpr uint64_t kReach = 4 * 65536;
  Control control = ControlFile::open(*disks, name, true)->current();
  LogIdentity identity{control.log_id, control.salt, control.segment_bytes, control.align};
  Segments segments(disks, name, identity, true);
  segments.load(control.start_position);
  find_end(identity, segments, control, kReach, false);
}

/// Whenever power is lost while b is filled, it holds what it held before, or more.
void check_filling_cut_short(bool trimmed) {
  auto disks = std::make_shared<Disks>(kBoth);
  std::vector<DiskState> instants;
  {
    Owner owner(options_on(kBoth), disks);
    owner.open_term();
    append_to(owner, 1, trimmed ? 150 : 30);
    Place before = owner->flushed();
    (*disks)["b"].dead = true;
    append_to(owner, 1, 200);
    CHECK(state_of(owner.log(), "b") != "in");
    owner->set_commit(before.position, before.lsn);
    if (trimmed) owner->trim(before.position);
    CHECK_EQ(owner->control().start_position > 65536, trimmed);
    disks->watch([&](const Disks::States& states) { instants.push_back(states.at("b")); });
    (*disks)["b"].heal();
    auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (state_of(owner.log(), "b") != "in") {
      CHECK(std::chrono::steady_clock::now() < until);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    owner->close();
    disks->watch(nullptr);
  }
  CHECK(instants.size() > 20);
  for (size_t i = 0; i < instants.size(); i++) {
    for (Loss loss : {Loss::kSomeSectors, Loss::kAllUnflushed, Loss::kNothing}) {
      for (uint64_t seed = 0; seed < (kSlow ? 1 : 4); seed++)
        check_undamaged(Disks::after_loss({{"b", instants[i]}}, loss, 100 * i + seed), "b");
    }
  }
}

TEST(FillingThatIsCutShortByAPowerLossNeverMakesACopyLookDamaged) {
  check_filling_cut_short(false);
}

TEST(FillingThatIsCutShortByAPowerLossKeepsWhatTheLogHasTrimmed) { check_filling_cut_short(true); }

/// Segments that have not been given their names yet.
size_t count_unnamed(const DiskState& state) {
  const Directory& names = state.directories.back();
  return static_cast<size_t>(std::count_if(names.begin(), names.end(), [](const auto& entry) {
    return entry.first.ends_with(".wal.new");
  }));
}

TEST(FillingThatFailedTakesNoRoomFromTheNextOne) {
  for (bool once : {true, false}) {
    for (int n = 1; n < 40; n += kSlow ? 11 : 5) {
      auto disks = std::make_shared<Disks>(kBoth);
      size_t most = 0;
      {
        Owner owner(options_on(kBoth), disks);
        owner.open_term();
        append_to(owner, 1, 30);
        (*disks)["b"].dead = true;
        append_to(owner, 1, 300);
        CHECK(state_of(owner.log(), "b") != "in");
        disks->watch([&](const Disks::States& states) {
          most = std::max(most, count_unnamed(states.at("b")));
        });
        (*disks)["b"].heal();
        (*disks)["b"].once = once;
        (*disks)["b"].fail_from(n, Fault::kBefore, ENOSPC);
        auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
        while (state_of(owner.log(), "b") != "in") {
          CHECK(std::chrono::steady_clock::now() < until);
          if ((*disks)["b"].dead) (*disks)["b"].heal();
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        owner->close();
        disks->watch(nullptr);
      }
      CHECK_EQ(most, 1u);
      CHECK_EQ(count_unnamed(disks->states()["b"]), 0u);
    }
  }
}

TEST(FillingThatEndedWithAPowerLossLeavesNothingInALogThatIsOpened) {
  auto disks = std::make_shared<Disks>(kBoth);
  std::vector<DiskState> unnamed;
  {
    Owner owner(options_on(kBoth), disks);
    owner.open_term();
    append_to(owner, 1, 30);
    (*disks)["b"].dead = true;
    append_to(owner, 1, 200);
    disks->watch([&](const Disks::States& states) {
      if (count_unnamed(states.at("b")) > 0) unnamed.push_back(states.at("b"));
    });
    (*disks)["b"].heal();
    append_until(owner, "b", true, 200);
    owner->close();
    disks->watch(nullptr);
  }
  CHECK(!unnamed.empty());
  auto left = Disks::after_loss({{"b", unnamed[unnamed.size() / 2]}}, Loss::kNothing, 1);
  CHECK_EQ(count_unnamed(left->states()["b"]), 1u);
  LogOptions alone = options_on({"b"});
  alone.accept_missing = {"a"};
  Owner owner(alone, left);
  CHECK_EQ(count_unnamed(left->states()["b"]), 0u);
  check_records(owner.log(), 1, 20);
}

TEST(FillingADirectoryThatWasRemovedAndMadeAgain) {
  auto disks = std::make_shared<Disks>(kBoth);
  Owner owner(options_on(kBoth), disks);
  owner.open_term();
  append_to(owner, 1, 50);
  for (const std::string& file : disks->list("b")) disks->remove("b/" + file);
  (*disks)["b"].gone = true;
  // No write fails: it is noticed all the same.
  uint64_t lsn = append_until(owner, "b", false, 50);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  CHECK(state_of(owner.log(), "b") != "in");
  (*disks)["b"].gone = false;
  lsn = append_until(owner, "b", true, lsn);
  append_to(owner, 1, lsn += 5);
  uint64_t end = owner->flushed().position;
  CHECK(segment_bytes(*disks, "a", end) == segment_bytes(*disks, "b", end));
}

TEST(FillingIsCutShortByAnyFailureOfThatDiskAndByACrashAndLosesNothing) {
  for (int n = 1; n < 60; n += kSlow ? 9 : 3) {
    auto disks = std::make_shared<Disks>(kBoth);
    uint64_t lsn = 30;
    {
      Owner owner(options_on(kBoth), disks);
      owner.open_term();
      append_to(owner, 1, lsn);
      (*disks)["b"].dead = true;
      append_to(owner, 1, lsn += 30);
      (*disks)["b"].heal();
      (*disks)["b"].fail_from(n, n % 2 == 0 ? Fault::kBefore : Fault::kAfter);
      auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(80);
      while (std::chrono::steady_clock::now() < until) {
        append_to(owner, 1, ++lsn);
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
      CHECK(!owner->failure());
      Disks::States now = disks->states();
      auto after = Disks::after_loss(now, Loss::kAllUnflushed, static_cast<uint64_t>(n));
      Owner again(options_on(kBoth), after);
      check_records(again.log(), 1, lsn);
      CHECK_EQ(state_of(again.log(), "b"), "in");
    }
  }
}

TEST(FillingADiskThatWasUsedWithoutTheOthersIsRefused) {
  auto disks = std::make_shared<Disks>(kBoth);
  auto replaced = (*disks)["b"].files;  // has files open to the end
  Owner owner(options_on(kBoth), disks);
  owner.open_term();
  append_to(owner, 1, 30);
  (*disks)["b"].dead = true;
  append_to(owner, 1, 40);
  auto elsewhere = Disks::after_loss({{"b", disks->states()["b"]}}, Loss::kNothing, 1);
  {
    LogOptions alone = options_on({"b"});
    alone.accept_missing = {"a"};
    Owner other(alone, elsewhere);
    other.open_term();
    append_to(other, 2, 50);
    other->close();
  }
  (*disks)["b"].files = (*elsewhere)["b"].files;
  (*disks)["b"].heal();
  auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (state_of(owner.log(), "b").find("without the other") == std::string::npos) {
    if (std::chrono::steady_clock::now() > until) throw CheckFailed(state_of(owner.log(), "b"));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  append_to(owner, 1, 60);
  CHECK(state_of(owner.log(), "b") != "in");
  owner->close();
  CHECK_FAILS("WAL_COPY_SPLIT", Owner(options_on(kBoth), disks));
}

TEST(FillingBesideABulkLoadKeepsItsRateAndEnds) {
  auto disks = std::make_shared<Disks>(kBoth);
  LogOptions options = options_on(kBoth);
  options.copy_fill_rate = 1u << 20;
  Owner owner(options, disks);
  owner.open_term();
  append_to(owner, 1, 400, 4000);
  (*disks)["b"].dead = true;
  append_to(owner, 1, 410, 4000);
  (*disks)["b"].heal();
  auto began = std::chrono::steady_clock::now();
  uint64_t lsn = 410;
  bool seen = false;
  while (state_of(owner.log(), "b") != "in") {
    append_to(owner, 1, ++lsn, 4000);
    for (const CopyStatus& row : owner->copies()) seen = seen || (row.filling && row.to_fill > 0);
    CHECK(std::chrono::steady_clock::now() - began < std::chrono::seconds(60));
  }
  CHECK(seen);
  CHECK(std::chrono::steady_clock::now() - began > std::chrono::milliseconds(700));
  uint64_t end = owner->flushed().position;
  CHECK(segment_bytes(*disks, "a", end) == segment_bytes(*disks, "b", end));
}

TEST(FillingWhileTheLogIsTrimmedAllTheTimeKeepsBothEqual) {
  auto disks = std::make_shared<Disks>(kBoth);
  Owner owner(options_on(kBoth), disks);
  owner.open_term();
  uint64_t lsn = 0;
  std::atomic<bool> over{false};
  std::atomic<int> moves{0};
  std::thread trimming([&] {
    while (!over && !owner->failure()) {
      Place end = owner->flushed();
      uint64_t before = owner->control().start_position;
      owner->set_commit(end.position, end.lsn);
      owner->trim(end.position);
      if (owner->control().start_position != before) moves++;
      std::this_thread::yield();
    }
  });
  try {
    for (int round = 0; round < (kSlow ? 2 : 8); round++) {
      int before = moves;
      append_to(owner, 1, lsn += 20);
      (*disks)["b"].dead = true;
      append_to(owner, 1, lsn += 60);
      CHECK(state_of(owner.log(), "b") != "in");
      (*disks)["b"].heal();
      lsn = append_until(owner, "b", true, lsn);
      append_to(owner, 1, lsn += 60);
      CHECK_EQ(state_of(owner.log(), "b"), "in");
      auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
      while (moves == before && std::chrono::steady_clock::now() < until) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));  // it may not have had its turn
      }
      CHECK(moves > before);
    }
  } catch (...) {
    over = true;
    trimming.join();
    throw;
  }
  over = true;
  trimming.join();
  CHECK(!owner->failure());
  uint64_t end = owner->flushed().position;
  // What b no longer needs is removed after it is in.
  auto same = [&] { return segment_bytes(*disks, "a", end) == segment_bytes(*disks, "b", end); };
  auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!same() && std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK(same());
  Disks::States states = disks->states();
  for (const std::string& name : kBoth) {
    LogOptions alone = options_on({name});
    alone.accept_missing = {name == "a" ? "b" : "a"};
    Owner left(alone, Disks::after_loss({{name, states[name]}}, Loss::kAllUnflushed, 1));
    CHECK(left->control().start_position > 0);
    check_records(left.log(), 1, lsn);
  }
}

TEST(FillingACopyWhileItIsScrubbedHasItsNewFilesScrubbed) {
  auto disks = std::make_shared<Disks>(kBoth);
  enum Phase { kIdle, kArmed, kReading, kGoOn };
  std::atomic<Phase> phase{kIdle};
  (*disks)["b"].files->on_read = [&](const std::string& path) {
    Phase armed = kArmed;
    if (path.ends_with("-0000000000000000.wal") && phase.compare_exchange_strong(armed, kReading)) {
      phase.wait(kReading);
    }
  };
  LogOptions options = options_on(kBoth);
  options.segment_bytes = 512u << 10;  // takes more than one read
  Owner owner(options, disks);
  owner.open_term();
  uint64_t lsn = 0;
  while (owner->closed().position < options.segment_bytes + 20000)
    append_to(owner, 1, lsn += 20, 4000);
  owner->set_commit(owner->flushed().position, owner->flushed().lsn);
  std::string path = segment_bytes(*disks, "b", 0);
  path = "b/" + path.substr(0, path.find('\n'));
  phase = kArmed;
  uint64_t pass = owner->scrubber().run_now();
  auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  try {
    while (phase == kArmed) {
      CHECK(std::chrono::steady_clock::now() < until);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    (*disks)["b"].dead = true;
    append_to(owner, 1, ++lsn);
    CHECK(state_of(owner.log(), "b") != "in");
    (*disks)["b"].heal();
    append_until(owner, "b", true, lsn);
    (*disks)["b"].files->flip(path, 8ull * (500u << 10));
  } catch (...) {
    phase = kGoOn;
    phase.notify_all();
    throw;
  }
  phase = kGoOn;
  phase.notify_all();
  while (owner->scrubber().status().passes < pass) {
    CHECK(std::chrono::steady_clock::now() < until);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK_EQ(owner->scrubber().status().repaired, 1u);
}

}  // namespace
}  // namespace walmirror::test::mirror_fill_test
