// Bringing the copies of a log to one end before it is opened (SAFETY 5.4, 7.2).
#include "copy_opening.h"

#include <thread>

#include "disks.h"

namespace walmirror::test::copy_opening_test {
namespace {

using Names = std::vector<std::string>;
const Names kThree{"a", "b", "c"};
constexpr uint64_t kReach = 4 * 65536;

LogOptions quorum_on(const Names& names, uint32_t quorum) {
  LogOptions options = options_on(names);
  options.mirror_quorum = quorum;
  return options;
}

std::shared_ptr<Disks> closed_with(const LogOptions& options, const Names& names, uint64_t lsn) {
  auto disks = std::make_shared<Disks>(names);
  Owner owner(options, disks);
  owner.open_term();
  append_to(owner, 1, lsn / 2);
  append_to(owner, 1, lsn);  // what is framed now says that the first half is flushed
  owner->close();
  return disks;
}

/// Changes what the control file of one directory says, and stores those of the others again, so
/// that none is older.
void tell(Disks& disks, const Names& names, const std::string& one,
          const std::function<void(Control&)>& change) {
  for (const std::string& name : names) {
    ControlFile::open(disks, name, false)
        ->update(ControlFile::Copies::kBoth, [&](Control& control) {
          if (name == one) change(control);
        });
  }
}

/// Its watermark is at the beginning of the log, so that it is levelled from there.
void forget_watermark(Disks& disks, const Names& names, const std::string& one) {
  tell(disks, names, one, [](Control& control) {
    control.watermark = {kFirstBatch, 0, 0};
    control.clean = false;
  });
}

void damage_first_segment(Disks& disks, const std::string& name) {
  std::string bytes(100, '\x5a');
  Slice slice{bytes.data(), bytes.size()};
  for (const std::string& file : disks.list(name)) {
    if (!file.ends_with("-0000000000000000.wal")) continue;
    disks.open(name + "/" + file, OpenMode::kReadWrite, false)->write(20'000, &slice, 1, true);
  }
}

std::string result_of(const LogOptions& options, const std::shared_ptr<Disks>& disks) {
  try {
    Owner owner(options, disks);
  } catch (const WalFailure& failure) {
    return failure.code;
  }
  return "opened";
}

Control known_of_all(const std::shared_ptr<Disks>& disks, const Names& names) {
  CopyOpening opening(disks, names, {});
  opening.choose();
  opening.level(kReach);
  return opening.known_of_all();
}

TEST(KnownOfAllCopiesIsWhatTheLeastOfThemKnows) {
  auto disks = closed_with(options_on(kThree), kThree, 100);
  Control all = known_of_all(disks, kThree);
  CHECK(all.clean && all.watermark.position > 65536);
  std::vector<Place> before;  // the records 50 and 20
  {
    Owner owner(options_on(kThree), disks);
    for (uint64_t lsn : {50u, 20u}) {
      uint64_t position = owner->locate(lsn);
      before.push_back({position, lsn - 1, owner->checksum_at(position)});
    }
    owner->close();
  }
  for (size_t i : {0u, 1u}) {
    tell(*disks, kThree, kThree[1 + i], [&](Control& control) { control.watermark = before[i]; });
    CopyOpening opening(disks, kThree, {});
    opening.choose();
    opening.level(kReach);
    CHECK_EQ(opening.known_of_all().watermark.position, before[i].position);
    CHECK_EQ(opening.known_of_all().watermark.lsn, before[i].lsn);
    CHECK(opening.known_of_all().clean);
    auto set = opening.make_set(std::chrono::seconds(20), 0, 1 << 20);
    CHECK_EQ(set->count_in(), 3u);
  }
  tell(*disks, kThree, "b", [&](Control& control) { control.clean = false; });
  CHECK(!known_of_all(disks, kThree).clean);
}

TEST(KnownOfAllCopiesCountsNoneThatIsOut) {
  auto disks = closed_with(options_on(kThree), kThree, 100);
  forget_watermark(*disks, kThree, "c");
  damage_first_segment(*disks, "c");  // found where it is walked from its watermark
  Control all = known_of_all(disks, kThree);
  CHECK(all.watermark.position > 65536);
  CHECK(all.clean);
}

/// A trim is stored on some, and b, which hangs, knows nothing of it when the power goes.
std::shared_ptr<Disks> trimmed_without_b() {
  auto disks = closed_with(options_on(kThree), kThree, 200);
  Owner owner(options_on(kThree), disks);
  Place end = owner->flushed();
  owner->set_commit(end.position, end.lsn);
  (*disks)["b"].hangs = true;
  std::thread trimming([&] { owner->trim(end.position); });
  auto start_on = [&](const char* name) {
    return ControlFile::open(*disks, name, true)->current().start_position;
  };
  auto until = std::chrono::steady_clock::now() + std::chrono::seconds(15);
  while (start_on("a") == kFirstBatch && std::chrono::steady_clock::now() < until)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  Disks::States left = disks->states();
  (*disks)["b"].hangs = false;
  (*disks)["b"].hangs.notify_all();
  trimming.join();
  return Disks::after_loss(left, Loss::kNothing, 1);
}

TEST(KnownOfAllCopiesIsNotBelowTheStartOfTheLog) {
  auto disks = trimmed_without_b();
  ControlFile::open(*disks, "b", false)->update(ControlFile::Copies::kOne, [](Control& control) {
    control.watermark = {kFirstBatch, 0, 0};
  });
  // What is told last, by the others, is that the log begins later.
  for (int i = 0; i < 2; i++) tell(*disks, {"a", "c"}, "", [](Control&) {});
  Control all = known_of_all(disks, kThree);
  CHECK(all.start_position > kFirstBatch);
  CHECK_EQ(all.watermark.position, all.start_position);
  CHECK_EQ(all.watermark.lsn, all.start_lsn);
}

TEST(LevellingTakesTheNextCopyWhereTheLongestDoesNotVerify) {
  for (const std::string& bad : kThree) {
    for (const std::string& behind : kThree) {
      if (behind == bad) continue;
      auto disks = closed_with(options_on(kThree), kThree, 200);
      forget_watermark(*disks, kThree, behind);
      damage_first_segment(*disks, bad);
      // The one that is given first is the longest, of several.
      Names names{bad};
      for (const std::string& name : kThree) {
        if (name != bad) names.push_back(name);
      }
      Owner owner(options_on(names), disks);
      check_records(owner.log(), 1, 200);
      uint64_t end = owner->flushed().position;
      for (const std::string& name : kThree) {
        CHECK_EQ(state_of(owner.log(), name), "in");  // filled anew
        CHECK(segment_bytes(*disks, name, end) == segment_bytes(*disks, names[1], end));
      }
    }
  }
}

TEST(LevellingGoesOnWithTheOtherOfTwoButNotWhereItMayLackSomething) {
  const Names both{"a", "b"};
  auto disks = closed_with(options_on(both), both, 200);
  forget_watermark(*disks, both, "b");
  damage_first_segment(*disks, "a");
  {
    Owner owner(options_on(both), disks);
    check_records(owner.log(), 1, 200);
    CHECK_EQ(state_of(owner.log(), "a"), "in");
  }
  // Acknowledged by two of three: a and c have all, b does not, and c is not given.
  disks = std::make_shared<Disks>(kThree);
  Disks::States left;
  {
    Owner owner(quorum_on(kThree, 2), disks);
    owner.open_term();
    append_to(owner, 1, 150);
    (*disks)["b"].hangs = true;
    append_to(owner, 1, 160);
    left = disks->states();
    (*disks)["b"].hangs = false;
    (*disks)["b"].hangs.notify_all();
  }
  disks = Disks::after_loss(left, Loss::kAllUnflushed, 1);
  forget_watermark(*disks, kThree, "b");
  damage_first_segment(*disks, "a");
  left = disks->states();
  auto two = Disks::after_loss({{"a", left["a"]}, {"b", left["b"]}}, Loss::kNothing, 1);
  CHECK_EQ(result_of(quorum_on({"a", "b"}, 2), two), "WAL_CORRUPT");
  Owner owner(quorum_on(kThree, 2), disks);
  check_records(owner.log(), 1, 160);
}

/// Nothing in the directory looks like something that was lost.
void check_undamaged(const std::shared_ptr<Disks>& disks, const std::string& name) {
  Control control = ControlFile::open(*disks, name, true)->current();
  LogIdentity identity{control.log_id, control.salt, control.segment_bytes, control.align};
  Segments segments(disks, name, identity, true);
  segments.load(control.start_position);
  find_end(identity, segments, control, kReach, false);
}

TEST(PowerLossWhileACopyIsLevelledNeverMakesItLookDamaged) {
  auto disks = std::make_shared<Disks>(kThree);
  Disks::States left;
  {
    Owner owner(quorum_on(kThree, 2), disks);
    owner.open_term();
    append_to(owner, 1, 10);
    // It has yet to write some flushes, of which each batch says how far the one before it came.
    (*disks)["c"].hangs = true;
    for (uint64_t lsn = 12; lsn <= 40; lsn += 2) append_to(owner, 1, lsn);
    left = disks->states();
    (*disks)["c"].hangs = false;
    (*disks)["c"].hangs.notify_all();
  }
  disks = Disks::after_loss(left, Loss::kAllUnflushed, 1);
  std::vector<DiskState> instants;
  disks->watch([&](const Disks::States& states) {
    const DiskState& c = states.at("c");
    for (const auto& [number, inode] : c.inodes) {
      if (inode.dirty.size() < 2) continue;
      instants.push_back(c);
      break;
    }
  });
  CopyOpening opening(disks, kThree, {});
  opening.choose();
  opening.level(kReach);
  disks->watch(nullptr);
  CHECK(!instants.empty());
  for (uint64_t seed = 0; seed < (kSlow ? 60 : 300); seed++) {
    const DiskState& instant = instants[seed % instants.size()];
    check_undamaged(Disks::after_loss({{"c", instant}}, Loss::kSomeSectors, seed), "c");
  }
  CHECK(segment_bytes(*disks, "a", UINT64_MAX) == segment_bytes(*disks, "c", UINT64_MAX));
}

}  // namespace
}  // namespace walmirror::test::copy_opening_test
