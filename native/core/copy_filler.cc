#include "copy_filler.h"

#include <algorithm>
#include <cstring>

#include "walker.h"

namespace walmirror {
namespace {

constexpr uint64_t kPiece = 1u << 20;

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
      buffer_(kPiece) {}

/// Opened without O_DIRECT: what verifies begins and ends anywhere.
File& CopyFiller::file_of(uint64_t position) {
  uint64_t number = identity_.segment_of(position);
  if (file_ != nullptr && number_ == number) return *file_;
  sync();
  std::shared_ptr<Segment> segment = source_.find(number);
  if (segment == nullptr)
    throw WalFailure("WAL_LSN_GONE", "position " + std::to_string(position) + " is not kept");
  std::string path = to_ + "/" + source_.name_of(number, segment->first_lsn);
  file_ = files_.open(path, OpenMode::kCreate, false);
  number_ = number;
  if (file_->size() != identity_.segment_bytes) file_->allocate(identity_.segment_bytes);
  return *file_;
}

void CopyFiller::sync() {
  if (file_ == nullptr) return;
  file_->sync();
  file_.reset();
}

/// The header follows from the log.
void CopyFiller::write_header(const Segment& segment) {
  uint64_t start = segment.number * identity_.segment_bytes;
  uint8_t header[kSegmentHeaderBytes];
  make_segment_header(identity_, start, segment.first_lsn - 1, segment.prev_crc, header);
  Slice slice{header, sizeof header};
  file_of(start).write(0, &slice, 1, false);
}

void CopyFiller::copy(uint64_t begin, uint64_t end) {
  for (uint64_t at = begin; at < end;) {
    if (at % identity_.segment_bytes == kSegmentHeaderBytes) {
      if (std::shared_ptr<Segment> segment = source_.find(identity_.segment_of(at)))
        write_header(*segment);
    }
    ReadOutcome read = read_segment(identity_, source_, buffer_.data(), buffer_.size(), at, end);
    if (read.length == 0) {
      if (read.need <= buffer_.size())
        throw WalFailure("WAL_CORRUPT", "no batch at position " + std::to_string(at));
      buffer_.reserve(read.need);
      continue;
    }
    if (piece_) piece_(read.length);
    uint64_t size = std::min(read.next, identity_.segment_end(at)) - at;
    Slice slice{buffer_.data() + read.offset, size};
    file_of(at).write(at % identity_.segment_bytes, &slice, 1, false);
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
  static const auto& zeros = *new AlignedBuffer(AlignedBuffer::zeroed(kPiece));
  uint64_t last = identity_.segment_end(end);
  for (uint64_t at = end; at < last;) {
    uint64_t size = std::min(kPiece, last - at);
    if (piece_) piece_(size);
    Slice slice{zeros.data(), size};
    file_of(end).write(at % identity_.segment_bytes, &slice, 1, false);
    at += size;
  }
  sync();
}

void CopyFiller::match_files() {
  std::vector<std::string> wanted = source_files_.list(from_);
  std::vector<std::string> found = files_.list(to_);
  bool changed = false;
  for (const std::string& name : found) {
    if (!is_segment_file(name) || contains(wanted, name)) continue;
    // As in a cut: what it holds must not come back as a part of the log.
    uint8_t zeros[kSegmentHeaderBytes] = {};
    Slice slice{zeros, sizeof zeros};
    files_.open(to_ + "/" + name, OpenMode::kReadWrite, false)->write(0, &slice, 1, true);
    files_.remove(to_ + "/" + name);
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
  std::unique_ptr<File> source = source_files_.open(from_ + "/" + name, OpenMode::kRead, false);
  std::string fresh = to_ + "/" + name + ".new";
  files_.remove(fresh);
  std::unique_ptr<File> target = files_.open(fresh, OpenMode::kCreate, false);
  for (uint64_t at = 0, size = source->size(); at < size;) {
    uint64_t part = source->read(at, buffer_.data(), std::min<uint64_t>(kPiece, size - at));
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
