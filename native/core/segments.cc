#include "segments.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "advice.h"
#include "planted.h"

namespace walmirror {
namespace {

/// Spares kept for reuse; more are removed, so that trimming gives space back.
constexpr size_t kMostSpares = 8;
/// Zeros written to a spare in one step: short, since a roll may wait for it.
constexpr uint64_t kZeroStep = 1u << 20;

bool ends_with(const std::string& text, const char* end) {
  size_t size = std::strlen(end);
  return text.size() >= size && text.compare(text.size() - size, size, end) == 0;
}

}  // namespace

Segments::Segments(std::shared_ptr<FileSystem> files, std::string directory, LogIdentity identity,
                   bool read_only)
    : files_(std::move(files)),
      open_files_(
          std::make_shared<OpenFiles>(files_, read_only ? OpenMode::kRead : OpenMode::kReadWrite)),
      directory_(std::move(directory)),
      identity_(identity),
      read_only_(read_only) {}

std::string Segments::name_of(uint64_t number, uint64_t first_lsn) const {
  char name[48];
  std::snprintf(name, sizeof name, "%016" PRIx64 "-%016" PRIx64 ".wal", first_lsn,
                number * identity_.segment_bytes);
  return name;
}

std::string Segments::next_spare_path() {
  char name[32];
  std::snprintf(name, sizeof name, "/%016" PRIx64 ".spare", ++spare_names_);
  return directory_ + name;
}

void Segments::load(uint64_t start) {
  std::unique_lock<std::mutex> lock(mutex_);
  segments_.clear();
  unreadable_.clear();
  for (const std::string& name : files_->list(directory_)) {
    // What a filling, a repair or a cut has left that was cut short.
    bool left = ends_with(name, ".wal.new") || ends_with(name, ".diverged.new");
    if (!read_only_ && left) files_->remove(directory_ + "/" + name);
    if (ends_with(name, ".spare")) {
      uint64_t number = std::strtoull(name.c_str(), nullptr, 16);
      spare_names_ = std::max(spare_names_, number);
    }
  }
  for (const std::string& name : files_->list(directory_)) {
    if (!ends_with(name, ".wal") && !ends_with(name, ".spare")) continue;
    std::shared_ptr<Segment> segment = load_file(name, start);
    if (segment == nullptr) continue;
    auto [at, fresh] = segments_.emplace(segment->number, segment);
    if (!fresh && !PLANTED(doubled_segment_accepted)) {
      throw WalFailure("WAL_CORRUPT", segment->path + " and " + at->second->path +
                                          " claim the same place in the log")
          .at(segment->path, 0, segment->first_lsn)
          .advise(kMoveWrongAway);
    }
  }
  if (read_only_) return;
  bool renamed = false;
  for (auto& [number, segment] : segments_) {
    std::string path = directory_ + "/" + name_of(number, segment->first_lsn);
    if (path == segment->path) continue;
    bool replaceable = std::find(unreadable_.begin(), unreadable_.end(), path) != unreadable_.end();
    // Names were exchanged by hand: what the headers say holds.
    if (files_->exists(path) && !replaceable) continue;
    files_->rename(segment->path, path);  // a rename that a power loss undid
    // It replaced what had no header under that name: that is not to be removed any more.
    unreadable_.erase(std::remove(unreadable_.begin(), unreadable_.end(), path), unreadable_.end());
    segment->path = path;
    renamed = true;
  }
  if (renamed) files_->sync_directory(directory_);
  lock.unlock();
  hold_last();
}

void Segments::hold_last() {
  std::shared_ptr<Segment> last = last_segment();
  hold(last == nullptr ? nullptr : last->file());
}

void Segments::hold(std::shared_ptr<File> file) {
  std::lock_guard<std::mutex> guard(mutex_);
  written_to_.swap(file);  // what was held is closed without the lock
}

std::shared_ptr<Segment> Segments::last_segment() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return segments_.empty() ? nullptr : segments_.rbegin()->second;
}

void Segments::forget(uint64_t number) {
  std::lock_guard<std::mutex> guard(mutex_);
  segments_.erase(number);
  index_.erase(number);
}

