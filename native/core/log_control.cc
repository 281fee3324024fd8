// Terms, roles, the cut at a fork point, trimming, claims (SAFETY 2, 8). Tasks, unless said
// otherwise.
#include <algorithm>
#include <cstring>

#include "log.h"
#include "planted.h"

namespace walmirror {
namespace {

constexpr const char* kSideFileEnd = ".diverged";

bool same_content(File& a, File& b) {
  if (a.size() != b.size()) return false;
  AlignedBuffer one(1u << 20);
  AlignedBuffer other(1u << 20);
  for (uint64_t at = 0, size = a.size(); at < size; at += one.size()) {
    uint64_t piece = std::min<uint64_t>(one.size(), size - at);
    if (a.read(at, one.data(), piece) != piece || b.read(at, other.data(), piece) != piece ||
        std::memcmp(one.data(), other.data(), piece) != 0) {
      return false;
    }
  }
  return true;
}

/// It takes room; where it cannot be removed, the next opening does it.
void remove_quietly(FileSystem& files, const std::string& path) {
  try {
    files.remove(path);
  } catch (const WalFailure&) {
  }
}

}  // namespace

bool is_side_file_name(const std::string& name) {
  return name.size() > std::strlen(kSideFileEnd) && name.ends_with(kSideFileEnd) &&
         name[0] != '.' && name.find_first_of(std::string("/\0", 2)) == std::string::npos;
}

Term Log::term() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return term_;
}

History Log::history() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return history_;
}

Place Log::start() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return {start_position_, start_lsn_, 0};
}

/// An error of the control file is final for the log (what a failed write left is unknown).
void Log::store(const std::function<void(Control&)>& change, ControlFile::Copies copies) {
  try {
    control_->update(copies, [&](Control& control) {
      refresh_control(control);
      change(control);
    });
  } catch (...) {
    fail_as_caught();
    throw;
  }
}

/// A rule is stored whole or not at all: one that was cut short would say something else.
static void require_fits(const Rule& rule) {
  if (rule.members.size() > kMaxMembers || rule.standbys.size() >= kRuleTextBytes ||
      rule.standbys.find('\0') != std::string::npos) {
    throw WalFailure("WAL_UNSUPPORTED", "the rule for commits does not fit the control file");
  }
}

/// Before the rule, its term or its commit place changes: what is committed under one in force is
/// on a quorum, and stays known to be, whatever the rule is later.
static void note_quorum(Control& control) {
  const std::optional<Rule>& rule = control.rule;
  if (!rule || rule->level < CommitLevel::kRemoteWrite || rule->standbys.empty() ||
      rule->degraded || control.history.empty()) {
    return;
  }
  const HistoryEntry& opening = control.history.back();
  // The commit place passes the opening when that meets the rule, and all before with it (1.5).
  if (!(opening.term == control.term) || control.commit.position <= opening.position) return;
  if (!PLANTED(quorum_forgotten))
    control.quorum_lsn = std::max(control.quorum_lsn, control.commit.lsn);
}

/// Whether the rule goes on to say what the acknowledgements of the log's last term meant.
static bool keeps_rule(const Control& control, Role role, const Term& term) {
  if (role != Role::kFenced) return control.role != Role::kFenced && control.term == term;
  if (control.role == Role::kFenced) return true;
  // A term whose opening never reached the log acknowledged nothing, and says nothing of those
  // before.
  return !control.history.empty() && control.history.back().term == control.term;
}

void Log::store_term(const Term& term, const std::optional<Rule>& rule) {
  if (rule) require_fits(*rule);
  wait_until_flushed();
  store([&](Control& control) {
    if (PLANTED(term_not_stored)) return;
    note_quorum(control);
    control.role = Role::kPrimary;
    control.term = term;
    control.primary_name.clear();
    control.primary_address.clear();
    control.contact_us = 0;
    control.rule = rule;
  });
  bool may_roll = room(chain_.position) < encode_history(History(kMaxHistory)).size();
  while (may_roll && segments_->spare_count() == 0 && segments_->prepare(1)) {
  }
  std::lock_guard<std::mutex> guard(mutex_);
  term_ = term;
}

