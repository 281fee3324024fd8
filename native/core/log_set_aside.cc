// The tail that a cut removes, set aside in a file of its own in each directory (SAFETY 2.5, 3.8).
// On the task thread, while the owner waits.
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

/// Writes to a file that is all zeros, in large pieces.
class Filling {
 public:
  explicit Filling(File& file) : file_(file), piece_(1u << 20) {}

  void add(const void* bytes, uint64_t size) {
    if (filled_ + size > piece_.size()) write();
    piece_.reserve(size);
    std::memcpy(piece_.data() + filled_, bytes, size);
    filled_ += size;
  }
  void skip_to(uint64_t offset) {
    write();
    offset_ = offset;
  }
  void write() {
    if (filled_ == 0) return;
    Slice slice{piece_.data(), filled_};
    file_.write(offset_, &slice, 1, false);
    offset_ += filled_;
    filled_ = 0;
  }

 private:
  File& file_;
  AlignedBuffer piece_;
  uint64_t offset_ = 0;
  uint64_t filled_ = 0;
};

}  // namespace

bool is_side_file_name(const std::string& name) {
  return name.size() > std::strlen(kSideFileEnd) && name.ends_with(kSideFileEnd) &&
         name[0] != '.' && name.find_first_of(std::string("/\0", 2)) == std::string::npos;
}

/// All that lies past `from`, in a file that tells where it ends: whole, verified, durable and
/// named on return, before a byte of it goes. What cannot be set aside so leaves nothing.
std::string Log::set_aside(const Chain& from, const std::string& side_file) {
  std::string path = directory_ + "/" + side_file;
  std::string fresh = path + ".new";
  files_->remove(fresh);
  try {
    reserve_aside(fresh, kSegmentHeaderBytes + chain_.position - from.position);
    std::unique_ptr<File> file = files_->open(fresh, OpenMode::kReadWrite, false);
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

/// The file in each directory, with room for all of it, before a byte is written. One that has no
/// room keeps the log from being cut: it is not dropped for it, which would leave a copy less.
void Log::reserve_aside(const std::string& path, uint64_t size) {
  struct Full {
    std::mutex mutex;
    std::optional<WalFailure> failure;
  };
  auto full = std::make_shared<Full>();
  auto reserve = [size, full](FileSystem& files, const std::string& own) {
    try {
      files.open(own, OpenMode::kCreate, false)->allocate(size);
    } catch (const WalFailure& failure) {
      if (failure.code != "WAL_NO_SPACE" || PLANTED(full_copy_dropped)) throw;
      std::lock_guard<std::mutex> guard(full->mutex);
      full->failure = failure;
    }
  };
  if (mirror_ == nullptr) {
    reserve(*files_, path);
  } else {
    mirror_->in_each(path, reserve);
  }
  std::lock_guard<std::mutex> guard(full->mutex);
  if (full->failure) throw *full->failure;
}

/// Batch by batch, each verified: what does not verify in one directory is taken from another.
void Log::write_tail(File& file, const Chain& from) {
  uint8_t header[kSegmentHeaderBytes];
  make_tail_header(identity_, from, chain_, header);
  Filling filling(file);
  filling.add(header, sizeof header);
  // It begins in the middle of a segment, whose header says nothing of that place.
  Walker walker(identity_, *segments_, from, false);
  while (walker.chain().position < chain_.position) {
    Chain before = walker.chain();
    bool whole = walker.next() == Step::kBatch;
    bool first = before.position == from.position;
    if (!whole || (first && walker.header().prev_crc != from.crc)) {
      std::string reason = whole ? "it does not continue the log" : walker.reason();
      throw WalFailure("WAL_CORRUPT", walker.file() + ": " + reason +
                                          "; what lies there cannot be set aside "
                                          "whole, and is not cut")
          .at(walker.file(), before.position % identity_.segment_bytes, before.lsn + 1);
    }
    const BatchHeader& batch = walker.header();
    if (!is_filler(batch)) {
      filling.add(walker.bytes(), batch.length);
      continue;
    }
    // Behind it zeros to the end of the segment, and the header of the next one.
    filling.add(&batch, sizeof batch);
    const Chain& next = walker.chain();
    uint64_t start = identity_.segment_start(next.position);
    filling.skip_to(kSegmentHeaderBytes + start - from.position);
    make_segment_header(identity_, start, next.lsn, next.crc, header);
    filling.add(header, sizeof header);
  }
  filling.write();
}

}  // namespace walmirror
