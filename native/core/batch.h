// Framing and checking batches and segment headers. Pure functions over bytes.
#pragma once

#include <string>

#include "types.h"

namespace walmirror {

/// What every batch and segment of a log has in common; fixed when the log is created.
struct LogIdentity {
  Id log_id{};
  uint64_t salt = 0;
  uint64_t segment_bytes = 0;
  uint32_t align = 8;

  uint64_t segment_of(uint64_t position) const { return position / segment_bytes; }
  uint64_t segment_start(uint64_t position) const {
    return position / segment_bytes * segment_bytes;
  }
  uint64_t segment_end(uint64_t position) const { return segment_start(position) + segment_bytes; }
  /// First position at which a batch other than a filler may not end.
  uint64_t batch_limit(uint64_t position) const {
    return segment_end(position) - filler_bytes(align);
  }
};

/// The end of a log, or of a part of it: what the next batch must continue.
struct Chain {
  uint64_t position = kFirstBatch;
  uint64_t lsn = 0;
  uint32_t crc = 0;
  Term term;

  Place place() const { return {position, lsn, crc}; }
};

enum class Verdict { kValid, kShort, kBad };

struct Check {
  Verdict verdict;
  /// kShort: bytes wanted from the batch's start.
  uint64_t need = 0;
  /// kBad: why, for a person.
  const char* reason = "";
};

/// Checks the batch that starts at `chain.position`, of which `available` bytes are at `bytes`.
/// Reads nothing beyond them. `link` false: any previous checksum, LSN and term will do (reading
/// from the middle of a log).
Check check_batch(const LogIdentity& identity, const Chain& chain, const uint8_t* bytes,
                  uint64_t available, bool link = true);

/// Whether the batch only fills the rest of its segment.
inline bool is_filler(const BatchHeader& header) {
  return header.kind == static_cast<uint8_t>(Kind::kFiller);
}

/// The place after a batch: for a filler, the first batch of the next segment.
uint64_t batch_end(const LogIdentity& identity, const BatchHeader& header);

/// Moves the chain past a valid batch.
void advance(const LogIdentity& identity, Chain& chain, const BatchHeader& header);

/// Whether `count` records, each padded with zeros, fill the payload exactly.
bool records_fill(const uint8_t* payload, uint64_t size, uint32_t count);

/// Fills `out` (4096 bytes) with the header of the segment that starts at `start`.
void make_segment_header(const LogIdentity& identity, uint64_t start, uint64_t lsn,
                         uint32_t prev_crc, uint8_t* out);

/// Fills `out` (4096 bytes) with the header of a file that holds the log from `from` up to `to`.
void make_tail_header(const LogIdentity& identity, const Chain& from, const Chain& to,
                      uint8_t* out);

/// Whether these 4096 bytes are a segment header, of any log. `reason` says what is wrong.
bool check_segment_header(const uint8_t* bytes, const char** reason);

/// Whether the node with this id framed the batch, so that its watermark speaks for that node.
bool is_framed_by(const Id& node, const BatchHeader& header);

/// Adds the term of a filler that begins it: its opening, in the next segment, may never have come.
void note_term_of_filler(const BatchHeader& header, History& history);

/// Payload of a term-opened batch.
std::string encode_history(const History& history);
bool decode_history(const uint8_t* payload, uint64_t size, History& history);

bool all_zero(const uint8_t* bytes, uint64_t size);

}  // namespace walmirror