void Log::store_role(Role role, const Term& term, const std::string& primary,
                     const std::string& address) {
  store([&](Control& control) {
    note_quorum(control);
    if (!keeps_rule(control, role, term)) control.rule.reset();
    control.role = role;
    control.term = term;
    control.primary_name = primary;
    control.primary_address = address;
  });
  std::lock_guard<std::mutex> guard(mutex_);
  term_ = term;
}

void Log::store_rule(const Rule& rule) {
  require_fits(rule);
  store([&](Control& control) {
    note_quorum(control);
    control.rule = rule;
  });
}

void Log::store_contact(uint64_t wall_clock_us) {
  store([&](Control& control) { control.contact_us = wall_clock_us; }, ControlFile::Copies::kOne);
}

Chain Log::chain_at(uint64_t position) {
  if (position == kFirstBatch) return Chain{};
  uint64_t before = position - 1;
  std::shared_ptr<Segment> segment = segments_->find(identity_.segment_of(before));
  if (segment != nullptr && before % identity_.segment_bytes < kSegmentHeaderBytes) {
    if (before % identity_.segment_bytes != kSegmentHeaderBytes - 1) {
      throw WalFailure("WAL_DIVERGED", "no batch ends at position " + std::to_string(position));
    }
    // The first batch of a segment: what comes before it is in the header, but for its term.
    std::shared_ptr<Segment> previous = segments_->find(segment->number - 1);
    if (previous == nullptr) return {position, segment->first_lsn - 1, segment->prev_crc, {}};
    segment = previous;
  }
  if (segment == nullptr)
    throw WalFailure("WAL_LSN_GONE", "position " + std::to_string(position) + " is not kept");
  Chain from;
  from.position = segments_->nearest_position(*segment, position).position;
  Walker walker(identity_, *segments_, from, false);
  while (walker.chain().position < position) {
    if (walker.next() != Step::kBatch) break;
  }
  if (walker.chain().position == position) return walker.chain();
  throw WalFailure("WAL_DIVERGED", "no batch ends at position " + std::to_string(position));
}

std::string Log::truncate(uint64_t position, const std::string& side_file, Cut how) {
  if (!is_side_file_name(side_file))
    throw std::invalid_argument("a side file is a plain name that ends in .diverged");
  if (appending_) throw WalFailure("WAL_NOT_STANDBY", "a primary cuts nothing from its log");
  if (how == Cut::kReturning && control().role != Role::kFenced)
    throw WalFailure("WAL_NOT_STANDBY", "an old primary is fenced before it cuts its log");
  wait_until_flushed();
  if (position == chain_.position) return {};
  if (position > chain_.position || position < start().position) {
    throw WalFailure("WAL_DIVERGED",
                     "the fork point " + std::to_string(position) + " is outside of the log");
  }
  {
    std::lock_guard<std::mutex> guard(mutex_);
    if (position < commit_.position && how != Cut::kReturning && !PLANTED(committed_cut)) {
      throw WalFailure("WAL_COMMITTED_LOST", "a cut at " + std::to_string(position) +
                                                 " would remove what is known to be committed");
    }
  }
  Chain end = chain_at(position);
  if (how == Cut::kReturning && !scrubber_->hold_repairs())
    throw WalFailure("WAL_IO",
                     "a damaged range of the log is being repaired; the cut waits for it");
  std::shared_ptr<void> over(nullptr, [this](void*) { scrubber_->resume_repairs(); });
  std::string aside = set_aside(end, side_file);
  try {
    cut(end, how);
  } catch (...) {
    // Half cut: what is in memory and on the disk may differ. Opening it again repeats the cut.
    fail_as_caught();
    throw;
  }
  return aside;
}

/// What the application has to be told of, until it was.
static void note_rebuild(Control& control, uint64_t first, uint64_t last, Cut how) {
  bool had = control.rebuild_from != 0;
  if (how != Cut::kUnseen && first <= last && !PLANTED(rebuild_not_stored)) {
    control.rebuild_from = had ? std::min(control.rebuild_from, first) : first;
    control.rebuild_to = std::max(control.rebuild_to, last);
  } else if (had) {
    control.rebuild_from = std::min(control.rebuild_from, first);
  }
}

