// What a node stores when it is fenced for a candidate (SAFETY 3.4).
#include "disks.h"

namespace walmirror::test::fence_test {
namespace {

const std::vector<std::string> kOne{"a"};

Term term_of(uint64_t epoch, uint8_t who, uint32_t incarnation) {
  Id opener{};
  opener.fill(who);
  return {epoch, opener, incarnation};
}

TEST(FenceLeavesTheRuleOfTheLastTermAsItIs) {
  auto disks = std::make_shared<Disks>(kOne);
  Id member{};
  member.fill(0x11);
  const Rule rule{CommitLevel::kRemoteFlush, "ANY 1 (*)", {member}, false};
  {
    Owner owner(options_on(kOne), disks);
    owner->store_role(Role::kStandby, term_of(1, 0xaa, 1), "a", "");
    owner->store_rule(rule);
    owner->store_role(Role::kStandby, term_of(2, 0xbb, 0), "b", "");
    CHECK(owner->control().rule == rule);
    // Another candidate, after that one has failed.
    owner->store_role(Role::kStandby, term_of(3, 0xcc, 0), "c", "");
    owner->close();
  }
  Owner owner(options_on(kOne), disks);
  CHECK(owner->control().rule == rule);
  CHECK(owner->term() == term_of(3, 0xcc, 0));
  // The epoch is opened: its primary has not told its rule yet.
  owner->store_role(Role::kStandby, term_of(3, 0xcc, 1), "c", "");
  CHECK(!owner->control().rule);
}

/// SAFETY 3.4: what was acknowledged is judged by the rule of its term, or by nobody.
TEST(ThatTheRuleOfATermWasNeverToldOutlivesAFence) {
  Id member{};
  member.fill(0x11);
  const Rule rule{CommitLevel::kRemoteFlush, "ANY 1 (*)", {member}, false};
  auto disks = std::make_shared<Disks>(kOne);
  {
    Owner owner(options_on(kOne), disks);
    owner.open_term();
    owner->store_rule(rule);
    append_to(owner, 1, 3);
    owner->store_role(Role::kFenced, term_of(2, 0xbb, 1), "b", "");
    CHECK(owner->control().rule_of_earlier_term && !owner->control().rule_untold);
    owner->store_role(Role::kFenced, term_of(3, 0xcc, 0), "c", "");
    CHECK(owner->control().rule_of_earlier_term && owner->control().rule_untold);
    owner->close();
  }
  Owner owner(options_on(kOne), disks);
  CHECK(owner->control().rule == rule);
  CHECK(owner->control().rule_untold);
  owner->store_role(Role::kFenced, term_of(4, 0xbb, 0), "b", "");
  CHECK(owner->control().rule_untold);
  owner->store_rule(rule);
  CHECK(!owner->control().rule_untold);
}

/// SAFETY 3.4: who has stored an epoch for a candidate takes nothing of an older one.
TEST(ATermBelowTheOneThatIsStoredIsRefusedAndChangesNothing) {
  auto disks = std::make_shared<Disks>(kOne);
  Owner owner(options_on(kOne), disks);
  owner.open_term();
  owner->store_role(Role::kFenced, term_of(3, 0xcc, 0), "c", "");
  CHECK_FAILS("WAL_FENCED", owner->store_role(Role::kFenced, term_of(2, 0xbb, 1), "b", ""));
  CHECK_FAILS("WAL_FENCED", owner->store_role(Role::kStandby, term_of(2, 0xbb, 1), "b", ""));
  CHECK_FAILS("WAL_FENCED", owner->store_term(term_of(2, 0xaa, 1)));
  CHECK(owner->term() == term_of(3, 0xcc, 0));
  CHECK(owner->control().role == Role::kFenced);
  owner->store_role(Role::kStandby, term_of(3, 0xcc, 1), "c", "");
  CHECK(owner->term() == term_of(3, 0xcc, 1));
}

/// SAFETY 3.4: who follows the opener of an epoch opens none of its own, by its word for good.
TEST(AnEpochThatAnotherHasOpenedIsNotStoredForAThird) {
  Owner owner(small_options(), std::make_shared<MemoryFileSystem>());
  const Id own = owner->control().node_id;
  // Of candidates the one that has opened it is taken.
  owner->store_role(Role::kStandby, {3, own, 0}, "c", "");
  owner->store_role(Role::kStandby, term_of(3, 0xbb, 1), "b", "");
  CHECK_FAILS("WAL_FENCED", owner->store_term({3, own, 1}));
  CHECK_FAILS("WAL_FENCED", owner->store_role(Role::kStandby, {3, own, 0}, "c", ""));
  CHECK_FAILS("WAL_FENCED", owner->store_role(Role::kStandby, term_of(3, 0xcc, 1), "c", ""));
  CHECK(owner->term() == term_of(3, 0xbb, 1));
  CHECK(owner->control().role == Role::kStandby);
  owner->store_role(Role::kStandby, term_of(3, 0xbb, 2), "b", "");
  owner->store_term({4, own, 1});
}

TEST(AFenceForgetsTheRuleOfATermOfItsOwnThatNeverBegan) {
  Owner owner(small_options(), std::make_shared<MemoryFileSystem>());
  owner->store_role(Role::kStandby, term_of(1, 0xaa, 1), "a", "");
  Term own{2, owner->control().node_id, 0};
  const Rule rule{CommitLevel::kRemoteFlush, "ANY 1 (*)", {Id{0x11}}, false};
  owner->store_rule(rule);
  // An epoch that it was to open is not one that it has stored to be the primary of.
  owner->store_role(Role::kStandby, own, "b", "");
  CHECK(owner->control().rule == rule);
  own.incarnation = 1;
  owner->store_term(own, Rule{CommitLevel::kRemoteFlush, "ANY 1 (*)", {}, false});
  owner->store_role(Role::kFenced, term_of(3, 0xcc, 0), "c", "");
  CHECK(!owner->control().rule);
}

const Rule kAnyOne{CommitLevel::kRemoteFlush, "ANY 1 (*)", {Id{0x11}}, false};

TEST(AFenceLeavesTheRuleThatTheLastTermOfTheLogIsJudgedBy) {
  for (Role role : {Role::kStandby, Role::kFenced}) {
    auto disks = std::make_shared<Disks>(kOne);
    Owner owner(options_on(kOne), disks);
    owner.open_term();
    owner->store_rule(kAnyOne);
    append_to(owner, 1, 3);
    owner->store_role(role, term_of(2, 0xbb, 0), "b", "");
    CHECK(owner->control().rule == kAnyOne);
    CHECK(owner->control().rule_of_earlier_term);
    // Whoever opens it: the records past the fork point are judged by what was told of their term.
    owner->store_role(role, term_of(2, 0xbb, 1), "b", "");
    CHECK(owner->control().rule == kAnyOne);
    CHECK(owner->control().rule_of_earlier_term);
  }
}

TEST(ARuleThatIsNotOfTheLastTermOfTheLogJudgesNothingAndAPromotionGoesByItStill) {
  LogOptions options = small_options("s");
  std::string bytes;
  History history;
  uint64_t fork = 0;
  {
    Owner primary(small_options(), std::make_shared<MemoryFileSystem>());
    primary.open_term();
    append_to(primary, 1, 3);
    fork = primary->flushed().position - kFirstBatch;
    primary.open_term();
    bytes = read_bytes(primary.log(), kFirstBatch);
    history = primary->history();
    options.role = Role::kStandby;
    options.log_id = primary->identity().log_id;
    options.salt = primary->identity().salt;
  }
  auto files = std::make_shared<MemoryFileSystem>();
  auto receive = [&](Owner& owner, const History& of, uint64_t from, uint64_t to) {
    owner->begin_ingest(of);
    while (from < to) {
      uint64_t size = to - from;
      from += owner->ingest(reinterpret_cast<const uint8_t*>(bytes.data()) + from, size);
      if (from < to) owner.wait_for_progress();
    }
    owner.settle();
  };
  {
    Owner owner(options, files);
    owner->store_role(Role::kStandby, history.front().term, "a", "");
    owner->store_rule(kAnyOne);
    receive(owner, {history.front()}, 0, fork);
    owner->store_role(Role::kStandby, term_of(9, 0xbb, 0), "b", "");
    CHECK(owner->control().rule_of_earlier_term);
    // What another member has past the end here: the opening of a later term.
    receive(owner, history, fork, bytes.size());
    owner->close();
  }
  Owner owner(options, files);
  CHECK_EQ(owner->history().size(), 2u);
  CHECK(owner->control().rule == kAnyOne);
  CHECK(!owner->control().rule_of_earlier_term);
  owner->store_role(Role::kStandby, term_of(9, 0xbb, 1), "b", "");
  CHECK(!owner->control().rule);
}

TEST(ForcedPromotionIsRecordedBehindTheOpening) {
  auto disks = std::make_shared<Disks>(kOne);
  uint64_t end = 0;
  {
    Owner owner(options_on(kOne), disks);
    owner.open_term();
    while (!owner->frame_forced("too few answered")) owner.wait_for_progress();
    end = owner->closed().position;
    append_to(owner, 1, 10);
    owner->close();
  }
  Owner owner(options_on(kOne), disks);
  CHECK(owner->closed().position > end);
  check_records(owner.log(), 1, 10);
}

TEST(FencedPrimaryTakesNoAppendsAndAnothersBytes) {
  auto disks = std::make_shared<Disks>(kOne);
  Owner owner(options_on(kOne), disks);
  owner.open_term();
  append_to(owner, 1, 3);
  CHECK_FAILS("WAL_WAS_PRIMARY", owner->begin_ingest(owner->history()));
  owner->store_role(Role::kFenced, term_of(9, 0xbb, 1), "b", "");
  CHECK(!owner->appending());
  CHECK_FAILS("WAL_IS_STANDBY", owner->reserve(0, 0, 8));
  owner->begin_ingest(owner->history());
}

}  // namespace
}  // namespace walmirror::test::fence_test
