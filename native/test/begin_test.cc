// A standby whose log begins later than the first record: crashes at every instant, and what it
// refuses.
#include <random>
#include <thread>

#include "log_fixture.h"

namespace walmirror::test::begin_test {
namespace {

/// A primary's log over several segments and two terms.
struct Source {
  LogOptions options;
  History history;
  Term term;
  std::string bytes;  // from the first batch on
  uint64_t segment_bytes = 0;

  const uint8_t* at(uint64_t position) const {
    return reinterpret_cast<const uint8_t*>(bytes.data()) + (position - kFirstBatch);
  }
  uint64_t end() const { return kFirstBatch + bytes.size(); }

  /// Where the batches of a segment begin, as its header says.
  Chain start_of(uint64_t number) const {
    SegmentHeader header;
    std::memcpy(&header, at(number * segment_bytes), sizeof header);
    return {
        number * segment_bytes + kSegmentHeaderBytes, header.first_lsn - 1, header.prev_crc, {}};
  }
  History before(uint64_t position) const {
    History found;
    for (const HistoryEntry& entry : history) {
      if (entry.position < position) found.push_back(entry);
    }
    return found;
  }
};

Source make_source(bool padded) {
  Source source;
  LogOptions options = small_options("p");
  options.padded = padded;
  auto files = std::make_shared<MemoryFileSystem>();
  for (int life = 0; life < 2; life++) {
    Owner owner(options, files);
    owner.open_term();
    for (int i = 0; i < 80; i++) {
      owner.append(record_of(8, owner->closed().lsn + 1, 4000));
      owner.close_batch();
      if (i % 4 == 0) owner.settle();
    }
    owner.settle();
    source.history = owner->history();
    source.term = owner->term();
    source.bytes = read_bytes(owner.log(), kFirstBatch);
    source.segment_bytes = owner->identity().segment_bytes;
    source.options = small_options("s");
    source.options.padded = padded;
    source.options.role = Role::kStandby;
    source.options.log_id = owner->identity().log_id;
    source.options.salt = owner->identity().salt;
    owner->close();
  }
  return source;
}

void receive(Owner& standby, const Source& source, uint64_t end) {
  standby->store_role(Role::kStandby, source.term, "p", "");
  standby->begin_ingest(source.history);
  while (standby->received() < end) {
    uint64_t at = standby->received();
    uint64_t taken = standby->ingest(source.at(at), std::min<uint64_t>(2500, end - at));
    if (taken == 0) std::this_thread::yield();
  }
  // The end of a segment waits for the next one's file.
  bool is_whole = end == source.end() || end % source.segment_bytes == kSegmentHeaderBytes;
  while (is_whole && standby->closed().position < end) {
    standby->ingest(source.at(end), 0);
    std::this_thread::yield();
  }
  standby.settle();
}

/// All of the log from its start on is the source's, and it goes on as any standby's.
void check_follows(Owner& standby, const Source& source) {
  uint64_t start = standby->start().position;
  CHECK(read_bytes(standby.log(), start) ==
        source.bytes.substr(start - kFirstBatch, standby->closed().position - start));
  receive(standby, source, source.end());
  CHECK(read_bytes(standby.log(), start) == source.bytes.substr(start - kFirstBatch));
  CHECK_EQ(standby->history().back().position, source.history.back().position);
  CHECK(standby->history().back().term == source.history.back().term);
}

void check_power_loss(bool padded, bool had_some) {
  Source source = make_source(padded);
  auto files = std::make_shared<MemoryFileSystem>();
  uint64_t last = (source.end() - 1) / source.segment_bytes;
  CHECK(last >= 3);
  // The last but one, so that it is behind an opening, and more follows.
  Chain start = source.start_of(last - 1);
  History history = source.before(start.position);
  std::vector<DiskState> instants;
  uint64_t had = kFirstBatch;
  {
    Owner standby(source.options, files);
    if (had_some) {
      receive(standby, source, source.start_of(1).position + 3000);
      had = standby->closed().position;
    }
    files->watch([&](const DiskState& state) { instants.push_back(state); });
    standby->begin_at(start, history);
    files->watch(nullptr);
    CHECK_EQ(standby->start().position, start.position);
    CHECK_EQ(standby->start().lsn, start.lsn);
    CHECK_EQ(standby->closed().position, start.position);
    CHECK_EQ(standby->closed().lsn, start.lsn);
    CHECK_EQ(standby->checksum_at(start.position), start.crc);
    CHECK_EQ(standby->control().rebuild_from, had_some ? 1 : 0);
    CHECK_EQ(standby->control().rebuild_to, had_some ? start.lsn : 0);
    check_follows(standby, source);
  }
  {
    Owner again(source.options, files);
    CHECK_EQ(again->start().position, start.position);
    check_follows(again, source);
  }
  CHECK(instants.size() >= 3);
  std::mt19937_64 random(7);
  size_t old = 0;
  size_t begun = 0;
  for (const DiskState& state : instants) {
    for (Loss loss : {Loss::kAllUnflushed, Loss::kNothing, Loss::kSomeSectors}) {
      auto found = std::make_shared<MemoryFileSystem>(after_power_loss(state, loss, random));
      Owner again(source.options, found);
      if (again->start().position == start.position) {
        begun++;
        CHECK_EQ(again->closed().position, start.position);
        CHECK_EQ(again->closed().lsn, start.lsn);
        CHECK_EQ(again->history().size(), history.size());
        CHECK_EQ(again->checksum_at(start.position), start.crc);
      } else {
        old++;
        CHECK_EQ(again->start().position, kFirstBatch);
        CHECK_EQ(again->closed().position, had);
        again->begin_at(start, history);
      }
      check_follows(again, source);
    }
  }
  CHECK(old > 0 && begun > 0);
}

TEST(PowerLossAtAnyInstantOfABeginningLeavesTheOldLogOrTheNewOne) {
  check_power_loss(false, false);
  check_power_loss(true, false);
}

TEST(PowerLossAtAnyInstantOfABeginningOfALogThatHadSomeLeavesTheOldLogOrTheNewOne) {
  check_power_loss(false, true);
  check_power_loss(true, true);
}

std::string refusal(Owner& owner, const Chain& start, const History& history) {
  try {
    owner->begin_at(start, history);
  } catch (const WalFailure& failure) {
    return failure.code;
  }
  return "";
}

TEST(ALogDoesNotBeginWhereItReachesNorElsewhereThanASegmentDoes) {
  Source source = make_source(false);
  auto files = std::make_shared<MemoryFileSystem>();
  Owner standby(source.options, files);
  Chain start = source.start_of(2);
  History history = source.before(start.position);
  receive(standby, source, source.start_of(2).position);
  CHECK_EQ(standby->closed().position, start.position);
  CHECK_EQ(refusal(standby, start, history), "WAL_DIVERGED");
  CHECK_EQ(refusal(standby, source.start_of(1), source.before(source.start_of(1).position)),
           "WAL_DIVERGED");
  Chain next = source.start_of(3);
  Chain off = next;
  off.position += 8;
  CHECK_EQ(refusal(standby, off, source.before(next.position)), "WAL_PEER_INVALID");
  CHECK_EQ(refusal(standby, next, {}), "WAL_PEER_INVALID");
  Chain fewer = next;
  fewer.lsn = start.lsn - 1;
  CHECK_EQ(refusal(standby, fewer, {source.history.front()}), "WAL_DIVERGED");
  History late = source.history;
  late.back().position = next.position;
  CHECK_EQ(refusal(standby, next, late), "WAL_PEER_INVALID");
  // Nothing of that has changed it.
  CHECK_EQ(standby->start().position, kFirstBatch);
  check_follows(standby, source);
}

TEST(ALogThatBeginsLaterIsPromotedByTheRuleThatItKnew) {
  Source source = make_source(false);
  auto files = std::make_shared<MemoryFileSystem>();
  Rule rule;
  rule.level = CommitLevel::kRemoteFlush;
  rule.standbys = "ANY 1 (b, c)";
  rule.members = {Id{1}, Id{2}};
  {
    Owner standby(source.options, files);
    receive(standby, source, source.start_of(1).position + 3000);
    standby->store_rule(rule);
    Chain start = source.start_of((source.end() - 1) / source.segment_bytes);
    standby->begin_at(start, source.before(start.position));
    CHECK(standby->control().rule && *standby->control().rule == rule);
  }
  Owner again(source.options, files);
  CHECK(again->control().rule && *again->control().rule == rule);
}

TEST(APrimaryDoesNotBeginElsewhere) {
  Source source = make_source(false);
  LogOptions options = small_options("q");
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(options, files);
  CHECK_EQ(refusal(owner, source.start_of(2), source.before(source.start_of(2).position)),
           "WAL_NOT_STANDBY");
  owner.open_term();
  CHECK_EQ(refusal(owner, source.start_of(2), source.before(source.start_of(2).position)),
           "WAL_NOT_STANDBY");
}

}  // namespace
}  // namespace walmirror::test::begin_test