void Log::cut(const Chain& end, Cut how) {
  {
    // First in memory: a watermark that the housekeeper stores meanwhile must not lie past the cut.
    std::lock_guard<std::mutex> guard(mutex_);
    while (!history_.empty() && history_.back().position >= end.position) history_.pop_back();
    flushed_ = end.place();
    cuts_++;
    stored_watermark_ = flushed_;
    flush_position_.store(end.position);
    // What another term writes there is not committed yet (docs/adr/0006).
    bool committed = commit_.position > end.position;
    if (committed && !PLANTED(commit_outlives_the_cut)) commit_ = end.place();
  }
  // One step: what has a tail is fenced, and what follows has none, whenever the power goes.
  store([&](Control& control) {
    control.cut_under_way = !PLANTED(cut_not_stored);
    control.fork_position = end.position;
    note_rebuild(control, end.lsn + 1, chain_.lsn, how);
    if (how != Cut::kReturning) return;
    control.role = Role::kStandby;
    control.rule.reset();
  });
  finish_cut(end);
  chain_ = end;
  received_ = end.position;
  ingesting_ = false;
  ring_valid_from_ = align_down(end.position, kBlock);
  last_indexed_ = end.position;
  load_tail(end.position, end.position, false);
  store([](Control& control) { control.cut_under_way = false; });
}

/// All that lies past `from`, in a file of its own that tells where it ends: whole, durable and
/// named on return, before a byte of it goes. What a full disk has no room for leaves nothing.
std::string Log::set_aside(const Chain& from, const std::string& side_file) {
  std::string path = directory_ + "/" + side_file;
  std::string fresh = path + ".new";
  files_->remove(fresh);
  try {
    std::unique_ptr<File> file = files_->open(fresh, OpenMode::kCreate, false);
    write_tail(*file, from);
    if (!PLANTED(side_file_not_flushed)) file->sync();
    // What is aside already stays. The same cut, repeated after a crash, finds its own file there.
    std::string stem = path.substr(0, path.size() - std::strlen(kSideFileEnd));
    for (int n = 2; files_->exists(path) && !PLANTED(side_file_overwritten); n++) {
      if (same_content(*file, *files_->open(path, OpenMode::kRead, false))) break;
      path = stem + "-" + std::to_string(n) + kSideFileEnd;
    }
  } catch (...) {
    remove_quietly(*files_, fresh);
    throw;
  }
  files_->rename(fresh, path);
  files_->sync_directory(directory_);
  return path;
}

void Log::store_rebuilt() {
  store([](Control& control) {
    control.rebuild_from = 0;
    control.rebuild_to = 0;
  });
}

void Log::write_tail(File& file, const Chain& from) {
  uint8_t header[kSegmentHeaderBytes];
  make_tail_header(identity_, from, chain_, header);
  Slice slice{header, sizeof header};
  file.write(0, &slice, 1, false);
  uint64_t offset = sizeof header;
  AlignedBuffer piece(1u << 20);
  for (uint64_t at = from.position; at < chain_.position;) {
    std::shared_ptr<Segment> segment = segments_->find(identity_.segment_of(at));
    uint64_t block = align_down(at, kBlock);
    uint64_t end = std::min({chain_.position, identity_.segment_end(at), block + piece.size()});
    segment->file()->read(block % identity_.segment_bytes, piece.data(),
                          align_up(end - block, kBlock));
    Slice part{piece.data() + (at - block), end - at};
    file.write(offset, &part, 1, false);
    offset += end - at;
    at = end;
  }
}

/// Makes sure that nothing after `end` can be taken for a part of the log again, nor for a proof
/// that what follows it was durable: the rest of the segment is zeroed. Repeated on opening after a
/// crash in the middle.
void Log::finish_cut(const Chain& end) {
  segments_->drop_after(end.position);
  segments_->forget_index_from(end.position);
  std::shared_ptr<Segment> segment = segments_->find(identity_.segment_of(end.position));
  if (segment == nullptr) return;
  AlignedBuffer piece(1u << 20);
  uint64_t at = align_down(end.position, kBlock);
  segment->file()->read(at % identity_.segment_bytes, piece.data(), kBlock);
  std::memset(piece.data() + (end.position - at), 0, piece.size() - (end.position - at));
  while (at < identity_.segment_end(end.position) && !PLANTED(cut_leaves_its_tail)) {
    uint64_t size = std::min<uint64_t>(piece.size(), identity_.segment_end(end.position) - at);
    Slice slice{piece.data(), size};
    segment->file()->write(at % identity_.segment_bytes, &slice, 1, true);
    std::memset(piece.data(), 0, kBlock);
    at += size;
  }
}

