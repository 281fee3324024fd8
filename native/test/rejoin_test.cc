// The cut of a primary that comes back: one step from fenced, with its tail, to a standby without.
#include "disks.h"

namespace walmirror::test::rejoin_test {
namespace {

constexpr const char* kName = "t.diverged";
const std::vector<std::string> kBoth{"a", "b"};
const Rule kAnyOne{CommitLevel::kRemoteFlush, "ANY 1 (*)", {}, false};

Term newer() {
  Id other{};
  other.fill(0xbb);
  return {9, other, 1};
}

struct OldPrimary {
  std::shared_ptr<Disks> disks = std::make_shared<Disks>(kBoth);
  Place fork;
  Place end;
  uint64_t opening = 0;
};

/// All of its log is committed, by itself; it is fenced, and closed.
OldPrimary make_old_primary(uint64_t more = 60) {
  OldPrimary old;
  Owner owner(options_on(kBoth), old.disks);
  owner.open_term();
  owner->store_rule({CommitLevel::kLocal, "", {}, false});
  append_to(owner, 1, 10);
  old.fork = owner->flushed();
  append_to(owner, 1, more);
  old.end = owner->flushed();
  owner->set_commit(old.end.position, old.end.lsn);
  owner->store_role(Role::kFenced, newer(), "b", "");
  owner->close();
  return old;
}

void check_rejoined(Owner& owner, const OldPrimary& old) {
  Control control = owner->control();
  CHECK_EQ(owner->closed().position, old.fork.position);
  check_records(owner.log(), 1, old.fork.lsn);
  CHECK(control.role == Role::kStandby);
  CHECK(!control.rule);
  CHECK(control.commit.position <= old.fork.position);
  CHECK_EQ(control.rebuild_from, old.fork.lsn + 1);
  CHECK_EQ(control.rebuild_to, old.end.lsn);
}

TEST(RejoinAtAnyInstantIsAFencedLogWithItsTailOrAStandbyWithoutThatHasToTell) {
  OldPrimary old = make_old_primary();
  std::vector<Disks::States> instants;
  {
    Owner owner(options_on(kBoth), old.disks);
    old.disks->watch([&](const Disks::States& states) { instants.push_back(states); });
    CHECK(!owner->truncate(old.fork.position, kName, Cut::kReturning).empty());
    old.disks->watch(nullptr);
    check_rejoined(owner, old);
  }
  int cut = 0;
  int whole = 0;
  for (size_t i = 0; i < instants.size(); i += kSlow ? 5 : 1) {
    for (Loss loss : {Loss::kAllUnflushed, Loss::kNothing, Loss::kSomeSectors}) {
      auto found = Disks::after_loss(instants[i], loss, i);
      Owner owner(options_on(kBoth), found);
      if (owner->closed().position == old.end.position) {
        whole++;
        CHECK(owner->control().role == Role::kFenced);
        CHECK(owner->control().rule->level == CommitLevel::kLocal);
        CHECK_EQ(owner->control().rebuild_from, 0u);
        check_records(owner.log(), 1, old.end.lsn);
        owner->truncate(old.fork.position, kName, Cut::kReturning);
      } else {
        cut++;
      }
      check_rejoined(owner, old);
      for (const std::string& name : kBoth) CHECK(found->exists(name + "/" + kName));
      owner.drop();
      Owner again(options_on(kBoth), Disks::after_loss(found->states(), loss, i + 1));
      check_rejoined(again, old);
    }
  }
  CHECK(cut > 3 && whole > 3);
}

TEST(RejoinIsDoneByTheNextOpeningThroughAnotherPowerLossAtAnyInstantOfThat) {
  OldPrimary old = make_old_primary();
  std::vector<Disks::States> instants;
  {
    Owner owner(options_on(kBoth), old.disks);
    old.disks->watch([&](const Disks::States& states) { instants.push_back(states); });
    owner->truncate(old.fork.position, kName, Cut::kReturning);
    old.disks->watch(nullptr);
  }
  int seconds = 0;
  for (size_t i = 0; i < instants.size(); i += kSlow ? 9 : 3) {
    auto found = Disks::after_loss(instants[i], Loss::kSomeSectors, i);
    std::vector<Disks::States> second;
    found->watch([&](const Disks::States& states) { second.push_back(states); });
    auto recovered = std::make_unique<Owner>(options_on(kBoth), found);
    found->watch(nullptr);
    bool was_cut = (*recovered)->closed().position == old.fork.position;
    recovered.reset();
    for (size_t n = 0; n < second.size(); n += kSlow ? 9 : 2) {
      Owner owner(options_on(kBoth), Disks::after_loss(second[n], Loss::kSomeSectors, n));
      seconds++;
      if (was_cut) {
        check_rejoined(owner, old);
        continue;
      }
      CHECK_EQ(owner->closed().position, old.end.position);
      CHECK(owner->control().role == Role::kFenced);
      owner->truncate(old.fork.position, kName, Cut::kReturning);
      check_rejoined(owner, old);
    }
  }
  CHECK(seconds > (kSlow ? 3 : 20));
}

TEST(RejoinNeedsANewerEpochAndNoOtherCutGoesBelowTheCommitPosition) {
  OldPrimary old = make_old_primary(20);
  Owner owner(options_on(kBoth), old.disks);
  CHECK_FAILS("WAL_COMMITTED_LOST", owner->truncate(old.fork.position, kName, Cut::kSeen));
  CHECK_FAILS("WAL_COMMITTED_LOST", owner->truncate(old.fork.position, kName));
  owner->truncate(old.fork.position, kName, Cut::kReturning);
  check_rejoined(owner, old);
  auto files = std::make_shared<MemoryFileSystem>();
  Owner primary(small_options(), files);
  primary.open_term();
  Place fork = primary->flushed();
  primary.append("one");
  primary.close_batch();
  primary.settle();
  primary->close();
  primary.drop();
  Owner same_epoch(small_options(), files);
  CHECK_FAILS("WAL_NOT_STANDBY", same_epoch->truncate(fork.position, kName, Cut::kReturning));
  same_epoch->store_role(Role::kFenced, same_epoch->term(), "b", "");
  CHECK_FAILS("WAL_NOT_STANDBY", same_epoch->truncate(fork.position, kName, Cut::kReturning));
}

TEST(WhatHasToBeRebuiltIsKnownUntilItWasTold) {
  OldPrimary old = make_old_primary(20);
  for (int life = 0; life < 2; life++) {
    Owner owner(options_on(kBoth), old.disks);
    if (life == 0) owner->truncate(old.fork.position, kName, Cut::kReturning);
    check_rejoined(owner, old);
    if (life == 1) owner->store_rebuilt();
    owner->close();
  }
  Owner owner(options_on(kBoth), old.disks);
  CHECK_EQ(owner->control().rebuild_from, 0u);
  CHECK_EQ(owner->control().rebuild_to, 0u);
}

/// A log whose rule is `rule`; all of it is committed.
std::unique_ptr<Owner> make_committed(const std::shared_ptr<MemoryFileSystem>& files,
                                      const Rule& rule) {
  auto owner = std::make_unique<Owner>(small_options(), files);
  owner->open_term();
  (*owner)->store_rule(rule);
  owner->append("one");
  owner->append("two");
  owner->close_batch();
  owner->settle();
  Place end = (*owner)->flushed();
  (*owner)->set_commit(end.position, end.lsn);
  return owner;
}

TEST(WhatAQuorumCommittedStaysKnownWhateverTheRuleIsLater) {
  auto files = std::make_shared<MemoryFileSystem>();
  auto owner = make_committed(files, kAnyOne);
  Rule alone = kAnyOne;
  alone.degraded = true;
  (*owner)->store_rule(alone);
  CHECK_EQ((*owner)->control().quorum_lsn, 2u);
  owner->append("alone");
  owner->close_batch();
  owner->settle();
  (*owner)->set_commit((*owner)->flushed().position, 3);
  (*owner)->store_role(Role::kFenced, newer(), "b", "");
  CHECK_EQ((*owner)->control().quorum_lsn, 2u);
  (*owner)->close();
  owner.reset();
  CHECK_EQ(Owner(small_options(), files)->control().quorum_lsn, 2u);
}

TEST(WhatAQuorumCommittedIsKnownOfATermThatWasFencedOrOpenedAgain) {
  for (bool fenced : {false, true}) {
    auto owner = make_committed(std::make_shared<MemoryFileSystem>(), kAnyOne);
    if (fenced) {
      (*owner)->store_role(Role::kFenced, newer(), "b", "");
    } else {
      Term next = (*owner)->term();
      next.incarnation++;
      (*owner)->store_term(next, Rule{CommitLevel::kLocal, "", {}, false});
    }
    CHECK_EQ((*owner)->control().quorum_lsn, 2u);
  }
}

TEST(WhatWasCommittedByThePrimaryAloneIsNotTakenForAQuorums) {
  for (Rule rule : {Rule{CommitLevel::kLocal, "", {}, false},
                    Rule{CommitLevel::kRemoteFlush, "ANY 1 (*)", {}, true}}) {
    auto owner = make_committed(std::make_shared<MemoryFileSystem>(), rule);
    (*owner)->store_role(Role::kFenced, newer(), "b", "");
    CHECK_EQ((*owner)->control().quorum_lsn, 0u);
  }
  // A rule that the opening of its term has not met yet.
  auto owner = make_committed(std::make_shared<MemoryFileSystem>(), kAnyOne);
  (*owner)->store_rule({CommitLevel::kLocal, "", {}, false});
  Term next = (*owner)->term();
  next.incarnation++;
  uint64_t known = (*owner)->control().quorum_lsn;
  owner->open_term(next);
  (*owner)->store_rule(kAnyOne);
  owner->append("three");
  owner->close_batch();
  owner->settle();
  (*owner)->store_role(Role::kFenced, newer(), "b", "");
  CHECK_EQ((*owner)->control().quorum_lsn, known);
}

TEST(TheRuleOfTheLastTermIsKeptWhateverIsHeardUntilAnotherIsStored) {
  for (Role role : {Role::kFenced, Role::kStandby}) {
    auto files = std::make_shared<MemoryFileSystem>();
    auto owner = make_committed(files, kAnyOne);
    CHECK(!(*owner)->control().rule_of_earlier_term);
    Term higher = newer();
    (*owner)->store_role(role, higher, "b", "");
    higher.epoch++;
    (*owner)->store_role(role, higher, "c", "");
    (*owner)->close();
    owner.reset();
    Owner again(small_options(), files);
    CHECK(again->control().rule == kAnyOne);
    CHECK(again->control().rule_of_earlier_term);
    Rule other{CommitLevel::kLocal, "", {}, false};
    again->store_rule(other);
    CHECK(again->control().rule == other);
    CHECK(!again->control().rule_of_earlier_term);
  }
}

TEST(TheRuleOfTheLastTermGoesWithTheTail) {
  auto files = std::make_shared<MemoryFileSystem>();
  auto owner = make_committed(files, kAnyOne);
  Place fork = (*owner)->flushed();
  owner->append("three");
  owner->close_batch();
  owner->settle();
  (*owner)->close();
  owner.reset();
  Owner again(small_options(), files);
  again->store_role(Role::kFenced, newer(), "b", "");
  again->truncate(fork.position, kName, Cut::kReturning);
  CHECK(!again->control().rule);
  CHECK(!again->control().rule_of_earlier_term);
  CHECK_EQ(again->control().quorum_lsn, 2u);
}

TEST(WhatAQuorumCommittedIsCutByNothing) {
  for (Role role : {Role::kFenced, Role::kStandby}) {
    auto files = std::make_shared<MemoryFileSystem>();
    Place fork;
    {
      auto owner = make_committed(files, kAnyOne);
      // Later it went on alone, and all of that is committed too.
      Rule alone = kAnyOne;
      alone.degraded = true;
      (*owner)->store_rule(alone);
      fork = (*owner)->flushed();
      owner->append("three");
      owner->close_batch();
      owner->settle();
      (*owner)->close();
    }
    Owner owner(small_options(), files);
    owner->store_role(role, newer(), "b", "");
    CHECK_FAILS("WAL_COMMITTED_LOST", owner->truncate(kFirstBatch, kName, Cut::kReturning));
    CHECK_EQ(owner->closed().lsn, 3u);
    CHECK(!files->exists(std::string("d/") + kName));
    owner->truncate(fork.position, kName, Cut::kReturning);
    CHECK_EQ(owner->closed().lsn, 2u);
  }
}

/// A primary in the middle of its work: a quorum has committed up to `fork`, and it has more.
struct Working {
  std::shared_ptr<Disks> disks = std::make_shared<Disks>(kBoth);
  std::unique_ptr<Owner> owner;
  Place below;
  Place fork;
  Place end;
};

Working make_working() {
  Working working;
  working.owner = std::make_unique<Owner>(options_on(kBoth), working.disks);
  Owner& owner = *working.owner;
  owner.open_term();
  owner->store_rule(kAnyOne);
  append_to(owner, 1, 10);
  working.below = owner->flushed();
  append_to(owner, 1, 20);
  working.fork = owner->flushed();
  append_to(owner, 1, 60);
  working.end = owner->flushed();
  owner->set_commit(working.fork.position, working.fork.lsn);
  return working;
}

TEST(WhatAQuorumCommittedIsThereAtAnyInstantOfFencingARunningPrimaryAndOfItsRejoin) {
  Working old = make_working();
  std::vector<Disks::States> instants;
  size_t fenced_from = 0;
  {
    Owner& owner = *old.owner;
    old.disks->watch([&](const Disks::States& states) { instants.push_back(states); });
    owner->store_role(Role::kFenced, newer(), "b", "");
    old.disks->between_changes([&] { fenced_from = instants.size(); });
    CHECK_FAILS("WAL_IS_STANDBY", owner->reserve(8, 1, 8));
    CHECK_FAILS("WAL_COMMITTED_LOST", owner->truncate(old.below.position, kName, Cut::kReturning));
    owner->truncate(old.fork.position, kName, Cut::kReturning);
    old.disks->watch(nullptr);
    CHECK_EQ(owner->closed().lsn, old.fork.lsn);
    owner.drop();
  }
  CHECK(fenced_from > 0 && instants.size() > fenced_from);
  int tails = 0;
  for (size_t i = 0; i < instants.size(); i += kSlow ? 5 : 1) {
    for (Loss loss : {Loss::kAllUnflushed, Loss::kNothing, Loss::kSomeSectors}) {
      Owner owner(options_on(kBoth), Disks::after_loss(instants[i], loss, i));
      uint64_t last = owner->closed().lsn;
      CHECK(last == old.fork.lsn || last == old.end.lsn);
      check_records(owner.log(), 1, last);
      tails += last == old.end.lsn ? 1 : 0;
      if (i < fenced_from) continue;
      CHECK(owner->control().role == (last == old.end.lsn ? Role::kFenced : Role::kStandby));
      CHECK_EQ(owner->control().quorum_lsn, old.fork.lsn);
      CHECK_FAILS("WAL_COMMITTED_LOST",
                  owner->truncate(old.below.position, kName, Cut::kReturning));
      CHECK_EQ(owner->closed().lsn, last);
    }
  }
  CHECK(tails > 3);
}

TEST(WhatAQuorumCommittedAndAPowerLossTookBindsNobodyAnyMore) {
  auto files = std::make_shared<MemoryFileSystem>();
  make_committed(files, kAnyOne)->drop();
  Control control = ControlFile::open(*files, "d", false)->current();
  control.quorum_lsn = 90;
  control.quorum_most_lsn = 91;
  control.clean = false;
  files->remove("d/control");
  ControlFile::create(*files, "d", control);
  Owner owner(small_options(), files);
  uint64_t last = owner->closed().lsn;
  CHECK_EQ(owner->control().quorum_lsn, last);
  CHECK_EQ(owner->control().quorum_most_lsn, last);
}

TEST(WhatAStandbyHasWhenARuleWaitsForNobodyAnyMoreMayBeCommitted) {
  for (bool standby : {false, true}) {
    auto owner = make_committed(std::make_shared<MemoryFileSystem>(), kAnyOne);
    owner->append("three");
    owner->close_batch();
    owner->settle();
    if (standby) (*owner)->store_role(Role::kStandby, (*owner)->term(), "b", "");
    (*owner)->store_rule(kAnyOne);
    CHECK_EQ((*owner)->control().quorum_most_lsn, 0u);
    (*owner)->store_rule({CommitLevel::kLocal, "", {}, false});
    CHECK_EQ((*owner)->control().quorum_lsn, 2u);
    CHECK_EQ((*owner)->control().quorum_most_lsn, standby ? 3u : 0u);
  }
}

TEST(ThatNothingIsAcknowledgedAnyMoreIsKnownUntilATermIsOpened) {
  auto files = std::make_shared<MemoryFileSystem>();
  {
    auto owner = make_committed(files, kAnyOne);
    CHECK(!(*owner)->control().commit_exact);
    (*owner)->end_commits();
    (*owner)->close();
  }
  for (int life = 0; life < 2; life++) {
    Owner owner(small_options(), files);
    CHECK(owner->control().commit_exact);
    if (life == 0) {
      owner.drop();
      continue;
    }
    owner->store_role(Role::kFenced, newer(), "b", "");
    CHECK(owner->control().commit_exact);
    Term next = newer();
    next.epoch++;
    owner->store_term(next);
    CHECK(!owner->control().commit_exact);
    owner->close();
  }
  Owner owner(small_options(), files);
  CHECK(!owner->control().commit_exact);
}

TEST(ThatCommitsWereAcknowledgedBelowTheRuleIsKnownAsLongAsIt) {
  auto owner = make_committed(std::make_shared<MemoryFileSystem>(), kAnyOne);
  CHECK(!(*owner)->control().rule_undercut);
  (*owner)->store_undercut();
  Rule other = kAnyOne;
  other.members.push_back(newer().opener);
  (*owner)->store_rule(other);
  (*owner)->store_role(Role::kFenced, newer(), "b", "");
  CHECK((*owner)->control().rule_undercut);
  Term next = newer();
  next.epoch++;
  (*owner)->store_term(next, kAnyOne);
  CHECK(!(*owner)->control().rule_undercut);
}

TEST(TheRuleOfATermThatNeverReachedTheLogSaysNothingOfTheOneBefore) {
  auto owner =
      make_committed(std::make_shared<MemoryFileSystem>(), {CommitLevel::kLocal, "", {}, false});
  Term next = (*owner)->term();
  next.incarnation++;
  (*owner)->store_term(next, kAnyOne);
  (*owner)->store_role(Role::kFenced, newer(), "b", "");
  CHECK(!(*owner)->control().rule);
}

}  // namespace
}  // namespace walmirror::test::rejoin_test
