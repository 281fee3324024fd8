#include "segment_files.h"

#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "advice.h"

namespace walmirror {
namespace {

/// The start in a name such as `<first LSN>-<start>.wal`, 16 digits each.
bool start_in_name(const std::string& name, uint64_t& start) {
  constexpr size_t kDigits = 16;
  if (name.size() != 2 * kDigits + 5 || name[kDigits] != '-') return false;
  std::string digits = name.substr(kDigits + 1, kDigits);
  if (digits.find_first_not_of("0123456789abcdef") != std::string::npos) return false;
  start = std::strtoull(digits.c_str(), nullptr, 16);
  return true;
}

}  // namespace

std::string segment_file_name(uint64_t start, uint64_t first_lsn) {
  char name[48];
  std::snprintf(name, sizeof name, "%016" PRIx64 "-%016" PRIx64 ".wal", first_lsn, start);
  return name;
}

SegmentFiles::SegmentFiles(std::shared_ptr<FileSystem> files, std::string directory,
                           const LogIdentity& identity, uint64_t start_position)
    : files_(std::move(files)), directory_(std::move(directory)), identity_(identity) {
  for (const std::string& name : files_->list(directory_)) {
    if (name.ends_with(".wal") || name.ends_with(".spare")) look_at(name, start_position);
  }
}

void SegmentFiles::look_at(const std::string& name, uint64_t start_position) {
  Found found{directory_ + "/" + name, 0, false};
  std::unique_ptr<File> file = files_->open(found.path, OpenMode::kRead, true);
  found.size = file->size();
  AlignedBuffer block = AlignedBuffer::zeroed(kSegmentHeaderBytes);
  try {
    file->read(0, block.data(), kSegmentHeaderBytes);
  } catch (const WalFailure&) {
    std::memset(block.data(), 0, kSegmentHeaderBytes);  // a header that cannot be read is damaged
  }
  const char* reason;
  SegmentHeader header;
  std::memcpy(&header, block.data(), sizeof header);
  bool spare = name.ends_with(".spare");
  bool valid = check_segment_header(block.data(), &reason);
  bool ours = header.log_id == identity_.log_id && header.salt == identity_.salt &&
              header.segment_bytes == identity_.segment_bytes &&
              header.start % identity_.segment_bytes == 0;
  if (valid && !ours) {
    if (spare) return;
    throw WalFailure("WAL_CORRUPT", found.path + " belongs to another log")
        .at(found.path, 0, 0)
        .advise(kMoveAway);
  }
  uint64_t start = header.start;
  if (valid) {
    found.has_header = true;
  } else if (spare || !start_in_name(name, start) || start % identity_.segment_bytes != 0) {
    if (spare || found.size == identity_.segment_bytes) return;
    throw WalFailure("WAL_CORRUPT", found.path +
                                        " is not as long as a segment, and neither its header nor "
                                        "its name says which one it was")
        .at(found.path, found.size, 0)
        .advise(kMoveAway);
  }
  if (start + identity_.segment_bytes > start_position) claim(identity_.segment_of(start), found);
}

void SegmentFiles::claim(uint64_t number, Found file) {
  auto [at, fresh] = found_.emplace(number, file);
  if (fresh) return;
  Found& other = at->second;
  bool one_has_none = file.has_header != other.has_header;
  // A header says more than a name; what has none besides is removed by the next opening.
  const Found& lesser = file.has_header ? other : file;
  if (!one_has_none || lesser.size != identity_.segment_bytes) {
    throw WalFailure("WAL_CORRUPT",
                     file.path + " and " + other.path + " claim the same place in the log")
        .at(file.path, 0, 0)
        .advise(kMoveWrongAway);
  }
  if (file.has_header) other = std::move(file);
}

std::string SegmentFiles::path(uint64_t number) {
  auto at = found_.find(number);
  if (at != found_.end()) return at->second.path;
  std::string name = segment_file_name(number * identity_.segment_bytes, 0);
  return directory_ + "/*" + name.substr(name.find('-'));
}

std::vector<SegmentFiles::WrongLength> SegmentFiles::wrong_lengths() const {
  std::vector<WrongLength> wrong;
  for (const auto& [number, found] : found_) {
    if (found.size != identity_.segment_bytes) wrong.push_back({number, found.path, found.size});
  }
  return wrong;
}

void SegmentFiles::read(uint64_t number, uint64_t offset, uint8_t* out, uint64_t size) {
  if (open_ == nullptr || open_number_ != number) {
    open_.reset();
    open_ = files_->open(found_.at(number).path, OpenMode::kRead, true);
    open_number_ = number;
  }
  size_t got = open_->read(offset, out, size);
  std::memset(out + got, 0, size - got);
}

}  // namespace walmirror
