#include "scrubber.h"

#include <algorithm>

#include "planted.h"

namespace walmirror {

using Clock = std::chrono::steady_clock;

namespace {

/// One read: short, since the device serves the log meanwhile.
constexpr uint64_t kGentleStep = 256u << 10;

bool is_same(const DamagedRange& a, const DamagedRange& b) {
  return a.from == b.from && a.to == b.to && a.file == b.file;
}

/// Whether a file is missing, or of the wrong length.
bool lost_a_file(const Damage& damage) {
  return std::any_of(damage.ranges.begin(), damage.ranges.end(), [](const DamagedRange& range) {
    return range.part == DamagedRange::Part::kSegment || range.part == DamagedRange::Part::kLength;
  });
}

}  // namespace

/// The segments of an open log. A segment is held only while a piece of it is read, so that it can
/// be recycled.
class Scrubber::LiveSegments : public SegmentSource {
 public:
  LiveSegments(const Host& host, size_t copy)
      : host_(host), copy_(copy), directory_(host.directory(copy)) {}

  size_t copy() const { return copy_; }
  const std::string& directory() const { return directory_; }
  bool is_in() const {
    std::vector<size_t> in = host_.copies();
    return std::find(in.begin(), in.end(), copy_) != in.end();
  }

  std::string path(uint64_t number) override {
    std::shared_ptr<Segment> segment = host_.segments->find(number);
    return here(segment != nullptr ? segment->path : host_.segments->describe_missing(number));
  }
  bool holds(uint64_t number) override {
    std::shared_ptr<Segment> segment = host_.segments->find(number);
    return segment != nullptr && host_.files->exists(here(segment->path));
  }
  void read(uint64_t number, uint64_t offset, uint8_t* out, uint64_t size) override {
    std::shared_ptr<Segment> segment = host_.segments->find(number);
    if (segment == nullptr) throw WalFailure("WAL_IO", "the segment is gone");
    Id id = host_.id(copy_);
    // What a copy holds that was dropped is not damage of the log.
    if (!is_in()) throw Scrub::Stopped{};
    // A file of its own, not one that is open already: another one may have the name by now. One
    // that was filled anew has other files.
    bool filled_anew = id != of_ && !PLANTED(scrubbed_after_it_was_removed);
    if (file_ == nullptr || number_ != number || filled_anew) {
      file_ = host_.files->open(here(segment->path), OpenMode::kRead, true);
      number_ = number;
      of_ = id;
    }
    size_t got = file_->read(offset, out, size);
    std::fill(out + got, out + size, uint8_t{0});
  }
  uint64_t last_number() override { return host_.segments->last_number(); }
  void forget_file() { file_.reset(); }

 private:
  /// The same name in the directory of this copy.
  std::string here(const std::string& path) const {
    return directory_ + path.substr(path.rfind('/'));
  }

  const Host& host_;
  size_t copy_;
  std::string directory_;
  std::unique_ptr<File> file_;
  uint64_t number_ = 0;
  Id of_{};
};

void Scrubber::configure(const ScrubSettings& settings) {
  {
    std::lock_guard<std::mutex> guard(mutex_);
    settings_ = settings;
    next_ = Clock::now() + settings.first;
    if (settings.repeat) start_thread();
  }
  wakes_.notify_all();
}

void Scrubber::repair_from(std::shared_ptr<BatchSource> source) {
  std::lock_guard<std::mutex> guard(mutex_);
  if (source_ != nullptr) source_->cancel();
  source_ = std::move(source);
}

uint64_t Scrubber::run_now(bool gentle) {
  uint64_t number;
  {
    std::lock_guard<std::mutex> guard(mutex_);
    asked_ = true;
    if (!gentle) full_speed_ = true;
    // One that runs has passed some of the log already: another follows it.
    number = status_.passes + (status_.running ? 2 : 1);
    start_thread();
  }
  wakes_.notify_all();
  return number;
}

ScrubStatus Scrubber::status() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return status_;
}

void Scrubber::stop() {
  {
    std::lock_guard<std::mutex> guard(mutex_);
    stopping_ = true;
    if (source_ != nullptr) source_->cancel();
  }
  wakes_.notify_all();
  if (thread_.joinable()) thread_.join();
}

/// mutex_ held.
void Scrubber::start_thread() {
  if (!thread_.joinable() && !stopping_) thread_ = std::thread([this] { main(); });
}

void Scrubber::tell() {
  news_.fetch_add(1, std::memory_order_relaxed);
  host_.news();
}

