// A log that is acknowledged by k of its m disks while the others are behind (SAFETY 7.2).
#include <thread>

#include "disks.h"

namespace walmirror::test::mirror_quorum_test {
namespace {

using Names = std::vector<std::string>;
const Names kThree{"a", "b", "c"};

LogOptions quorum_on(const Names& names, uint32_t quorum) {
  LogOptions options = options_on(names);
  options.mirror_quorum = quorum;
  return options;
}

std::string result_of(const LogOptions& options, const std::shared_ptr<Disks>& disks) {
  try {
    Owner owner(options, disks);
  } catch (const WalFailure& failure) {
    return failure.code + ": " + failure.what();
  }
  return "opened";
}

/// What a power loss now leaves of these disks, and nothing of the others.
std::shared_ptr<Disks> left_of(const Disks::States& states, const Names& names, uint64_t seed = 1) {
  Disks::States some;
  for (const std::string& name : names) some[name] = states.at(name);
  return Disks::after_loss(some, Loss::kAllUnflushed, seed);
}

void release(Disk& disk) {
  disk.hangs = false;
  disk.hangs.notify_all();
}

/// A disk that hangs until this ends: also where a check fails, or the log would wait for it long.
struct Hanging {
  explicit Hanging(Disk& of) : disk(of) { disk.hangs = true; }
  ~Hanging() { release(disk); }
  Disk& disk;
};

uint64_t behind(Log& log, const std::string& name) {
  for (const CopyStatus& row : log.copies()) {
    if (row.directory == name) return row.behind;
  }
  return 0;
}

template <typename Condition>
void until(Condition condition, const std::string& what) {
  auto last = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > last) throw CheckFailed("not in time: " + what);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

/// Whichever of the disks are left, they hold what was acknowledged, or are refused.
void check_subsets(const Disks::States& states, const Names& names, uint32_t quorum, uint64_t lsn) {
  size_t needed = copies_to_open(names.size(), quorum);
  for (unsigned set = 1; set < 1u << names.size(); set++) {
    Names some;
    std::string missing;
    for (size_t i = 0; i < names.size(); i++) {
      if (set & (1u << i)) some.push_back(names[i]);
      else missing += (missing.empty() ? ": " : ", ") + names[i];
    }
    auto found = left_of(states, some, set);
    // The option that it is opened with says nothing of what was acknowledged before.
    for (uint32_t asked : {1u, 0u}) {
      LogOptions options = quorum_on(some, asked);
      if (some.size() < needed) {
        std::string result = result_of(options, found);
        CHECK(result.starts_with("WAL_COPY_MISSING"));
        CHECK(result.find(missing + ".") != std::string::npos);
        continue;
      }
      Owner owner(options, Disks::after_loss(found->states(), Loss::kNothing, 1));
      check_records(owner.log(), 1, lsn);
    }
  }
}

TEST(QuorumAcknowledgesWhileADiskHangsAndAnyTwoOfThreeOpenWithAll) {
  for (const std::string& slow : kThree) {
    auto disks = std::make_shared<Disks>(kThree);
    Owner owner(quorum_on(kThree, 2), disks);
    owner.open_term();
    append_to(owner, 1, 10);
    CHECK_EQ(owner->copies_acknowledging(), 2u);
    (*disks)[slow].hangs = true;
    append_to(owner, 1, 30);
    CHECK_EQ(state_of(owner.log(), slow), "in");
    CHECK(behind(owner.log(), slow) > 0);
    check_records(owner.log(), 1, 30);
    check_subsets(disks->states(), kThree, 2, 30);
    release((*disks)[slow]);
    until([&] { return behind(owner.log(), slow) == 0; }, "it catches up");
    uint64_t end = owner->flushed().position;
    CHECK(segment_bytes(*disks, "a", end) == segment_bytes(*disks, "b", end));
    CHECK(segment_bytes(*disks, "a", end) == segment_bytes(*disks, "c", end));
    append_to(owner, 1, 200);  // several segments
    owner->close();
    CHECK(!owner->failure());
    check_subsets(disks->states(), kThree, 2, 200);
  }
}

TEST(QuorumOfOneOfTwoOpensOnlyWithBoth) {
  auto disks = std::make_shared<Disks>(Names{"a", "b"});
  Owner owner(quorum_on({"a", "b"}, 1), disks);
  owner.open_term();
  Hanging b((*disks)["b"]);
  append_to(owner, 1, 20);
  check_subsets(disks->states(), {"a", "b"}, 1, 20);
}

TEST(QuorumIsStoredBeforeASmallerOneCounts) {
  auto disks = std::make_shared<Disks>(kThree);
  for (uint32_t quorum : {0u, 2u}) {
    Owner owner(quorum_on(kThree, quorum), disks);
    owner.open_term();
    append_to(owner, 1, 10 + quorum * 5);
    owner->close();
  }
  Owner owner(quorum_on(kThree, 1), disks);
  CHECK_EQ(owner->control().membership.quorum, 1u);
  owner.open_term();
  (*disks)["b"].hangs = true;
  (*disks)["c"].hangs = true;
  append_to(owner, 1, 40);  // on a alone
  check_subsets(disks->states(), kThree, 1, 40);
  release((*disks)["b"]);
  release((*disks)["c"]);
}

TEST(QuorumDropsADiskThatIsBehindForTooLongOrFailsMeanwhile) {
  for (bool fails : {false, true}) {
    auto disks = std::make_shared<Disks>(kThree);
    LogOptions options = quorum_on(kThree, 2);
    options.copy_lag_ms = fails ? 20'000 : 2000;
    Owner owner(options, disks);
    owner.open_term();
    append_to(owner, 1, 10);
    (*disks)["c"].hangs = true;
    append_to(owner, 1, 20);
    if (fails) {
      (*disks)["c"].dead = true;
      release((*disks)["c"]);
    }
    // No further append is needed for it.
    until([&] { return state_of(owner.log(), "c") != "in"; }, "it is dropped");
    CHECK_EQ(owner->copies_acknowledging(), 2u);
    append_to(owner, 1, 30);
    Disks::States now = disks->states();
    // What is left acknowledges with both, and is opened with both: each may go on alone.
    check_subsets({{"a", now["a"]}, {"b", now["b"]}}, {"a", "b"}, 2, 30);
    CHECK(result_of(quorum_on({"b", "c"}, 2), left_of(now, {"b", "c"}))
              .starts_with("WAL_COPY_MISSING"));
    (*disks)["b"].dead = true;
    append_to(owner, 1, 40);
    CHECK_EQ(owner->copies_acknowledging(), 1u);
    now = disks->states();
    for (const Names& without : {Names{"b"}, Names{"c"}, Names{"b", "c"}}) {
      CHECK(
          result_of(quorum_on(without, 2), left_of(now, without)).starts_with("WAL_COPY_MISSING"));
    }
    Owner alone(quorum_on({"a"}, 0), left_of(now, {"a"}));
    check_records(alone.log(), 1, 40);
    if (!fails) release((*disks)["c"]);
  }
}

TEST(QuorumCatchesUpBeforeItGoesOnWithoutADiskThatWasAhead) {
  auto disks = std::make_shared<Disks>(kThree);
  Owner owner(quorum_on(kThree, 2), disks);
  owner.open_term();
  append_to(owner, 1, 10);
  (*disks)["c"].hangs = true;
  append_to(owner, 1, 20);
  // a and b have all; b is lost, and what goes on is a with c.
  (*disks)["b"].dead = true;
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    release((*disks)["c"]);
  });
  append_to(owner, 1, 21);
  later.join();
  CHECK_EQ(state_of(owner.log(), "c"), "in");
  CHECK(state_of(owner.log(), "b") != "in");
  Disks::States now = disks->states();
  check_subsets({{"a", now["a"]}, {"c", now["c"]}}, {"a", "c"}, 2, 21);
  CHECK(result_of(quorum_on({"b"}, 0), left_of(now, {"b"})).starts_with("WAL_COPY_MISSING"));
}

