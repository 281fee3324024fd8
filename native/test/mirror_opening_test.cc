// Which directories of a log may be opened, and which of them is the log (SAFETY 7.2).
#include "disks.h"

namespace walmirror::test::mirror_opening_test {
namespace {

const std::vector<std::string> kBoth{"a", "b"};

/// Opens, appends records of this seed up to `lsn`, closes.
void live(const LogOptions& options, const std::shared_ptr<Disks>& disks, uint64_t seed,
          uint64_t lsn) {
  Owner owner(options, disks);
  owner.open_term();
  append_to(owner, seed, lsn);
  owner->close();
  CHECK(!owner->failure());
}

LogOptions accepting(LogOptions options, const std::string& missing) {
  options.accept_missing = {missing};
  return options;
}

std::string message_of(const LogOptions& options, const std::shared_ptr<Disks>& disks) {
  try {
    Owner owner(options, disks);
  } catch (const WalFailure& failure) {
    return failure.code + ": " + failure.what();
  }
  return "opened";
}

/// Both have 20 records; then `b` fails, and `a` goes on without it to 40.
std::shared_ptr<Disks> with_a_stale_b() {
  auto disks = std::make_shared<Disks>(kBoth);
  live(options_on(kBoth), disks, 1, 20);
  {
    Owner owner(options_on(kBoth), disks);
    owner.open_term();
    (*disks)["b"].dead = true;
    append_to(owner, 1, 40);
    owner->close();
  }
  (*disks)["b"].heal();
  return disks;
}

void overwrite(Disks& disks, const std::string& path, uint64_t offset, uint64_t size) {
  std::string bytes(size, '\x5a');
  Slice slice{bytes.data(), size};
  disks.open(path, OpenMode::kReadWrite, false)->write(offset, &slice, 1, true);
}

TEST(OpeningWithoutACopyIsRefusedByNameUnlessTheOperatorAcceptsIt) {
  auto disks = std::make_shared<Disks>(kBoth);
  live(options_on(kBoth), disks, 1, 20);
  for (const std::string& name : kBoth) {
    const std::string other = name == "a" ? "b" : "a";
    std::string message = message_of(options_on({name}), disks);
    CHECK(message.starts_with("WAL_COPY_MISSING"));
    CHECK(message.find(": " + other + ".") != std::string::npos);
    CHECK(message_of(accepting(options_on({name}), "c"), disks).starts_with("WAL_COPY_MISSING"));
  }
  live(accepting(options_on({"a"}), "b"), disks, 1, 30);
  // It is recorded: the word is not needed again, and the other one is stale now.
  live(options_on({"a"}), disks, 1, 40);
  CHECK(message_of(options_on({"b"}), disks).starts_with("WAL_COPY_MISSING"));
  Owner owner(options_on({"b", "a"}), disks);
  check_records(owner.log(), 1, 40);
  CHECK_EQ(state_of(owner.log(), "a"), "in");
  CHECK_EQ(state_of(owner.log(), "b"), "in");
}

TEST(OpeningNeedsNoCopyThatWasDroppedAndNeverTakesAStaleOne) {
  auto disks = with_a_stale_b();
  CHECK(message_of(options_on({"b"}), disks).starts_with("WAL_COPY_MISSING"));
  live(options_on({"a"}), disks, 1, 50);
  for (const auto& names : {kBoth, std::vector<std::string>{"b", "a"}}) {
    auto copy = Disks::after_loss(disks->states(), Loss::kNothing, 1);
    Owner owner(options_on(names), copy);
    check_records(owner.log(), 1, 50);
    uint64_t end = owner->flushed().position;
    CHECK_EQ(state_of(owner.log(), "b"), "in");
    CHECK(segment_bytes(*copy, "a", end) == segment_bytes(*copy, "b", end));
    owner.drop();
    // What it was filled with is on its disk, and not only what reads of it give.
    auto alone = Disks::after_loss({{"b", copy->states()["b"]}}, Loss::kAllUnflushed, 1);
    Owner left(accepting(options_on({"b"}), "a"), alone);
    check_records(left.log(), 1, 50);
  }
}

TEST(OpeningRefusesTwoCopiesThatWereUsedWithoutEachOther) {
  // Neither by its length nor by its generation does one of them win.
  for (int lives = 1; lives < 4; lives++) {
    auto disks = with_a_stale_b();
    for (int i = 0; i < lives; i++) {
      auto options = accepting(options_on({"b"}), "a");
      live(options, disks, 2, 60 + 20 * static_cast<uint64_t>(i));
    }
    for (const auto& names : {kBoth, std::vector<std::string>{"b", "a"}}) {
      std::string message = message_of(options_on(names), disks);
      CHECK(message.starts_with("WAL_COPY_SPLIT"));
      CHECK(message.find("a and b") != std::string::npos ||
            message.find("b and a") != std::string::npos);
    }
    // The operator keeps one and empties the other.
    for (const std::string& file : disks->list("b")) disks->remove("b/" + file);
    Owner owner(options_on(kBoth), disks);
    check_records(owner.log(), 1, 40);
    CHECK_EQ(state_of(owner.log(), "b"), "in");
  }
}

TEST(OpeningWithASecondDirectoryAddsIt) {
  auto disks = std::make_shared<Disks>(kBoth);
  live(options_on({"a"}), disks, 1, 100);
  {
    Owner owner(options_on(kBoth), disks);
    CHECK_EQ(state_of(owner.log(), "b"), "in");
    CHECK_EQ(owner->control().membership.generation, 2u);
    owner.open_term();
    append_to(owner, 1, 120);
    owner->close();
  }
  CHECK(message_of(options_on({"a"}), disks).starts_with("WAL_COPY_MISSING"));
  Owner owner(accepting(options_on({"b"}), "a"), disks);
  check_records(owner.log(), 1, 120);
}

TEST(OpeningRefusesADirectoryOfAnotherLogAndACopyMadeByHand) {
  auto disks = std::make_shared<Disks>(std::vector<std::string>{"a", "b", "c", "x"});
  live(options_on(kBoth), disks, 1, 20);
  live(options_on({"x"}), disks, 1, 20);
  CHECK_EQ(message_of(options_on({"a", "b", "x"}), disks).substr(0, 13), "WAL_NOT_A_LOG");
  auto copy_to_c = [&](const std::string& from) {
    for (const std::string& file : disks->list("c")) disks->remove("c/" + file);
    for (const std::string& file : disks->list(from)) {
      auto source = disks->open(from + "/" + file, OpenMode::kRead, false);
      std::string bytes(source->size(), '\0');
      source->read(0, bytes.data(), bytes.size());
      Slice slice{bytes.data(), bytes.size()};
      disks->open("c/" + file, OpenMode::kCreate, false)->write(0, &slice, 1, true);
    }
  };
  copy_to_c("a");
  CHECK_EQ(message_of(options_on({"a", "b", "c"}), disks).substr(0, 13), "WAL_NOT_A_LOG");
  CHECK_EQ(message_of(options_on({"a", "c"}), disks).substr(0, 13), "WAL_NOT_A_LOG");
  copy_to_c("x");
  CHECK_EQ(message_of(options_on({"x", "c"}), disks).substr(0, 14), "WAL_COPY_SPLIT");
}

TEST(OpeningLeavesOutADamagedCopyAndFillsItAnew) {
  for (const std::string& bad : kBoth) {
    auto disks = std::make_shared<Disks>(kBoth);
    live(options_on(kBoth), disks, 1, 100);
    for (const std::string& file : disks->list(bad)) {
      if (file.ends_with(".wal")) overwrite(*disks, bad + "/" + file, 4096, 8192);
    }
    {
      Owner owner(options_on(kBoth), disks);
      check_records(owner.log(), 1, 100);
      uint64_t end = owner->flushed().position;
      CHECK_EQ(state_of(owner.log(), bad), "in");
      CHECK(segment_bytes(*disks, "a", end) == segment_bytes(*disks, "b", end));
      owner->close();
    }
    for (const std::string& name : kBoth) {
      for (const std::string& file : disks->list(name)) {
        if (file.ends_with(".wal")) overwrite(*disks, name + "/" + file, 4096, 8192);
      }
    }
    CHECK(message_of(options_on(kBoth), disks).starts_with("WAL_CORRUPT"));
  }
}

TEST(OpeningWithoutTheControlFileOfACopyTakesTheOperatorsWord) {
  for (bool removed : {false, true}) {
    auto disks = std::make_shared<Disks>(kBoth);
    live(options_on(kBoth), disks, 1, 20);
    if (removed) {
      disks->remove("b/control");
    } else {
      overwrite(*disks, "b/control", 0, 32768);
    }
    CHECK(message_of(options_on(kBoth), disks).starts_with("WAL_COPY_MISSING"));
    Owner owner(accepting(options_on(kBoth), "b"), disks);
    check_records(owner.log(), 1, 20);
    CHECK_EQ(state_of(owner.log(), "b"), "in");
  }
}

/// On a disk in the place of one that failed, say: while the log is open, all but the control file
/// may be written there before it is filled.
TEST(OpeningFillsADirectoryThatHoldsOnlyWhatLiesBesideALog) {
  const std::vector<std::string> beside{"slots", "slots.new", "snapshots", "1-1-1.diverged",
                                        "1-1-1.diverged.new"};
  for (const std::string& left : beside) {
    auto disks = std::make_shared<Disks>(kBoth);
    live(options_on(kBoth), disks, 1, 20);
    for (const std::string& file : disks->list("a")) disks->remove("a/" + file);
    disks->open("a/" + left, OpenMode::kCreate, false);
    Owner owner(accepting(options_on(kBoth), "a"), disks);
    check_records(owner.log(), 1, 20);
    CHECK_EQ(state_of(owner.log(), "a"), "in");
    CHECK(disks->exists("a/" + left) || left.ends_with(".new"));
    owner->close();
  }
  auto disks = std::make_shared<Disks>(kBoth);
  live(options_on(kBoth), disks, 1, 20);
  for (const std::string& file : disks->list("a")) disks->remove("a/" + file);
  disks->open("a/letter", OpenMode::kCreate, false);
  CHECK(message_of(accepting(options_on(kBoth), "a"), disks).starts_with("WAL_NOT_A_LOG"));
}

TEST(OpeningBeginsNoNewLogOverSnapshotsOrTailsOfAnother) {
  for (const char* left : {"a/snapshots", "a/1-1-1.diverged"}) {
    for (const std::vector<std::string>& names : {kBoth, std::vector<std::string>{"a"}}) {
      auto disks = std::make_shared<Disks>(kBoth);
      disks->open(left, OpenMode::kCreate, false);
      CHECK(message_of(options_on(names), disks).starts_with("WAL_NOT_A_LOG"));
    }
  }
  // Which says nothing of a log that is not there.
  auto disks = std::make_shared<Disks>(kBoth);
  disks->open("a/slots", OpenMode::kCreate, false);
  CHECK_EQ(message_of(options_on(kBoth), disks), "opened");
}

TEST(OpeningNeedsEveryCopyOfTheNewestGeneration) {
  const std::vector<std::string> all{"a", "b", "c"};
  auto disks = std::make_shared<Disks>(all);
  live(options_on(all), disks, 1, 10);
  {
    Owner owner(options_on(all), disks);
    owner.open_term();
    (*disks)["a"].dead = true;
    append_to(owner, 1, 30);
    (*disks)["c"].dead = true;
    append_to(owner, 1, 50);
    owner->close();
  }
  (*disks)["a"].heal();
  (*disks)["c"].heal();
  CHECK(message_of(options_on({"a"}), disks).find("missing") == std::string::npos ||
        message_of(options_on({"a"}), disks).starts_with("WAL_COPY_MISSING"));
  CHECK(message_of(options_on({"a", "c"}), disks).starts_with("WAL_COPY_MISSING"));
  CHECK(message_of(options_on({"a"}), disks).starts_with("WAL_COPY_MISSING"));
  CHECK(message_of(options_on({"c"}), disks).starts_with("WAL_COPY_MISSING"));
  live(options_on({"b"}), disks, 1, 60);
  Owner owner(options_on(all), disks);
  check_records(owner.log(), 1, 60);
  for (const std::string& name : all) CHECK_EQ(state_of(owner.log(), name), "in");
}

TEST(OpeningGoesOnWithoutACopyThatFailsAtAnyCallOfIt) {
  auto disks = std::make_shared<Disks>(kBoth);
  LogOptions options = options_on(kBoth);
  live(options, disks, 1, 40);
  // Each is flushed whenever the files of a copy are looked at.
  for (const std::string& name : kBoth) {
    for (const char* spare : {"/00000000000000f1.spare", "/00000000000000f2.spare"}) {
      disks->open(name + spare, OpenMode::kCreate, false)->allocate(options.segment_bytes);
    }
  }
  Disks::States states = disks->states();
  int failed = 0;
  for (const std::string& bad : kBoth) {
    for (int n = 1; n <= 24; n++) {
      auto found = Disks::after_loss(states, Loss::kNothing, 1);
      (*found)[bad].fail_from(n, n % 2 == 0 ? Fault::kBefore : Fault::kAfter, n % 3 == 0 ? 28 : 5);
      Owner owner(options, found);
      check_records(owner.log(), 1, 40);
      failed += (*found)[bad].dead ? 1 : 0;
    }
  }
  CHECK(failed > 10);
}

TEST(OpeningAfterACrashAtAnyInstantOfAddingOrFillingACopyLosesNothing) {
  for (bool stale : {false, true}) {
    auto disks = stale ? with_a_stale_b() : std::make_shared<Disks>(kBoth);
    if (!stale) live(options_on({"a"}), disks, 1, 40);
    std::vector<Disks::States> instants;
    disks->watch([&](const Disks::States& states) { instants.push_back(states); });
    live(options_on(kBoth), disks, 1, 41);
    disks->watch(nullptr);
    CHECK(instants.size() > 20);
    uint64_t seed = 0;
    uint64_t needed_both = 0;
    for (size_t i = 0; i < instants.size(); i += kSlow ? 5 : 1) {
      for (Loss loss : {Loss::kAllUnflushed, Loss::kSomeSectors, Loss::kNothing}) {
        auto found = Disks::after_loss(instants[i], loss, ++seed);
        for (const std::string& name : kBoth) {
          auto alone = Disks::after_loss({{name, found->states()[name]}}, Loss::kNothing, 1);
          std::string result = message_of(options_on({name}), alone);
          needed_both += result.starts_with("WAL_COPY_MISSING") ? 1 : 0;
          // One that opens alone has all; one that is being filled never does.
          if (result != "opened") continue;
          Owner owner(options_on({name}), alone);
          if (name == "a" || owner->flushed().lsn > 0) check_records(owner.log(), 1, 40);
        }
        Owner owner(options_on(kBoth), found);
        check_records(owner.log(), 1, 40);
        uint64_t end = owner->flushed().position;
        CHECK_EQ(state_of(owner.log(), "b"), "in");
        CHECK(segment_bytes(*found, "a", end) == segment_bytes(*found, "b", end));
      }
    }
    CHECK(needed_both > 10);
  }
}

}  // namespace
}  // namespace walmirror::test::mirror_opening_test
