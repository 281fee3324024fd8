// Reads every byte of a log and finds all that does not verify, not only the first: each damaged
// range as small as the log itself can tell (SAFETY 6.4).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "segment_files.h"

namespace walmirror {

/// Bytes of one segment that are not the log's, as positions [from, to).
struct DamagedRange {
  enum class Part {
    kHeader,   // the segment's header alone: it follows from the log
    kBatches,  // batches; from a segment's start on, its header too
    kZeros,    // what follows a filler: zeros
    kSegment,  // the whole file, which is missing
    kLength,   // the file is not as long as a segment: from where it ends, or should
  };

  Part part = Part::kBatches;
  std::string file;
  uint64_t from = 0;
  uint64_t to = 0;
  /// The records that lie in it, or in the ranges next to it. last_lsn < first_lsn: none does.
  uint64_t first_lsn = 0;
  uint64_t last_lsn = 0;
  std::string reason;
};

/// Damaged ranges in a row, and what is known before them.
struct Damage {
  std::vector<DamagedRange> ranges;
  /// Where the first batch of it, or behind it, begins. Not `linked`: `crc` is not known.
  Chain before;
  bool linked = true;
};

/// Goes along a log, segment by segment. What the disk cannot read counts as damaged.
class Scrub {
 public:
  /// Called before each read with how far the scrub is. May wait. False: stop, by Stopped.
  using Pace = std::function<bool(uint64_t position, uint64_t bytes)>;
  struct Stopped {};

  static constexpr size_t kMostDamage = 65536;

  /// Reads `step` bytes at a time.
  Scrub(const LogIdentity& identity, SegmentSource& segments, Pace pace, uint64_t step);

  /// Goes on at `chain`, the first batch of a segment. Not `linked`: its checksum is not known.
  void start(const Chain& chain, bool linked);
  /// Verifies the segment in which the scrub stands, on from there, as far as `stop`. `known`: a
  /// batch that ends there is the one that is known.
  void segment(uint64_t stop, const std::optional<Place>& known = {});
  /// Where the scrub stands behind damage, says what lies before its position.
  void arrive(const Place& known);
  /// Moves past the header of the segment, or the batch, that comes next, if it verifies.
  bool advance_if_valid();
  /// Whether the header of the segment, or else the batch, that comes next verifies.
  bool next_verifies();
  /// Looks at the header of the segment in which the scrub stands, and at nothing else of it.
  void header();
  /// The latest watermark past `chain()` in a whole batch that this node framed (SAFETY 6.1);
  /// 0: none.
  uint64_t later_watermark(const Id& node_id);
  /// No more comes.
  void finish();

  const Chain& chain() const { return chain_; }
  /// Whether what lies before `chain()` is damaged, and not known to be whole from there on.
  bool at_damage() const { return open_.has_value(); }
  std::vector<Damage>& damage() { return damage_; }
  uint64_t batches() const { return batches_; }
  uint64_t records() const { return records_; }

 private:
  const uint8_t* view(uint64_t number, uint64_t offset, uint64_t need, uint64_t& available);
  void read(uint64_t number, uint64_t offset, uint8_t* out, uint64_t size);
  bool header_verifies(uint64_t number, std::string& reason);
  bool batch_verifies(const Chain& at, bool linked, BatchHeader& header, std::string& reason);
  bool rest_is_zero(const BatchHeader& filler);
  /// The next batch of [from, to) that verifies alone and is `wanted`; `to`: none.
  uint64_t find_batch(uint64_t number, uint64_t from, uint64_t to,
                      const std::function<bool(const BatchHeader&)>& wanted);
  bool may_follow(const BatchHeader& header) const;
  void take(const BatchHeader& header);
  void lose(DamagedRange::Part part, uint64_t from, uint64_t to, const std::string& reason);
  void anchor(uint64_t lsn, uint32_t crc);

  LogIdentity identity_;
  SegmentSource& segments_;
  Pace pace_;
  uint64_t step_;
  Chain chain_;
  bool linked_ = true;
  std::optional<Damage> open_;  // not yet known where it ends
  std::vector<Damage> damage_;
  uint64_t batches_ = 0;
  uint64_t records_ = 0;
  AlignedBuffer buffer_;
  uint64_t viewed_number_ = UINT64_MAX;
  uint64_t viewed_from_ = 0;
  uint64_t viewed_size_ = 0;
};

struct ScrubReport {
  Place start;
  Chain end;
  /// Up to here the log was durable: less than `end` where more of it verifies.
  uint64_t durable = 0;
  uint64_t batches = 0;
  uint64_t records = 0;
  std::vector<Damage> damage;
};

/// Reads a whole log that does not change meanwhile. Throws Scrub::Stopped.
ScrubReport scrub_log(const LogIdentity& identity, SegmentSource& segments, const Control& control,
                      Scrub::Pace pace);

LogIdentity identity_of(const Control& control);

/// The control file, read only. Throws WAL_NOT_FOUND, WAL_CORRUPT.
Control read_control(FileSystem& files, const std::string& directory);

/// The files of a wrong length, each a damage of its own.
std::vector<Damage> wrong_lengths(const LogIdentity& identity, const SegmentFiles& segments);

/// The whole log of a directory that nobody has open. `progress`: how far it is of how far, false
/// to stop.
ScrubReport scrub_directory(std::shared_ptr<FileSystem> files, const std::string& directory,
                            const std::function<bool(uint64_t position, uint64_t of)>& progress);

}  // namespace walmirror
