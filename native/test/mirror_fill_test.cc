// A copy that comes back while the log is open is filled beside the appends, and is in when it has
// all (SAFETY 7).
#include <thread>

#include "disks.h"

namespace walmirror::test {
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

}  // namespace
}  // namespace walmirror::test