TEST(QuorumOfTwoStopsWhereTwoOfThreeAreLostAtOnce) {
  auto disks = std::make_shared<Disks>(kThree);
  Owner owner(quorum_on(kThree, 2), disks);
  owner.open_term();
  append_to(owner, 1, 10);
  (*disks)["b"].dead = true;
  (*disks)["c"].dead = true;
  std::string code;
  uint64_t acknowledged = 10;
  try {
    for (; acknowledged < 20; acknowledged++) append_to(owner, 1, acknowledged + 1);
  } catch (const WalFailure& failure) {
    code = failure.code;
  }
  CHECK(code == "WAL_FLUSH_FAILED" || code == "WAL_IO");
  CHECK_EQ(acknowledged, 10u);
  // The two may be opened without the third, which therefore went on with nothing.
  Disks::States now = disks->states();
  Owner two(quorum_on({"b", "c"}, 2), left_of(now, {"b", "c"}));
  check_records(two.log(), 1, 10);
  CHECK(result_of(quorum_on({"a"}, 2), left_of(now, {"a"})).starts_with("WAL_COPY_MISSING"));
}

TEST(QuorumReadsFromNoDiskThatIsBehind) {
  auto disks = std::make_shared<Disks>(kThree);
  LogOptions options = quorum_on(kThree, 2);
  for (const std::string& slow : kThree) {
    Owner owner(options, disks);
    owner.open_term();
    {
      Hanging hanging((*disks)[slow]);
      uint64_t last = owner->closed().lsn + 10;
      append_to(owner, 1, last);
      check_records(owner.log(), 1, last);
      CHECK_EQ(owner->locate(last) < owner->flushed().position, true);
      for (const CopyStatus& row : owner->copies()) CHECK_EQ(row.bad_reads, 0u);
    }
    owner->close();
    CHECK(!owner->failure());
  }
}

