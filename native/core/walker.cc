#include "walker.h"

#include <algorithm>
#include <cstring>

namespace walmirror {

const uint8_t* SegmentWindow::view(const std::shared_ptr<Segment>& segment, uint64_t segment_bytes,
                                   uint64_t offset, uint64_t need, uint64_t& available) {
  need = std::min(need, segment_bytes - offset);
  if (segment != segment_ || offset < from_ || offset + need > from_ + size_) {
    uint64_t from = align_down(offset, kBlock);
    uint64_t want =
        std::min(std::max(chunk_, align_up(offset + need, kBlock) - from), segment_bytes - from);
    buffer_.reserve(want);
    std::shared_ptr<File> file = segment->file();
    size_t got = copy_ ? file->read_copy(*copy_, from, buffer_.data(), want)
                       : file->read(from, buffer_.data(), want);
    std::memset(buffer_.data() + got, 0, want - got);
    segment_ = segment;
    from_ = from;
    size_ = want;
  }
  available = from_ + size_ - offset;
  return buffer_.data() + (offset - from_);
}

Walker::Walker(const LogIdentity& identity, const Segments& segments, const Chain& from, bool link,
               uint64_t read_ahead)
    : identity_(identity), segments_(segments), chain_(from), link_(link), window_(read_ahead) {}

std::string Walker::file() const {
  return segment_ != nullptr ? segment_->path
                             : segments_.describe_missing(identity_.segment_of(chain_.position));
}

Step Walker::bad(const std::string& reason) {
  reason_ = reason;
  return Step::kBad;
}

/// The header of a segment must be the one that the log itself gives.
bool Walker::enter_segment() {
  uint64_t available;
  const uint8_t* bytes =
      window_.view(segment_, identity_.segment_bytes, 0, kSegmentHeaderBytes, available);
  const char* reason;
  if (!check_segment_header(bytes, &reason)) {
    reason_ = reason;
    return false;
  }
  uint64_t start = identity_.segment_start(chain_.position);
  uint64_t lsn = link_ ? chain_.lsn : segment_->first_lsn - 1;
  uint32_t crc = link_ ? chain_.crc : segment_->prev_crc;
  uint8_t expected[kSegmentHeaderBytes];
  make_segment_header(identity_, start, lsn, crc, expected);
  if (std::memcmp(bytes, expected, kSegmentHeaderBytes) == 0) return true;
  reason_ = "segment header does not continue the log";
  return false;
}

bool Walker::check_rest_is_zero(uint64_t from) {
  constexpr uint64_t kPiece = 256u << 10;
  uint64_t end = identity_.segment_end(from - 1);
  while (from < end) {
    uint64_t size = std::min(kPiece, end - from);
    uint64_t available;
    const uint8_t* bytes = window_.view(segment_, identity_.segment_bytes,
                                        from % identity_.segment_bytes, size, available);
    if (!all_zero(bytes, size)) return false;
    from += size;
  }
  return true;
}

Step Walker::next() {
  Step found = step();
  if (found != Step::kBad || segment_->file()->copies() == 1) return found;
  return step_elsewhere();
}

/// What does not verify on one copy may do so on another.
Step Walker::step_elsewhere() {
  std::string reason = reason_;
  uint64_t torn_bytes = torn_bytes_;
  std::shared_ptr<Segment> segment = segment_;
  for (size_t copy = 0; copy < segment->file()->copies(); copy++) {
    window_.read_from(copy);
    // Its header too, where it is the header that comes next.
    if (chain_.position % identity_.segment_bytes == kSegmentHeaderBytes) segment_.reset();
    try {
      if (step() == Step::kBatch) return Step::kBatch;
    } catch (const WalFailure&) {  // The others are still to be asked.
    }
  }
  window_.read_from({});
  segment_ = segment;
  reason_ = reason;
  torn_bytes_ = torn_bytes;
  return Step::kBad;
}

Step Walker::step() {
  uint64_t number = identity_.segment_of(chain_.position);
  if (segment_ == nullptr || segment_->number != number) {
    segment_ = segments_.find(number);
    if (segment_ == nullptr) {
      reason_ = "segment is missing";
      return Step::kMissing;
    }
    entered_ = false;
  }
  // Looked at again after it did not verify: the header too.
  if (!entered_ && !enter_segment()) return Step::kBad;
  entered_ = true;
  uint64_t need = kBatchHeaderBytes;
  for (;;) {
    uint64_t available;
    const uint8_t* bytes = window_.view(segment_, identity_.segment_bytes,
                                        chain_.position % identity_.segment_bytes, need, available);
    Check check = check_batch(identity_, chain_, bytes, available, link_);
    if (check.verdict == Verdict::kBad) {
      BatchHeader torn;
      std::memcpy(&torn, bytes, sizeof torn);
      bool ours = torn.magic == kBatchMagic && torn.log_id == identity_.log_id &&
                  torn.position == chain_.position;
      torn_bytes_ = ours ? torn.length : 0;
      return bad(check.reason);
    }
    if (check.verdict == Verdict::kShort) {
      if (check.need <= need && available < check.need)
        return bad("the segment ends inside a batch");
      need = check.need;
      continue;
    }
    std::memcpy(&header_, bytes, sizeof header_);
    bytes_ = bytes;
    break;
  }
  if (is_filler(header_)) {
    if (!check_rest_is_zero(chain_.position + header_.length))
      return bad("bytes after the filler are not zero");
    bytes_ = nullptr;
  }
  advance(identity_, chain_, header_);
  link_ = true;
  return Step::kBatch;
}

}  // namespace walmirror