std::shared_ptr<Segment> Segments::load_file(const std::string& name, uint64_t start) {
  std::string path = directory_ + "/" + name;
  std::weak_ptr<File> open;
  std::shared_ptr<File> file = open_files_->get(path, open);
  if (!file->direct()) direct_ = false;
  bool spare = ends_with(name, ".spare");
  AlignedBuffer block(kSegmentHeaderBytes);
  std::memset(block.data(), 0, kSegmentHeaderBytes);
  file->read(0, block.data(), kSegmentHeaderBytes);
  const char* reason;
  SegmentHeader header;
  std::memcpy(&header, block.data(), sizeof header);
  bool valid = check_segment_header(block.data(), &reason);
  if (valid && (header.log_id != identity_.log_id || header.salt != identity_.salt ||
                header.segment_bytes != identity_.segment_bytes ||
                header.start % identity_.segment_bytes != 0)) {
    if (!spare && !PLANTED(foreign_segment_reused))
      throw WalFailure("WAL_CORRUPT", path + " belongs to another log")
          .at(path, 0, 0)
          .advise(kMoveAway);
    valid = false;
  }
  uint64_t size = file->size();
  bool kept = valid && header.start + identity_.segment_bytes > start;
  // Without a header too: a crash leaves a segment's file whole, since it was whole as a spare.
  if (size != identity_.segment_bytes && !PLANTED(cut_segment_accepted) &&
      (kept || (!valid && !spare))) {
    throw WalFailure("WAL_CORRUPT", path + " is not as long as a segment: it was cut, or grew")
        .at(path, size, 0);
  }
  if (kept) {
    auto segment = std::make_shared<Segment>();
    segment->number = header.start / identity_.segment_bytes;
    segment->first_lsn = header.first_lsn;
    segment->prev_crc = header.prev_crc;
    segment->path = path;
    segment->files = open_files_;
    segment->open = open;
    return segment;
  }
  // Whether it is missed, recovery finds out by number (SAFETY 6.4); until then it stays as it is.
  if (!spare && !valid) unreadable_.push_back(path);
  if (PLANTED(unreadable_segment_removed) && !read_only_ && !spare && !valid) files_->remove(path);
  if (read_only_ || (!spare && !valid)) return nullptr;
  // Left over from trimming, or from a crash before its first flush.
  bool enough = spares_.size() >= kMostSpares;
  if (spare && size == identity_.segment_bytes && !enough) {
    // Whoever made it may have been killed before its size was flushed. It has to be before the
    // file is a segment, since a segment that is shorter counts as cut. One that cannot be is not
    // used.
    if (!valid && !PLANTED(spare_not_flushed)) {
      try {
        file->sync();
      } catch (const WalFailure&) {
        return nullptr;
      }
    }
    keep_as_spare(path, std::move(file), valid ? size : 0);
  } else if (spare || enough) {
    files_->remove(path);
  } else {
    std::string spare_path = next_spare_path();
    files_->rename(path, spare_path);
    keep_as_spare(spare_path, std::move(file), size);
  }
  return nullptr;
}

void Segments::keep_as_spare(std::string path, std::shared_ptr<File> file, uint64_t written) {
  auto spare = std::make_shared<Spare>();
  spare->path = std::move(path);
  spare->file = std::move(file);
  spare->written = written;
  spares_.push_back(std::move(spare));
  count_ready();
  spares_kept_.fetch_add(1, std::memory_order_release);
}

void Segments::count_ready() {
  size_t ready = spares_.size() > promised_ ? spares_.size() - promised_ : 0;
  ready_.store(ready, std::memory_order_release);
}

void Segments::reclaim_unreadable() {
  std::lock_guard<std::mutex> guard(mutex_);
  for (const std::string& path : unreadable_) files_->remove(path);
  unreadable_.clear();
}

std::vector<std::shared_ptr<Segment>> Segments::unreadable(uint64_t number) const {
  std::lock_guard<std::mutex> guard(mutex_);
  std::vector<std::shared_ptr<Segment>> found;
  for (const std::string& path : unreadable_) {
    auto segment = std::make_shared<Segment>();
    segment->number = number;
    segment->path = path;
    segment->files = open_files_;
    found.push_back(std::move(segment));
  }
  return found;
}

void Segments::sync_names() { files_->sync_directory(directory_); }

std::string Segments::describe_missing(uint64_t number) const {
  std::lock_guard<std::mutex> guard(mutex_);
  char end[32];
  std::snprintf(end, sizeof end, "-%016" PRIx64 ".wal", number * identity_.segment_bytes);
  for (const std::string& path : unreadable_) {
    if (ends_with(path, end)) return path;
  }
  return directory_ + "/*" + end;
}

std::shared_ptr<Segment> Segments::find(uint64_t number) const {
  std::lock_guard<std::mutex> guard(mutex_);
  auto at = segments_.find(number);
  return at == segments_.end() ? nullptr : at->second;
}

std::shared_ptr<Segment> Segments::find_lsn(uint64_t lsn) const {
  std::lock_guard<std::mutex> guard(mutex_);
  // First LSNs never fall along the segments; one without records shares its first LSN with the
  // next.
  std::shared_ptr<Segment> found;
  auto at = std::partition_point(segments_.begin(), segments_.end(), [lsn](const auto& entry) {
    return entry.second->first_lsn <= lsn;
  });
  if (at != segments_.begin()) found = std::prev(at)->second;
  return found;
}