/// False: the log closes.
bool Scrubber::wait_for_work() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    if (stopping_) return false;
    if (asked_ || (settings_.repeat && Clock::now() >= next_)) break;
    if (settings_.repeat) {
      wakes_.wait_until(lock, next_);
    } else {
      wakes_.wait(lock);
    }
  }
  asked_ = false;
  status_.running = true;
  status_.done = status_.of = 0;
  this_pass_.clear();
  return true;
}

void Scrubber::main() {
  while (wait_for_work()) {
    std::string reason;
    bool ended = true;
    try {
      pass();
    } catch (const Scrub::Stopped&) {
      ended = false;
    } catch (WalFailure& failure) {
      // Nothing of this is final for the log.
      ended = false;
      reason.swap(failure.message);
    } catch (const std::bad_alloc&) {
      ended = false;
      reason = "out of memory";  // as short as a string's own memory
    }
    {
      std::lock_guard<std::mutex> guard(mutex_);
      status_.running = false;
      status_.passes++;
      if (!asked_) full_speed_ = false;
      next_ = Clock::now() + settings_.every;
      if (!reason.empty()) status_.reason.swap(reason);
      if (ended) {
        auto now = std::chrono::system_clock::now().time_since_epoch();
        status_.finished_ms = static_cast<uint64_t>(
            std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
        status_.damage.swap(this_pass_);  // which takes no memory
        status_.damaged_ranges = status_.damage.size();
        if (status_.damage.empty()) status_.reason.clear();
      }
      if (stopping_) return;
    }
    tell();
  }
}

/// Waits as long as the rate asks for. False: stop.
bool Scrubber::pace(uint64_t position, uint64_t bytes) {
  uint64_t start = host_.facts().start.position;
  std::unique_lock<std::mutex> lock(mutex_);
  uint64_t each = status_.of / copies_;
  status_.done = nth_ * each + (position > start ? std::min(position - start, each) : 0);
  if (settings_.bytes_per_second > 0 && !full_speed_) {
    auto now = Clock::now();
    auto cost = std::chrono::duration<double>(static_cast<double>(bytes) /
                                              static_cast<double>(settings_.bytes_per_second));
    paced_to_ = std::max(paced_to_, now) + std::chrono::duration_cast<Clock::duration>(cost);
    wakes_.wait_until(lock, paced_to_, [this] { return stopping_ || full_speed_; });
  }
  return !stopping_;
}

void Scrubber::pass() {
  auto step = [this](uint64_t position, uint64_t bytes) { return pace(position, bytes); };
  std::vector<size_t> copies = host_.copies();
  copies_ = copies.size();
  for (nth_ = 0; nth_ < copies_; nth_++) {
    LiveSegments segments(host_, copies[nth_]);
    Scrub scrub(host_.identity, segments, step, kGentleStep);
    try {
      walk(scrub, segments);
    } catch (const Scrub::Stopped&) {
      if (segments.is_in()) throw;
    }
  }
}

void Scrubber::walk(Scrub& scrub, LiveSegments& segments) {
  const LogIdentity& identity = host_.identity;
  std::optional<uint64_t> cuts;
  for (;;) {
    Facts facts = host_.facts();
    uint64_t sealed = identity.segment_start(facts.flushed.position);
    {
      std::lock_guard<std::mutex> guard(mutex_);
      status_.of = (sealed > facts.start.position ? sealed - facts.start.position : 0) * copies_;
    }
    // Trimmed or cut meanwhile: what was read may have been no part of the log any more.
    if (!cuts || *cuts != facts.cuts || scrub.chain().position < facts.start.position) {
      Chain from;
      from.position = std::max(cuts ? identity.segment_start(scrub.chain().position) : 0,
                               identity.segment_start(facts.start.position)) +
                      kSegmentHeaderBytes;
      from.lsn = facts.start.lsn;
      scrub.start(from, from.position == kFirstBatch);
      scrub.damage().clear();
      segments.forget_file();
      cuts = facts.cuts;
    }
    if (scrub.chain().position >= sealed) break;
    scrub.segment(UINT64_MAX);
    if (host_.facts().cuts != *cuts) continue;
    if (!scrub.at_damage()) found(scrub.damage(), segments);
  }
  // The header of the segment that is written to: it is flushed with the first batch.
  uint64_t next = identity.segment_of(scrub.chain().position);
  if (host_.facts().flushed.position > scrub.chain().position && segments.holds(next))
    scrub.header();
  scrub.finish();
  if (host_.facts().cuts == *cuts) found(scrub.damage(), segments);
}

void Scrubber::found(std::vector<Damage>& damage, LiveSegments& segments) {
  for (const Damage& each : damage) {
    uint64_t start = host_.facts().start.position;
    // Trimmed: it is nobody's any more.
    if (each.ranges.back().to <= start - kSegmentHeaderBytes) continue;
    bool fresh = false;
    {
      std::lock_guard<std::mutex> guard(mutex_);
      for (const DamagedRange& range : each.ranges) {
        bool known = std::any_of(status_.damage.begin(), status_.damage.end(),
                                 [&](const auto& other) { return is_same(other, range); });
        if (known) continue;
        fresh = true;
        status_.found++;
        status_.damaged_ranges++;
        if (status_.damage.size() < kMostListed) status_.damage.push_back(range);
      }
    }
    if (fresh) tell();
    if (repair(each, segments)) {
      tell();
      continue;
    }
    std::lock_guard<std::mutex> guard(mutex_);
    for (const DamagedRange& range : each.ranges) {
      if (this_pass_.size() < kMostListed) this_pass_.push_back(range);
    }
  }
  damage.clear();
}

/// In place from another copy, or from a peer; where a whole file is lost, by filling the copy
/// anew.
Scrubber::Mended Scrubber::repair_copy(const Damage& damage, LiveSegments& segments,
                                       std::string& why) {
  std::vector<size_t> copies = host_.copies();
  if (!segments.is_in()) return Mended::kFilledAnew;
  bool alone = copies.size() == 1;
  std::vector<std::shared_ptr<BatchSource>> sources;
  if (alone || !lost_a_file(damage)) {
    for (size_t other : copies) {
      if (other != segments.copy()) sources.push_back(host_.source(other));
    }
    std::lock_guard<std::mutex> guard(mutex_);
    if (source_ != nullptr || alone) sources.push_back(source_);
  }
  Facts facts = host_.facts();
  RepairTarget target;
  target.files = host_.files;
  target.directory = segments.directory();
  target.identity = host_.identity;
  target.segments = &segments;
  target.durable =
      std::min(host_.identity.segment_start(facts.flushed.position), facts.commit.position);
  for (const std::shared_ptr<BatchSource>& source : sources) {
    bool repaired = false;
    try {
      repaired = Repairer(target, source.get()).repair(damage, why);
    } catch (const WalFailure& failure) {
      why = failure.what();
    }
    segments.forget_file();
    if (!repaired) continue;
    // The log would go on writing to a file that has no name any more.
    if (lost_a_file(damage)) {
      uint64_t last = host_.identity.segment_of(damage.ranges.back().to - 1);
      for (uint64_t n = host_.identity.segment_of(damage.ranges.front().from); n <= last; n++)
        host_.segments->file_replaced(n);
    }
    return Mended::kRepaired;
  }
  if (alone || !lost_a_file(damage)) return Mended::kNot;
  const DamagedRange& first = damage.ranges.front();
  bool given_up = host_.give_up(segments.copy(), first.file + ": " + first.reason);
  return given_up ? Mended::kFilledAnew : Mended::kNot;
}

bool Scrubber::hold_repairs() {
  std::lock_guard<std::mutex> guard(mutex_);
  if (!repairing_) held_ = true;
  return held_;
}

void Scrubber::resume_repairs() {
  std::lock_guard<std::mutex> guard(mutex_);
  held_ = false;
}

bool Scrubber::begin_repair() {
  std::lock_guard<std::mutex> guard(mutex_);
  if (held_) {
    status_.reason = "the log is being cut";
    return false;
  }
  repairing_ = true;
  return true;
}

void Scrubber::end_repair() {
  std::lock_guard<std::mutex> guard(mutex_);
  repairing_ = false;
}

bool Scrubber::repair(const Damage& damage, LiveSegments& segments) {
  // What is below the commit position is looked up after that: no cut moves it meanwhile.
  if (!begin_repair()) return false;
  std::shared_ptr<void> over(nullptr, [this](void*) { end_repair(); });
  uint64_t from = damage.ranges.front().from;
  std::function<void()> release = host_.claim(from);
  std::shared_ptr<void> let_go(nullptr, [&](void*) { release(); });
  Facts facts = host_.facts();
  std::string why;
  Mended mended = Mended::kNot;
  if (from + kSegmentHeaderBytes < facts.start.position) return true;  // it was trimmed
  if (damage.ranges.back().to > facts.commit.position) {
    why = "only what is committed is repaired while the log is open";
  } else {
    mended = repair_copy(damage, segments, why);
  }
  std::lock_guard<std::mutex> guard(mutex_);
  if (mended == Mended::kNot) {
    status_.reason = why;
    return false;
  }
  if (mended == Mended::kRepaired) status_.repaired += damage.ranges.size();
  std::erase_if(status_.damage, [&](const DamagedRange& known) {
    return std::any_of(damage.ranges.begin(), damage.ranges.end(),
                       [&](const auto& range) { return is_same(known, range); });
  });
  status_.damaged_ranges = status_.damage.size();
  return true;
}

}  // namespace walmirror