Scrubber::Facts Log::facts() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return {{start_position_, start_lsn_, 0}, commit_, flushed_, cuts_};
}

void Log::make_scrubber() {
  Scrubber::Host host;
  host.files = copies_ == nullptr ? files_ : disks_;
  host.copies = [this] { return copies_ == nullptr ? std::vector<size_t>{0} : copies_->all_in(); };
  host.directory = [this](size_t copy) {
    return copies_ == nullptr ? directory_ : copies_->directory(copy);
  };
  host.id = [this](size_t copy) { return copies_ == nullptr ? Id{} : copies_->id(copy); };
  host.source = [this](size_t copy) -> std::shared_ptr<BatchSource> {
    return std::make_shared<DirectorySource>(disks_, copies_->directory(copy), control());
  };
  host.give_up = [this](size_t copy, const std::string& why) { return give_up(copy, why); };
  host.identity = identity_;
  host.segments = segments_.get();
  host.facts = [this] {
    Scrubber::Facts known = facts();
    // Each copy is read by itself, and what it has yet to write is not damage.
    if (copies_ != nullptr) copies_->catch_up();
    return known;
  };
  host.claim = [this](uint64_t position) -> std::function<void()> {
    int claim = retain(position);
    return [this, claim] { release(claim); };
  };
  host.news = progress_;
  scrubber_ = std::make_unique<Scrubber>(std::move(host));
}

void Log::set_commit(uint64_t position, uint64_t lsn) {
  std::lock_guard<std::mutex> guard(mutex_);
  if (position > commit_.position) commit_ = {position, lsn, 0};
}

void Log::trim(uint64_t position) {
  uint64_t limit = position;
  {
    std::lock_guard<std::mutex> guard(mutex_);
    limit = std::min({limit, commit_.position, flushed_.position});
    for (const auto& [claim, kept] : claims_) {
      if (!PLANTED(claim_ignored)) limit = std::min(limit, kept);
    }
  }
  uint64_t number = identity_.segment_of(limit);
  std::shared_ptr<Segment> first = segments_->find(number);
  uint64_t start = number * identity_.segment_bytes + kSegmentHeaderBytes;
  if (first == nullptr || start <= this->start().position) return;
  // Claims made from here on find the new start; those made before were seen above.
  {
    std::lock_guard<std::mutex> guard(mutex_);
    for (const auto& [claim, kept] : claims_) {
      if (kept < start && !PLANTED(claim_ignored)) return;
    }
    start_position_ = start;
    start_lsn_ = first->first_lsn - 1;
  }
  if (PLANTED(trimmed_before_stored)) segments_->recycle_below(number);
  // Stored before a segment goes: a log whose start is not where it was last known is damaged.
  store([&](Control& control) {
    control.start_position = start;
    control.start_lsn = first->first_lsn - 1;
  });
  segments_->recycle_below(number);
  wake_housekeeper();  // somebody may wait for a segment
}

int Log::pin(uint64_t position) {
  for (size_t i = 0; i < kPins; i++) {
    uint64_t unused = UINT64_MAX;
    if (pins_[i].compare_exchange_strong(unused, position)) return static_cast<int>(i);
  }
  throw WalFailure("WAL_UNSUPPORTED", "too many users of the log memory");
}

void Log::move_pin(int pin, uint64_t position) {
  pins_.at(static_cast<size_t>(pin)).store(position, std::memory_order_release);
}

void Log::unpin(int pin) {
  pins_.at(static_cast<size_t>(pin)).store(UINT64_MAX, std::memory_order_release);
}

int Log::retain(uint64_t position) {
  std::lock_guard<std::mutex> guard(mutex_);
  int claim = next_claim_++;
  claims_[claim] = std::max(position, start_position_);
  return claim;
}

void Log::move_retain(int claim, uint64_t position) {
  std::lock_guard<std::mutex> guard(mutex_);
  auto at = claims_.find(claim);
  if (at != claims_.end()) at->second = position;
}

void Log::release(int claim) {
  std::lock_guard<std::mutex> guard(mutex_);
  claims_.erase(claim);
}

}  // namespace walmirror