uint64_t Segments::last_number() const {
  std::shared_ptr<Segment> last = last_segment();
  return last == nullptr ? 0 : last->number;
}

size_t Segments::count() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return segments_.size();
}

size_t Segments::spare_count() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return spares_.size();
}

bool Segments::want(size_t count) {
  if (ready() >= count) return true;
  std::lock_guard<std::mutex> guard(mutex_);
  if (ready() >= count) return true;
  wanted_ = std::max(wanted_.load(), count);
  if (no_space_)
    throw WalFailure("WAL_NO_SPACE", "no space for another segment: " + no_space_reason_);
  return false;
}

bool Segments::promise() {
  if (!want(1)) return false;
  std::lock_guard<std::mutex> guard(mutex_);
  promised_++;
  count_ready();
  return true;
}

bool Segments::wanted() const { return wanted_ > 0; }

bool Segments::lacks(size_t target) const {
  std::lock_guard<std::mutex> guard(mutex_);
  if (spares_.size() < target) return true;
  return std::any_of(spares_.begin(), spares_.end(), [this](const auto& spare) {
    return !spare->unfillable && spare->written < identity_.segment_bytes &&
           spare->former.expired();
  });
}

std::shared_ptr<Spare> Segments::pick_spare(std::unique_lock<std::mutex>& lock) {
  for (;;) {
    auto best = spares_.end();
    for (auto at = spares_.begin(); at != spares_.end(); ++at) {
      // Somebody reads the former segment: not before they let go.
      if ((*at)->busy || !(*at)->former.expired()) continue;
      if (best == spares_.end() || (*at)->written > (*best)->written) best = at;
    }
    if (best != spares_.end()) {
      std::shared_ptr<Spare> spare = *best;
      spares_.erase(best);
      return spare;
    }
    if (not_busy_.wait_for(lock, std::chrono::milliseconds(1)) == std::cv_status::timeout &&
        spares_.empty()) {
      return nullptr;
    }
  }
}

std::shared_ptr<Segment> Segments::activate(const SegmentHeader& header) {
  std::shared_ptr<Spare> spare = take_spare();
  auto segment = std::make_shared<Segment>();
  segment->number = header.start / identity_.segment_bytes;
  segment->first_lsn = header.first_lsn;
  segment->prev_crc = header.prev_crc;
  segment->path = directory_ + "/" + name_of(segment->number, header.first_lsn);
  segment->files = open_files_;
  segment->open = spare->file;
  hold(std::move(spare->file));
  // Not followed by a flush of the directory: the header says what the file is, whatever its name
  // (format.md).
  files_->rename(spare->path, segment->path);
  std::lock_guard<std::mutex> guard(mutex_);
  segments_[segment->number] = segment;
  return segment;
}

std::shared_ptr<Spare> Segments::take_spare() {
  std::unique_lock<std::mutex> lock(mutex_);
  std::shared_ptr<Spare> spare = pick_spare(lock);
  if (spare == nullptr) throw WalFailure("WAL_IO", "no segment was prepared for the roll");
  if (promised_ > 0) promised_--;
  count_ready();
  return spare;
}

bool Segments::prepare(size_t target) {
  std::unique_lock<std::mutex> lock(mutex_);
  target = std::max(target, wanted_ > 0 ? promised_ + wanted_ : 0);
  if (spares_.size() < target) {
    std::string path = next_spare_path();
    lock.unlock();
    std::shared_ptr<File> file;
    try {
      file = files_->open(path, OpenMode::kCreate, true);
      file->allocate(identity_.segment_bytes);
      file->sync();
      if (!PLANTED(name_not_flushed)) files_->sync_directory(directory_);
    } catch (const WalFailure& failure) {
      if (file != nullptr) files_->remove(path);
      if (failure.code != "WAL_NO_SPACE") throw;
      lock.lock();
      no_space_ = true;
      no_space_reason_ = failure.what();
      // Whoever wanted more is told so; one at a time shows whether there is space again.
      wanted_ = std::min(wanted_.load(), ready() + 1);
      return false;
    }
    lock.lock();
    keep_as_spare(path, std::move(file), 0);
    no_space_ = false;
    if (ready() >= wanted_) wanted_ = 0;
    return true;
  }
  wanted_ = 0;
  no_space_ = false;
  for (auto& spare : spares_) {
    if (spare->unfillable || spare->written >= identity_.segment_bytes || !spare->former.expired())
      continue;
    // Never freed: a thread may still be writing it while the process ends.
    static const auto& zeros = *new AlignedBuffer(AlignedBuffer::zeroed(kZeroStep));
    spare->busy = true;
    auto chosen = spare;
    lock.unlock();
    uint64_t size = std::min(kZeroStep, identity_.segment_bytes - chosen->written);
    Slice slice{zeros.data(), size};
    try {
      chosen->file->write(chosen->written, &slice, 1, false);
      // One flush for all: each would commit the file system's journal. Data never relies on it.
      if (chosen->written + size == identity_.segment_bytes) chosen->file->sync();
    } catch (const WalFailure& failure) {
      lock.lock();
      chosen->busy = false;
      not_busy_.notify_all();
      if (failure.code != "WAL_NO_SPACE") throw;
      chosen->unfillable = true;
      return true;
    }
    lock.lock();
    chosen->written += size;
    chosen->busy = false;
    not_busy_.notify_all();
    return true;
  }
  return false;
}

