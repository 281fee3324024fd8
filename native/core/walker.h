// Walks the batches of a log on disk, one after the other, verifying each.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "segments.h"

namespace walmirror {

/// A part of one segment in memory, read in aligned chunks.
class SegmentWindow {
 public:
  explicit SegmentWindow(uint64_t chunk = 1u << 20) : chunk_(chunk) {}

  /// The bytes of the segment from `offset`: at least `need` of them (fewer only at its end);
  /// `available` says how many. Valid until the next call.
  const uint8_t* view(const std::shared_ptr<Segment>& segment, uint64_t segment_bytes,
                      uint64_t offset, uint64_t need, uint64_t& available);
  void invalidate() { segment_.reset(); }
  /// From this copy of each file; by default from the one that comes first.
  void read_from(std::optional<size_t> copy) {
    copy_ = copy;
    invalidate();
  }

 private:
  uint64_t chunk_;
  std::optional<size_t> copy_;
  AlignedBuffer buffer_;
  std::shared_ptr<Segment> segment_;
  uint64_t from_ = 0;
  uint64_t size_ = 0;
};

enum class Step {
  kBatch,    // header() and bytes() are the batch, chain() the place after it
  kMissing,  // the log goes on in a segment that is not there
  kBad,      // what is at chain().position does not verify: reason()
};

class Walker {
 public:
  /// `from` is trusted. `link` false: only from.position is, the rest is taken from the first
  /// batch. `read_ahead`: bytes that are read at once.
  Walker(const LogIdentity& identity, const Segments& segments, const Chain& from, bool link = true,
         uint64_t read_ahead = 1u << 20);

  Step next();
  /// Reads again what may have been written since.
  void refresh() { window_.invalidate(); }

  const Chain& chain() const { return chain_; }
  const BatchHeader& header() const { return header_; }
  const uint8_t* bytes() const { return bytes_; }
  const std::string& reason() const { return reason_; }
  /// kBad: length of the batch that was begun there and does not verify; 0 where there is none of
  /// this log.
  uint64_t torn_bytes() const { return torn_bytes_; }
  /// The file in which the walk stands, and the offset of chain().position in it.
  std::string file() const;
  uint64_t offset() const { return chain_.position % identity_.segment_bytes; }

 private:
  Step step();
  Step step_elsewhere();
  bool enter_segment();
  bool check_rest_is_zero(uint64_t from);
  Step bad(const std::string& reason);

  LogIdentity identity_;
  const Segments& segments_;
  Chain chain_;
  bool link_;
  std::shared_ptr<Segment> segment_;
  bool entered_ = false;  // its header was found to continue the log
  SegmentWindow window_;
  BatchHeader header_{};
  const uint8_t* bytes_ = nullptr;
  std::string reason_;
  uint64_t torn_bytes_ = 0;
};

struct ReadOutcome {
  /// The batch from `next` to `end`, of which `last_lsn` is the last record, was read.
  void take(uint64_t end, uint64_t last_lsn);

  uint64_t offset = 0;
  uint64_t length = 0;
  uint64_t next = 0;
  uint64_t lsn = 0;
  /// Bytes that the buffer would have to have for the next batch; 0 if something was read.
  uint64_t need = 0;
  /// Ends of batches before `next`, some 256 KiB apart: a peer that flushed a part of all this is
  /// known to have so much.
  std::vector<Place> ends;
};

/// Reads and verifies whole batches from `from` to at most `limit`, within one segment, into an
/// aligned buffer. A filler comes with the zeros after it and the next segment's header.
ReadOutcome read_segment(const LogIdentity& identity, const Segments& segments, uint8_t* buffer,
                         uint64_t size, uint64_t from, uint64_t limit);

/// Start of the batch that holds `lsn`, looking no further than `end`.
uint64_t locate_on_disk(const LogIdentity& identity, const Segments& segments, uint64_t lsn,
                        uint64_t end);

}  // namespace walmirror
