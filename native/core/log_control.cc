// Terms, roles, the cut at a fork point, trimming, claims (SAFETY 2, 8). Tasks, unless said
// otherwise.
#include <algorithm>
#include <cstring>

#include "log.h"
#include "planted.h"

namespace walmirror {
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

/// Whether what is committed under it is on a quorum.
static bool waits_for_standbys(const std::optional<Rule>& rule) {
  return rule && rule->level >= CommitLevel::kRemoteWrite && !rule->standbys.empty() &&
         !rule->degraded;
}

/// Before the rule, its term or its commit place changes: what is committed under one in force is
/// on a quorum, and stays known to be, whatever the rule is later.
static void note_quorum(Control& control) {
  if (!waits_for_standbys(control.rule) || control.history.empty()) return;
  const HistoryEntry& opening = control.history.back();
  // The commit place passes the opening when that meets the rule, and all before with it (1.5).
  if (!(opening.term == control.term) || control.commit.position <= opening.position) return;
  if (!PLANTED(quorum_forgotten))
    control.quorum_lsn = std::max(control.quorum_lsn, control.commit.lsn);
}

/// Under such a term, whose opening is not in the log, nobody has acknowledged anything.
static bool is_own_and_never_began(const Control& control) {
  return control.term.incarnation != 0 && control.term.opener == control.node_id &&
         !PLANTED(rule_of_a_term_that_never_began);
}

/// The records of the log's last term are judged by its rule until the log is a part of the new
/// primary's. A term whose opening never reached the log says nothing of the terms before. An epoch
/// that a candidate has not opened changes nothing of what was acknowledged: the next promotion
/// goes by the rule that it finds (3.4).
static void keep_rule(Control& control, const Term& term) {
  if (control.term == term) return;
  bool has_opening = !control.history.empty() && control.history.back().term == control.term;
  if (control.rule_of_earlier_term) {
    // Of a term that was heard of, and whose rule never was: that it was there is not forgotten.
    if (control.term.incarnation != 0 && !PLANTED(untold_rule_forgotten))
      control.rule_untold = !has_opening;
    return;
  }
  if (control.rule && has_opening && !PLANTED(rule_forgotten_with_its_term)) {
    control.rule_of_earlier_term = true;
  } else if (term.incarnation != 0 || is_own_and_never_began(control) ||
             PLANTED(fence_forgets_the_rule)) {
    control.forget_rule();
  }
}

/// Who has stored a term has promised it: what comes late of an older one changes nothing, nor does
/// what another wanted to open, or this node itself, of an epoch that it knows to be opened.
void Log::require_storable(const Term& term) const {
  const Term known = control().term;
  if (term.epoch < known.epoch && !PLANTED(older_term_stored))
    throw WalFailure("WAL_FENCED", "epoch " + std::to_string(known.epoch) + " is stored, epoch " +
                                       std::to_string(term.epoch) + " is below it");
  bool is_of_another = term.epoch == known.epoch && term.opener != known.opener;
  if (is_of_another && known.incarnation != 0 && !PLANTED(epoch_opened_twice))
    throw WalFailure("WAL_FENCED", "epoch " + std::to_string(known.epoch) +
                                       " is stored as opened by another node");
}

/// For the opening of a term, and for the word that it was forced. Throws WAL_NO_SPACE.
void Log::make_room_to_open() {
  size_t terms = std::min<size_t>(history().size() + 1, kMaxHistory);
  uint64_t size = encode_history(History(terms)).size() + kBatchHeaderBytes + kMaxForcedBytes;
  if (room(chain_.position) >= size + identity_.align) return;
  while (segments_->ready() == 0) {
    segments_->prepare(1);
    segments_->want(1);
  }
}

void Log::store_term(const Term& term, const std::optional<Rule>& rule) {
  if (rule) require_fits(*rule);
  require_storable(term);
  wait_until_flushed();
  // First: of a term that cannot begin nothing is stored.
  if (!PLANTED(term_stored_without_room)) make_room_to_open();
  forget_exact();
  store([&](Control& control) {
    if (PLANTED(term_not_stored)) return;
    note_quorum(control);
    control.role = Role::kPrimary;
    control.term = term;
    control.primary_name.clear();
    control.primary_address.clear();
    control.contact_us = 0;
    control.forget_rule();
    control.rule = rule;
  });
  std::lock_guard<std::mutex> guard(mutex_);
  term_ = term;
}

void Log::store_role(Role role, const Term& term, const std::string& primary,
                     const std::string& address) {
  require_storable(term);
  if (role == Role::kStandby) forget_exact();
  if (role != Role::kPrimary && !PLANTED(fenced_still_appends)) appending_ = false;
  store([&](Control& control) {
    note_quorum(control);
    keep_rule(control, term);
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
    // A standby hears late of what is committed; a primary knows.
    if (waits_for_standbys(control.rule) && !waits_for_standbys(rule) &&
        control.role == Role::kStandby) {
      std::lock_guard<std::mutex> guard(mutex_);
      uint64_t last = pending_.empty() ? flushed_.lsn : pending_.back().lsn;
      control.quorum_most_lsn = std::max(control.quorum_most_lsn, last);
    }
    if (control.rule_of_earlier_term) control.forget_rule();
    control.rule = rule;
  });
}

void Log::store_undercut() {
  store([](Control& control) { control.rule_undercut = true; });
}

void Log::end_commits() {
  std::lock_guard<std::mutex> guard(mutex_);
  commit_exact_ = true;
}

/// Others acknowledge from now on, or this node does again.
void Log::forget_exact() {
  std::lock_guard<std::mutex> guard(mutex_);
  commit_exact_ = false;
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
  Control known = control();
  if (how == Cut::kReturning &&
      (known.role == Role::kPrimary || known.term.epoch <= chain_.term.epoch)) {
    throw WalFailure("WAL_NOT_STANDBY", "a newer epoch is stored before its primary is rejoined");
  }
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
  if (end.lsn < quorum_committed() && !PLANTED(quorum_cut)) {
    throw WalFailure("WAL_COMMITTED_LOST", "a cut behind LSN " + std::to_string(end.lsn) +
                                               " would remove what a quorum has committed");
  }
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

/// Last record that a quorum is known to have committed, as of now.
uint64_t Log::quorum_committed() const {
  Control now = control();
  refresh_control(now);
  note_quorum(now);
  return now.quorum_lsn;
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
    commit_exact_ = false;
  }
  // One step: what has a tail is fenced, and what follows has none, whenever the power goes.
  store([&](Control& control) {
    control.cut_under_way = !PLANTED(cut_not_stored);
    control.fork_position = end.position;
    note_rebuild(control, end.lsn + 1, chain_.lsn, how);
    // What is left may be of a term before that.
    if (control.rule_of_earlier_term) control.forget_rule();
    if (how == Cut::kReturning) control.role = Role::kStandby;
  });
  finish_cut(end);
  {
    // Where other threads have attached, the owner may be asked for the end of the log meanwhile.
    std::unique_lock<std::mutex> owning = own();
    chain_ = end;
    received_ = end.position;
    ingesting_ = false;
    ring_valid_from_ = align_down(end.position, kBlock);
    ring_touched_ = 0;
    promised_until_ = 0;
    last_indexed_ = end.position;
  }
  load_tail(end.position, end.position, false);
  store([](Control& control) { control.cut_under_way = false; });
}

void Log::store_rebuilt() {
  store([](Control& control) {
    control.rebuild_from = 0;
    control.rebuild_to = 0;
  });
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