TEST(QuorumThrottlesRatherThanDropsADiskThatIsFarBehind) {
  auto disks = std::make_shared<Disks>(kThree);
  LogOptions options = quorum_on(kThree, 2);
  options.copy_behind_bytes = 20'000;
  Owner owner(options, disks);
  owner.open_term();
  (*disks)["c"].hangs = true;
  std::atomic<bool> released{false};
  std::thread later([&] {
    until([&] { return behind(owner.log(), "c") >= 20'000; }, "it is far behind");
    released = true;
    release((*disks)["c"]);
  });
  append_to(owner, 1, 100);
  later.join();
  CHECK(released);
  CHECK_EQ(state_of(owner.log(), "c"), "in");
  owner->close();
  CHECK(!owner->failure());
}

TEST(QuorumOpensWithoutOneAndTakesItBackOnlyAsACopyThatIsFilledAnew) {
  auto disks = std::make_shared<Disks>(kThree);
  {
    Owner owner(quorum_on(kThree, 2), disks);
    owner.open_term();
    append_to(owner, 1, 30);
    owner->close();
  }
  auto lost = left_of(disks->states(), {"a"});
  // a is away; b and c go on, and a comes back with what is now of another line.
  auto others = left_of(disks->states(), {"b", "c"});
  {
    Owner owner(quorum_on({"b", "c"}, 2), others);
    owner.open_term();
    append_to(owner, 2, 60);
    owner->close();
  }
  Disks::States now = others->states();
  now["a"] = lost->states().at("a");
  CHECK(result_of(quorum_on({"a", "b"}, 2), left_of(now, {"a", "b"}))
            .starts_with("WAL_COPY_MISSING"));
  auto all = left_of(now, kThree);
  Owner owner(quorum_on(kThree, 2), all);
  CHECK_EQ(owner->flushed().lsn, 60u);
  for (const std::string& name : kThree) CHECK_EQ(state_of(owner.log(), name), "in");
  uint64_t end = owner->flushed().position;
  CHECK(segment_bytes(*all, "a", end) == segment_bytes(*all, "b", end));
}

TEST(QuorumTakesADamagedCopyForOneThatIsNotThere) {
  auto disks = std::make_shared<Disks>(kThree);
  Owner owner(quorum_on(kThree, 2), disks);
  owner.open_term();
  append_to(owner, 1, 10);
  (*disks)["c"].hangs = true;
  append_to(owner, 1, 20);
  Disks::States now = disks->states();
  release((*disks)["c"]);
  auto damage = [](const std::shared_ptr<Disks>& found, const std::string& name) {
    std::string bytes(8192, '\x5a');
    Slice slice{bytes.data(), bytes.size()};
    for (const std::string& file : found->list(name)) {
      if (!file.ends_with(".wal")) continue;
      found->open(name + "/" + file, OpenMode::kReadWrite, false)->write(4096, &slice, 1, true);
    }
  };
  auto two = left_of(now, {"b", "c"});
  damage(two, "b");
  // c alone may lack what b has.
  CHECK(result_of(quorum_on({"b", "c"}, 2), two).starts_with("WAL_CO"));
  auto three = left_of(now, kThree);
  damage(three, "b");
  Owner again(quorum_on(kThree, 2), three);
  check_records(again.log(), 1, 20);
  CHECK_EQ(state_of(again.log(), "b"), "in");
}

TEST(QuorumMeasuresEachCopyByItsOwnWatermark) {
  auto disks = std::make_shared<Disks>(kThree);
  Owner owner(quorum_on(kThree, 2), disks);
  owner.open_term();
  append_to(owner, 1, 10);
  auto known = [&](const std::string& name) {
    return ControlFile::open(*disks, name, true)->current().watermark.position;
  };
  uint64_t end = owner->flushed().position;
  until([&] { return known("a") == end && known("b") == end && known("c") == end; },
        "it is written down");
  Hanging c((*disks)["c"]);
  append_to(owner, 1, 20);
  // Of the first batch, maybe: what is to be written down next waits for c.
  until([&] { return known("a") > end && known("b") > end; },
        "it is written down where nothing hangs");
  CHECK_EQ(known("c"), end);
  for (const Names& some : {Names{"a", "c"}, Names{"c", "b"}, kThree}) {
    auto found = left_of(disks->states(), some);
    Owner again(quorum_on(some, 2), found);
    check_records(again.log(), 1, 20);
    for (const std::string& name : some) CHECK_EQ(state_of(again.log(), name), "in");
  }
}

TEST(QuorumAfterAPowerLossAtAnyInstantWithOneDiskBehindHasAllThatWasAcknowledged) {
  for (const std::string& slow : {std::string("a"), std::string("c")}) {
    auto disks = std::make_shared<Disks>(kThree);
    std::vector<std::pair<Disks::States, uint64_t>> instants;
    std::atomic<uint64_t> acknowledged{0};
    {
      Owner owner(quorum_on(kThree, 2), disks);
      owner.open_term();
      for (const std::string& name : kThree)
        until([&] { return behind(owner.log(), name) == 0; }, "nothing is under way");
      disks->watch(
          [&](const Disks::States& states) { instants.emplace_back(states, acknowledged); });
      for (uint64_t lsn = 2; lsn <= 60; lsn += 2) {
        // It hangs through some batches; a roll waits for it.
        if (lsn % 12 == 2) (*disks)[slow].hangs = true;
        if (lsn % 12 == 8) release((*disks)[slow]);
        if (owner->closed().position % (64u << 10) > (48u << 10)) release((*disks)[slow]);
        append_to(owner, 1, lsn);
        acknowledged = lsn;
      }
      release((*disks)[slow]);
      owner->close();
      CHECK(!owner->failure());
      disks->watch(nullptr);
    }
    CHECK(instants.size() > 60);
    uint64_t seed = 0;
    for (size_t i = 0; i < instants.size(); i += kSlow ? 13 : 3) {
      const auto& [states, known] = instants[i];
      seed++;
      Loss loss = std::array{Loss::kAllUnflushed, Loss::kSomeSectors, Loss::kNothing}[seed % 3];
      for (const Names& some : {Names{"a", "b"}, Names{"a", "c"}, Names{"b", "c"}, kThree}) {
        Disks::States of;
        for (const std::string& name : some) of[name] = states.at(name);
        auto found = Disks::after_loss(of, loss, seed);
        Owner owner(quorum_on(some, 2), found);
        check_records(owner.log(), 1, known);
        uint64_t last = owner->flushed().lsn;
        owner.open_term();
        append_to(owner, 1, last + 2);
        owner->close();
        uint64_t end = owner->flushed().position;
        CHECK(segment_bytes(*found, some[0], end) == segment_bytes(*found, some[1], end));
      }
    }
  }
}

}  // namespace
}  // namespace walmirror::test::mirror_quorum_test
