#include "copy_filler.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "planted.h"
#include "walker.h"

namespace walmirror {
namespace {

constexpr uint64_t kFillStep = 1u << 20;
constexpr const char* kAside = ".new";
constexpr const char* kSegmentAside = ".wal.new";

bool is_segment_file(const std::string& name) {
  return name.ends_with(".wal") || name.ends_with(".spare");
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

CopyFiller::CopyFiller(FileSystem& source_files, std::string from, const Segments& source,
                       const LogIdentity& identity, FileSystem& target_files, std::string to)
    : source_files_(source_files),
      from_(std::move(from)),
      source_(source),
      identity_(identity),
      files_(target_files),
      to_(std::move(to)),
      buffer_(kFillStep) {}

void CopyFiller::keep_proofs_true(const Id& framer, uint64_t durable) {
  framer_ = framer;
  durable_ = durable;
}

void CopyFiller::write_aside() {
  aside_ = !PLANTED(filled_in_place);
  if (!PLANTED(left_over_kept)) remove_left_over();
}

/// What a filling has left that was cut short: it takes room that the next one may need.
void CopyFiller::remove_left_over() {
  for (const std::string& name : files_.list(to_)) {
    if (name.ends_with(kSegmentAside)) files_.remove(to_ + "/" + name);
  }
}

void CopyFiller::abandon() {
  file_.reset();
  if (unpublished_.empty()) return;
  try {
    files_.remove(unpublished_ + kAside);
  } catch (...) {
    // The disk may be what failed. The next filling, and the next opening, try again.
  }
}

template <typename Call>
auto CopyFiller::from_source(Call call) {
  source_failed_ = true;  // unless it returns
  auto result = call();
  source_failed_ = false;
  return result;
}

/// Opened without O_DIRECT: what verifies begins and ends anywhere.
File& CopyFiller::file_of(uint64_t position) {
  uint64_t number = identity_.segment_of(position);
  if (file_ != nullptr && number_ == number) return *file_;
  sync();
  if (number_ != number) publish();
  std::shared_ptr<Segment> segment = from_source([&] {
    std::shared_ptr<Segment> found = source_.find(number);
    if (found == nullptr)
      throw WalFailure("WAL_LSN_GONE", "position " + std::to_string(position) + " is not kept");
    return found;
  });
  std::string path = to_ + "/" + source_.name_of(number, segment->first_lsn);
  if (aside_) unpublished_ = path;
  file_ = files_.open(aside_ ? path + kAside : path, OpenMode::kCreate, false);
  number_ = number;
  if (file_->size() != identity_.segment_bytes) file_->allocate(identity_.segment_bytes);
  return *file_;
}

void CopyFiller::sync() {
  if (file_ == nullptr) return;
  file_->sync();
  file_.reset();
}

void CopyFiller::publish() {
  if (unpublished_.empty()) return;
  sync();
  files_.rename(unpublished_ + kAside, unpublished_);
  files_.sync_directory(to_);
  unpublished_.clear();
}

/// The header follows from the log.
void CopyFiller::write_header(const Segment& segment) {
  uint64_t start = segment.number * identity_.segment_bytes;
  uint8_t header[kSegmentHeaderBytes];
  make_segment_header(identity_, start, segment.first_lsn - 1, segment.prev_crc, header);
  Slice slice{header, sizeof header};
  file_of(start).write(0, &slice, 1, false);
}

void CopyFiller::write(uint64_t at, const uint8_t* bytes, uint64_t size) {
  if (size == 0) return;
  Slice slice{bytes, size};
  file_of(at).write(at % identity_.segment_bytes, &slice, 1, false);
}

bool CopyFiller::proves_too_much(const BatchHeader& batch) const {
  return batch.watermark > durable_ && !PLANTED(proof_before_what_it_proves) &&
         is_framed_by(framer_, batch);
}

/// Of one segment, and verified.
void CopyFiller::write_batches(uint64_t at, const uint8_t* bytes, uint64_t size) {
  uint64_t written = 0;
  BatchHeader batch;
  for (uint64_t begin = 0; begin < size; begin += batch.length) {
    std::memcpy(&batch, bytes + begin, sizeof batch);
    if (proves_too_much(batch)) {
      write(at + written, bytes + written, begin - written);
      written = begin;
      file_of(at).sync();
      durable_ = at + begin;
    }
    if (is_filler(batch)) break;  // zeros follow
  }
  write(at + written, bytes + written, size - written);
}

void CopyFiller::copy(uint64_t begin, uint64_t end) {
  for (uint64_t at = begin; at < end;) {
    if (at % identity_.segment_bytes == kSegmentHeaderBytes) {
      if (std::shared_ptr<Segment> segment = source_.find(identity_.segment_of(at)))
        write_header(*segment);
    }
    ReadOutcome read = from_source([&] {
      ReadOutcome found = read_segment(identity_, source_, buffer_.data(), buffer_.size(), at, end);
      if (found.length == 0 && found.need <= buffer_.size())
        throw WalFailure("WAL_CORRUPT", "no batch at position " + std::to_string(at));
      return found;
    });
    if (read.length == 0) {
      buffer_.reserve(read.need);
      continue;
    }
    if (piece_) piece_(read.length);
    uint64_t size = std::min(read.next, identity_.segment_end(at)) - at;
    write_batches(at, buffer_.data() + read.offset, size);
    at = read.next;
  }
  // After a filler the place is that of the next segment's first batch: its header is written too.
  std::shared_ptr<Segment> last = source_.find(identity_.segment_of(end));
  if (end % identity_.segment_bytes == kSegmentHeaderBytes && last != nullptr) write_header(*last);
  sync();
  files_.sync_directory(to_);
}

void CopyFiller::clear_after(uint64_t end) {
  if (source_.find(identity_.segment_of(end)) == nullptr) return;
  static const auto& zeros = *new AlignedBuffer(AlignedBuffer::zeroed(kFillStep));
  uint64_t last = identity_.segment_end(end);
  for (uint64_t at = end; at < last;) {
    uint64_t size = std::min(kFillStep, last - at);
    if (piece_) piece_(size);
    Slice slice{zeros.data(), size};
    file_of(end).write(at % identity_.segment_bytes, &slice, 1, false);
    at += size;
  }
  sync();
}

bool CopyFiller::is_below(const std::string& name, uint64_t start) const {
  // As Segments names them: first LSN, position.
  constexpr size_t kPosition = 17;
  return name.ends_with(".wal") && name.size() > kPosition &&
         std::strtoull(name.c_str() + kPosition, nullptr, 16) < identity_.segment_start(start);
}

/// As in a cut: what it holds must not come back as a part of the log.
void CopyFiller::remove_segment(const std::string& name) {
  uint8_t zeros[kSegmentHeaderBytes] = {};
  Slice slice{zeros, sizeof zeros};
  files_.open(to_ + "/" + name, OpenMode::kReadWrite, false)->write(0, &slice, 1, true);
  files_.remove(to_ + "/" + name);
}

void CopyFiller::remove_below() {
  // What the others had then, a trim may be about to take away from all.
  for (const std::string& name : files_.list(to_)) {
    if (is_below(name, start_) && !contains(matched_, name)) remove_segment(name);
  }
}

void CopyFiller::match_files(uint64_t start) {
  start_ = start;
  matched_ = from_source([&] { return source_files_.list(from_); });
  const std::vector<std::string>& wanted = matched_;
  std::vector<std::string> found = files_.list(to_);
  bool changed = false;
  for (const std::string& name : found) {
    if (!is_segment_file(name) || contains(wanted, name)) continue;
    if (is_below(name, start) && !PLANTED(removed_before_the_copy_is_in)) continue;
    remove_segment(name);
    changed = true;
  }
  for (const std::string& name : wanted) {
    if (name.ends_with(".diverged") && !contains(found, name)) {
      copy_aside(name);
      changed = true;
    }
    if (!name.ends_with(".spare")) continue;
    std::unique_ptr<File> file = files_.open(to_ + "/" + name, OpenMode::kCreate, false);
    if (file->size() == identity_.segment_bytes) continue;
    file->allocate(identity_.segment_bytes);
    file->sync();
    changed = true;
  }
  if (changed) files_.sync_directory(to_);
}

void CopyFiller::copy_aside(const std::string& name) {
  std::unique_ptr<File> source =
      from_source([&] { return source_files_.open(from_ + "/" + name, OpenMode::kRead, false); });
  std::string fresh = to_ + "/" + name + ".new";
  files_.remove(fresh);
  std::unique_ptr<File> target = files_.open(fresh, OpenMode::kCreate, false);
  for (uint64_t at = 0;;) {
    uint64_t part = from_source([&] { return source->read(at, buffer_.data(), kFillStep); });
    if (part == 0) break;
    if (piece_) piece_(part);
    Slice slice{buffer_.data(), part};
    target->write(at, &slice, 1, false);
    at += part;
  }
  target->sync();
  files_.rename(fresh, to_ + "/" + name);
}

}  // namespace walmirror
