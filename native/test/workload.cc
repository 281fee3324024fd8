#include "workload.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <thread>

namespace walmirror::test {
namespace {

/// Later than any clock: what is framed after it bears this very time, so that equal workloads
/// leave equal bytes.
constexpr uint64_t kFuture = 4'000'000'000'000'000;

constexpr uint32_t kSmall = 400;
constexpr uint32_t kBig = 900;

Id id_of(uint8_t byte) {
  Id id{};
  id.fill(byte);
  return id;
}

uint64_t add_tag(uint64_t sum, Tag tag) { return sum * 0x9e3779b97f4a7c15 + tag + 1; }

/// An empty log, closed cleanly.
std::shared_ptr<MemoryFileSystem> make_log(LogOptions options, uint8_t node, Role role) {
  auto files = std::make_shared<MemoryFileSystem>();
  options.role = role;
  Owner(options, files)->close();
  std::unique_ptr<ControlFile> control = ControlFile::open(*files, "d", false);
  control->update(ControlFile::Copies::kBoth, [&](Control& content) {
    content.node_id = id_of(node);
    content.wall_clock_us = kFuture;
  });
  return files;
}

void write_batch(Owner& owner, Source& source, uint32_t writer, std::vector<uint32_t> sizes) {
  for (uint32_t size : sizes) {
    source.tags.push_back(tag_of(writer, size));
    CHECK_EQ(owner.append(record_of_tag(source.tags.back(), source.tags.size())),
             source.tags.size());
  }
  owner.close_batch();
  owner.settle();
  source.ends.push_back(owner->closed().place());
}

void write_batches(Owner& owner, Source& source, uint32_t writer, uint64_t segments) {
  uint64_t bytes = owner->identity().segment_bytes;
  while (owner->closed().position < segments * bytes) {
    for (int i = 0; i < 5; i++) write_batch(owner, source, writer, {kSmall});
    for (int i = 0; i < 2; i++) write_batch(owner, source, writer, {kBig, kBig, kBig, kBig});
  }
}

void finish(Owner& owner, Source& source) {
  source.history = owner->history();
  source.term = owner->term();
  source.bytes = read_bytes(owner.log(), kFirstBatch);
}

void ingest_to(Owner& owner, const Source& source, uint64_t end) {
  auto bytes = reinterpret_cast<const uint8_t*>(source.bytes.data());
  uint64_t at = owner->received();
  while (owner->closed().position < end) {
    uint64_t taken = owner->ingest(bytes + (at - kFirstBatch), end - at);
    at += taken;
    // It waits for a segment, or for the ring.
    if (owner->closed().position < end) owner.wait_for_progress();
  }
  owner.settle();
}

/// What another primary made of `source` from `fork` on, in a much later epoch.
Source leave_at(const Source& source, Place fork) {
  Source other;
  other.options = source.options;
  Owner owner(source.options, make_log(source.options, 0xbb, Role::kStandby));
  owner->store_role(Role::kStandby, source.term, "p", "");
  owner->begin_ingest(source.history);
  ingest_to(owner, source, fork.position);
  other.tags.assign(source.tags.begin(), source.tags.begin() + static_cast<int64_t>(fork.lsn));
  other.ends.push_back(fork);
  owner.open_term({source.term.epoch + 10, owner->control().node_id, 1});
  other.ends.push_back(owner->closed().place());
  write_batches(owner, other, 2, fork.position / source.options.segment_bytes + 3);
  finish(owner, other);
  return other;
}

Place first_end_from(const Source& source, uint64_t position) {
  for (const Place& end : source.ends) {
    if (end.position >= position) return end;
  }
  throw CheckFailed("the source is too short");
}

Start make_start(const std::string& name, const Source& source, Place fork) {
  Start start{name, {}, {{}, {.sector = kBlock}}, {}, source, leave_at(source, fork), fork};
  if (source.options.padded) {
    start.name = "padded, " + name;
    start.disks = {{.mixes = true}};
  }
  start.known.acknowledged = {kFirstBatch, 0, 0};
  return start;
}

/// All of a disk is flushed.
DiskState settled(const DiskState& state) {
  std::mt19937_64 unused;
  return after_power_loss(state, Loss::kNothing, unused);
}

Start make_fresh(const Source& source) {
  Start start = make_start("fresh", source, source.ends[1]);
  start.disk = settled(make_log(source.options, 0xcc, Role::kStandby)->state());
  return start;
}

/// Received to near the end of the third segment; the first one was recycled.
Start make_used(const Source& source) {
  uint64_t segment = source.options.segment_bytes;
  Place fork = first_end_from(source, 2 * segment - 5000);
  Place end = first_end_from(source, 3 * segment - 2600);
  Start start = make_start("used", source, fork);
  auto files = make_log(source.options, 0xcc, Role::kStandby);
  Owner owner(source.options, files);
  owner->store_role(Role::kStandby, source.term, "p", "");
  owner->begin_ingest(source.history);
  ingest_to(owner, source, end.position);
  owner->set_commit(fork.position, fork.lsn);
  owner->trim(fork.position);
  CHECK(owner->start().position > segment);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // spares are made
  start.known.tags.assign(source.tags.begin(), source.tags.begin() + static_cast<int64_t>(end.lsn));
  start.known.acknowledged = end;
  start.known.trimmed = owner->start().lsn;
  start.known.term = source.term;
  start.disk = settled(files->state());
  return start;
}

}  // namespace

Source make_source(bool padded) {
  Source source;
  source.options = workload_options(padded);
  auto files = make_log(source.options, 0xaa, Role::kPrimary);
  for (int life = 0; life < 2; life++) {
    Owner owner(source.options, files);
    owner.open_term();
    source.ends.push_back(owner->closed().place());
    if (life == 0) {
      for (int i = 0; i < 6; i++) write_batch(owner, source, 1, {kBig, kBig, kBig, kBig});
    } else {
      write_batches(owner, source, 1, 6);
    }
    finish(owner, source);
    owner->close();
  }
  return source;
}

std::string text_of(const Ops& ops) {
  static const char* const names[kOps] = {"append",   "commit",  "roll", "recycle",
                                          "truncate", "promote", "close"};
  std::string text;
  for (Op op : ops) text += (text.empty() ? "" : ", ") + std::string(names[static_cast<int>(op)]);
  return text;
}

Tag tag_of(uint32_t writer, uint32_t size) { return writer << 12 | size; }

std::string record_of_tag(Tag tag, uint64_t lsn) {
  std::mt19937_64 random(tag * uint64_t{1000003} + lsn);
  std::string bytes = std::to_string(tag) + ":" + std::to_string(lsn) + ":";
  while (bytes.size() < (tag & 4095)) {
    uint64_t word = random();
    bytes.append(reinterpret_cast<const char*>(&word), sizeof word);
  }
  bytes.resize(tag & 4095);
  return bytes;
}

Holding holding_of(Log& log) {
  Found found = read_all(log);
  Holding holding;
  holding.first_lsn = found.first_lsn;
  holding.last_lsn = found.last_lsn();
  holding.position = log.flushed().position;
  holding.term = log.term();
  holding.history_is_right = found.history_is_that_of_its_batches;
  for (size_t i = 0; i < found.records.size(); i++) {
    Tag tag = static_cast<Tag>(std::strtoul(found.records[i].c_str(), nullptr, 10));
    CHECK(found.records[i] == record_of_tag(tag, found.first_lsn + i));
    holding.tags = add_tag(holding.tags, tag);
  }
  return holding;
}

void Known::check(const Holding& found) const {
  auto fail = [&](const std::string& what) {
    check_failed(__FILE__, __LINE__,
                 what + ": found LSN " + std::to_string(found.first_lsn) + " to " +
                     std::to_string(found.last_lsn) + ", to position " +
                     std::to_string(found.position) + "; acknowledged " +
                     std::to_string(acknowledged.lsn) + ", position " +
                     std::to_string(acknowledged.position) + ", trimmed " +
                     std::to_string(trimmed) + ", appended " + std::to_string(tags.size()));
  };
  bool cut = fork && found.position == fork->position && found.last_lsn == fork->lsn;
  if (!cut && (found.last_lsn < acknowledged.lsn || found.position < acknowledged.position))
    fail("acknowledged and missing");
  if (fork && !cut && found.position != acknowledged.position) fail("half cut");
  if (found.last_lsn > tags.size()) fail("more than was appended");
  if (found.first_lsn > trimmed + 1) fail("more was trimmed than was given up");
  uint64_t expected = 0;
  for (uint64_t lsn = found.first_lsn; lsn <= found.last_lsn; lsn++)
    expected = add_tag(expected, tags[lsn - 1]);
  if (found.tags != expected) fail("other records than were appended");
  if (!found.history_is_right) fail("the history is not that of the batches");
  if (!term_may_follow(term, found.term)) fail("the term fell");
}

LogOptions workload_options(bool padded) {
  LogOptions options = small_options();
  options.max_record_bytes = 1024;
  options.padded = padded;
  options.segment_bytes = (padded ? 7 : 5) * kBlock;
  options.log_id = id_of(0x11);
  options.salt = 7;
  return options;
}

std::vector<Start> make_starts() {
  std::vector<Start> starts;
  for (bool padded : {false, true}) {
    Source source = make_source(padded);
    starts.push_back(make_fresh(source));
    starts.push_back(make_used(source));
  }
  return starts;
}

Start make_used_start() { return make_used(make_source(false)); }

Run::Run(const Start& start)
    : start_(start),
      source_(&start.source),
      files_(std::make_shared<MemoryFileSystem>(start.disk)),
      recorder_(start.known) {}

Run::~Run() { files_->watch(nullptr); }

void Run::record() { recorder_.watch(*files_); }

void Run::stop_recording() {
  for (size_t before = SIZE_MAX; before != recorder_.count();) {
    before = recorder_.count();
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  files_->watch(nullptr);
}

bool Run::apply(Op op) {
  if (owner_ == nullptr && op != Op::kClose) open();
  switch (op) {
    case Op::kAppend:
      return append();
    case Op::kCommit:
      return commit();
    case Op::kRoll:
      return roll();
    case Op::kRecycle:
      return recycle();
    case Op::kTruncate:
      return truncate();
    case Op::kPromote:
      return promote();
    case Op::kClose:
      return close();
  }
  return false;
}

void Run::open() {
  owner_ = std::make_unique<Owner>(start_.source.options, files_);
  primary_ = false;
  follows_ = false;
  acknowledge();
}

void Run::acknowledge() {
  Place flushed = (*owner_)->flushed();
  recorder_.learn([&](Known& known) { known.acknowledged = flushed; });
}

void Run::add_record(uint32_t size) {
  Tag tag = tag_of(writer_, size);
  uint64_t lsn = recorder_.known().tags.size() + 1;
  // Known before it is there: an instant may fall between the two.
  recorder_.learn([&](Known& known) { known.tags.push_back(tag); });
  try {
    CHECK_EQ(owner_->append(record_of_tag(tag, lsn)), lsn);
  } catch (...) {
    recorder_.learn([](Known& known) { known.tags.pop_back(); });
    throw;
  }
}

const Place* Run::next_end(uint64_t after) const {
  if (source_ == nullptr) return nullptr;
  for (const Place& end : source_->ends) {
    if (end.position > after) return &end;
  }
  return nullptr;
}

void Run::follow(const Source& source) {
  (*owner_)->store_role(Role::kStandby, source.term, "p", "");
  recorder_.learn([&](Known& known) { known.term = source.term; });
}

void Run::receive(Place end) {
  if (!follows_) {
    follow(*source_);
    (*owner_)->begin_ingest(source_->history);
    follows_ = true;
  }
  recorder_.learn([&](Known& known) {
    auto first = source_->tags.begin();
    known.tags.assign(first, first + static_cast<int64_t>(end.lsn));
  });
  ingest_to(*owner_, *source_, end.position);
  acknowledge();
}

bool Run::append() {
  if (primary_) {
    add_record(kSmall);
  } else {
    const Place* end = next_end(waiting_ ? queued_.position : (*owner_)->closed().position);
    if (end == nullptr) return false;
    queued_ = *end;
  }
  waiting_ = true;
  return true;
}

bool Run::commit() {
  if (!waiting_) return false;
  waiting_ = false;
  if (primary_) {
    owner_->close_batch();
    owner_->settle();
    acknowledge();
  } else {
    receive(queued_);
  }
  return true;
}

/// To the first batch, or more, of the next segment.
bool Run::roll() {
  uint64_t bytes = segment_bytes();
  uint64_t next = ((*owner_)->closed().position / bytes + 1) * bytes;
  if (primary_) {
    while ((*owner_)->closed().position < next) add_record(kBig);
    waiting_ = true;
    return commit();
  }
  const Place* end = next_end(next + kSegmentHeaderBytes);
  if (end == nullptr) return false;
  waiting_ = false;
  receive(*end);
  return true;
}

uint64_t Run::lsn_before(uint64_t position) {
  AlignedBuffer buffer(32768);
  Place start = (*owner_)->start();
  uint64_t lsn = start.lsn;
  for (uint64_t at = start.position; at < position;) {
    ReadOutcome piece = (*owner_)->read_into(buffer.data(), buffer.size(), at, position);
    CHECK(piece.next > at);
    at = piece.next;
    lsn = piece.lsn;
  }
  return lsn;
}

bool Run::recycle() {
  uint64_t bytes = segment_bytes();
  Place flushed = (*owner_)->flushed();
  uint64_t first = flushed.position / bytes * bytes + kSegmentHeaderBytes;
  if (first <= (*owner_)->start().position) return false;
  uint64_t lsn = lsn_before(first);
  recorder_.learn([&](Known& known) { known.trimmed = lsn; });
  (*owner_)->set_commit(flushed.position, flushed.lsn);
  commit_ = flushed.position;
  (*owner_)->trim(flushed.position);
  return true;
}

/// A standby, or a primary that was closed, cuts what its new primary does not have.
bool Run::truncate() {
  const Place& fork = start_.fork;
  bool behind = (*owner_)->closed().position <= fork.position;
  bool elsewhere = source_ == nullptr && left_at_ < fork.position;
  if (primary_ || was_cut_ || behind || elsewhere || commit_ > fork.position) return false;
  was_cut_ = true;
  waiting_ = false;
  follow(start_.other);
  recorder_.learn([&](Known& known) { known.fork = fork; });
  (*owner_)->truncate(fork.position, "tail.diverged");
  recorder_.learn([&](Known& known) {
    known.tags.resize(fork.lsn);
    known.fork.reset();
  });
  acknowledge();
  source_ = &start_.other;
  follows_ = false;
  return true;
}

bool Run::promote() {
  if (primary_ && waiting_) commit();
  waiting_ = false;
  if (source_ != nullptr) left_at_ = (*owner_)->closed().position;
  Term next{(*owner_)->term().epoch + 1, (*owner_)->control().node_id, 1};
  owner_->open_term(next);
  recorder_.learn([&](Known& known) { known.term = next; });
  acknowledge();
  primary_ = true;
  source_ = nullptr;
  writer_++;
  return true;
}

bool Run::close() {
  if (owner_ == nullptr) return false;
  if (primary_ && waiting_) owner_->close_batch();
  waiting_ = false;
  (*owner_)->close();
  acknowledge();
  owner_.reset();
  return true;
}

void Run::go_on() {
  if (owner_ == nullptr) return;
  holding_of(owner_->log());
  if (!(*owner_)->appending()) return;
  append();
  commit();
}

Holding recover(const std::shared_ptr<MemoryFileSystem>& files, const Known& known,
                std::vector<InstantOf<Known>>* instants) {
  RecorderOf<Known> recorder(known);
  if (instants != nullptr) recorder.watch(*files);
  Owner owner(workload_options(), files);
  Holding found = holding_of(owner.log());
  known.check(found);
  if (instants == nullptr) return found;
  // Asked before: the log calls the recorder with its own locks held.
  Place flushed = owner->flushed();
  recorder.learn([&](Known& now) {
    now.tags.resize(found.last_lsn);
    now.acknowledged = flushed;
    now.fork.reset();
    now.term = found.term;
  });
  InstantOf<Known> opened{files->state(), recorder.known()};
  Term next{found.term.epoch + 1, owner->control().node_id, 1};
  owner.open_term(next);
  flushed = owner->flushed();
  recorder.learn([&](Known& now) {
    now.term = next;
    now.acknowledged = flushed;
  });
  for (uint32_t size : {kSmall, kBig}) {
    uint64_t lsn = recorder.known().tags.size() + 1;
    recorder.learn([&](Known& now) { now.tags.push_back(tag_of(900, size)); });
    CHECK_EQ(owner.append(record_of_tag(tag_of(900, size), lsn)), lsn);
  }
  owner.close_batch();
  owner.settle();
  flushed = owner->flushed();
  recorder.learn([&](Known& now) { now.acknowledged = flushed; });
  files->watch(nullptr);
  *instants = std::move(recorder.instants());
  instants->insert(instants->begin(), std::move(opened));
  instants->push_back({files->state(), recorder.known()});
  return found;
}

}  // namespace walmirror::test