void Segments::recycle_below(uint64_t number) {
  for (;;) {
    std::shared_ptr<Segment> segment;
    std::string path;  // as a spare; empty: there are enough
    {
      std::lock_guard<std::mutex> guard(mutex_);
      if (segments_.empty() || segments_.begin()->first >= number) return;
      segment = segments_.begin()->second;
      if (spares_.size() < std::max(kMostSpares, promised_ + wanted_)) path = next_spare_path();
    }
    // Opened before its name changes. Whoever still reads the segment finds it open.
    std::shared_ptr<File> file = path.empty() ? nullptr : segment->file();
    forget(segment->number);
    if (path.empty()) {
      files_->remove(segment->path);
      continue;
    }
    files_->rename(segment->path, path);
    std::lock_guard<std::mutex> guard(mutex_);
    keep_as_spare(path, std::move(file), identity_.segment_bytes);
    spares_.back()->former = segment;
  }
}

void Segments::drop_after(uint64_t position) {
  bool removed = false;
  uint64_t last = identity_.segment_of(position);
  AlignedBuffer zeros(kSegmentHeaderBytes);
  std::memset(zeros.data(), 0, kSegmentHeaderBytes);
  for (;;) {
    std::shared_ptr<Segment> segment = last_segment();
    if (segment == nullptr || segment->number <= last) break;
    Slice slice{zeros.data(), kSegmentHeaderBytes};
    segment->file()->write(0, &slice, 1, true);
    forget(segment->number);
    files_->remove(segment->path);
    removed = true;
  }
  // Before the cut is called done: a file that comes back without its header looks like a damaged
  // one.
  if (removed) files_->sync_directory(directory_);
  hold_last();
}

void Segments::file_replaced(uint64_t number) {
  std::lock_guard<std::mutex> guard(mutex_);
  auto at = segments_.find(number);
  if (at != segments_.end()) open_files_->forget(at->second->open);
}

void Segments::close_files() {
  std::lock_guard<std::mutex> guard(mutex_);
  open_files_->close();
  written_to_.reset();
  for (auto& spare : spares_) spare->file.reset();
}

void Segments::note_batch(const IndexEntry& entry) {
  constexpr uint64_t kSpacing = 256u << 10;
  std::lock_guard<std::mutex> guard(mutex_);
  auto& entries = index_[identity_.segment_of(entry.position)];
  if (entries.empty() || entry.position >= entries.back().position + kSpacing)
    entries.push_back(entry);
}

IndexEntry Segments::nearest(const Segment& segment, uint64_t value,
                             uint64_t IndexEntry::*by) const {
  std::lock_guard<std::mutex> guard(mutex_);
  IndexEntry nearest{segment.number * identity_.segment_bytes + kSegmentHeaderBytes,
                     segment.first_lsn - 1};
  auto at = index_.find(segment.number);
  if (at == index_.end()) return nearest;
  for (const IndexEntry& entry : at->second) {
    if (entry.*by < value) nearest = entry;
  }
  return nearest;
}

std::optional<IndexEntry> Segments::last_before(uint64_t value, uint64_t IndexEntry::*by,
                                                uint64_t floor) const {
  std::lock_guard<std::mutex> guard(mutex_);
  for (auto at = index_.rbegin(); at != index_.rend(); ++at) {
    const auto& entries = at->second;
    auto next = std::partition_point(entries.begin(), entries.end(),
                                     [&](const IndexEntry& entry) { return entry.*by < value; });
    if (next == entries.begin()) continue;
    if (std::prev(next)->position < floor) return std::nullopt;
    return *std::prev(next);
  }
  return std::nullopt;
}

void Segments::forget_index_from(uint64_t position) {
  std::lock_guard<std::mutex> guard(mutex_);
  for (auto at = index_.lower_bound(identity_.segment_of(position)); at != index_.end(); ++at) {
    auto& entries = at->second;
    entries.erase(
        std::remove_if(entries.begin(), entries.end(),
                       [position](const IndexEntry& entry) { return entry.position >= position; }),
        entries.end());
  }
}

}  // namespace walmirror
