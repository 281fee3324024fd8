// The log format, version 1: docs/format.md in C++. Everything is little-endian; the structs lie on
// the bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace walmirror {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "the structs below lie on little-endian bytes");

using Id = std::array<uint8_t, 16>;

constexpr uint32_t kFormatVersion = 1;
constexpr uint64_t kBlock = 4096;  // device block; also the size of a segment header
constexpr uint64_t kSegmentHeaderBytes = kBlock;
constexpr uint64_t kBatchHeaderBytes = 128;
constexpr uint64_t kFirstBatch = kSegmentHeaderBytes;
constexpr uint64_t kMaxRecordBytes = 16u << 20;
constexpr uint32_t kMaxHistory = 256;
constexpr uint64_t kControlCopyBytes = 16384;
constexpr uint32_t kMaxMembers = 64;     // of a commit rule
constexpr size_t kRuleTextBytes = 2048;  // its standbys, with a closing zero
constexpr size_t kMaxCopies = 4;
constexpr size_t kCopyPathBytes = 64;  // with a closing zero
constexpr size_t kGenerationTags = 9;

constexpr uint32_t kBatchMagic = 0x54424d57;    // "WMBT"
constexpr uint32_t kSegmentMagic = 0x47534d57;  // "WMSG"
constexpr uint32_t kControlMagic = 0x54434d57;  // "WMCT"

enum class Kind : uint8_t {
  kData = 0,
  kTermOpened = 1,
  kLabel = 2,
  kLoadId = 3,
  kForcedPromotion = 4,
  kFiller = 5,
};

constexpr uint8_t kFlagSafeToIgnore = 1;
constexpr uint8_t kFlagPadded = 2;
constexpr uint8_t kCodecNone = 0;

//  offset  0        4        8        12       16
//         +--------+--------+--------+--------+
//       0 | magic  | crc32c | length |v k f c |
//      16 |             log id                |
//      32 |      salt       |    position     |
//      48 |      epoch      |    first LSN    |
//      64 |             opener                |
//      80 |incarn. | count  |payload |rawbytes|
//      96 |   wall clock µs |    watermark    |
//     112 |prev crc| zero   |  framer, 8 B    |
//         +--------+--------+-----------------+
struct BatchHeader {
  uint32_t magic;
  uint32_t crc;  // over bytes [8, length)
  uint32_t length;
  uint8_t version;
  uint8_t kind;
  uint8_t flags;
  uint8_t codec;
  Id log_id;
  uint64_t salt;
  uint64_t position;
  uint64_t epoch;
  uint64_t first_lsn;
  Id opener;
  uint32_t incarnation;
  uint32_t count;
  uint32_t payload;
  uint32_t raw_bytes;
  uint64_t wall_clock_us;
  uint64_t watermark;
  uint32_t prev_crc;
  uint32_t zero;
  uint8_t framer[8];
};
static_assert(sizeof(BatchHeader) == kBatchHeaderBytes);
static_assert(offsetof(BatchHeader, log_id) == 16 && offsetof(BatchHeader, salt) == 32);
static_assert(offsetof(BatchHeader, opener) == 64 && offsetof(BatchHeader, wall_clock_us) == 96);
static_assert(offsetof(BatchHeader, prev_crc) == 112 && offsetof(BatchHeader, framer) == 120);

struct SegmentHeader {
  uint32_t magic;
  uint32_t crc;  // over bytes [8, 4096)
  uint32_t version;
  uint32_t align;
  Id log_id;
  uint64_t salt;
  uint64_t start;
  uint64_t first_lsn;
  uint64_t segment_bytes;
  uint32_t prev_crc;
  uint32_t zero;
};
static_assert(offsetof(SegmentHeader, start) == 40 && offsetof(SegmentHeader, prev_crc) == 64);

/// Behind the segment header that begins a file in which a cut set its tail aside.
struct TailHeader {
  uint64_t end;  // position at which the tail ends
  uint64_t last_lsn;
};
constexpr uint64_t kTailHeaderAt = sizeof(SegmentHeader);
static_assert(kTailHeaderAt == 72);

struct DiskHistoryEntry {
  uint64_t epoch;
  Id opener;
  uint32_t incarnation;
  uint32_t zero;
  uint64_t position;
  uint64_t lsn;
};
static_assert(sizeof(DiskHistoryEntry) == 48);

struct DiskCopy {
  Id id;
  uint32_t state;  // 1 in, 2 out
  uint16_t reason;
  uint16_t error;
  uint64_t since_us;
  char path[kCopyPathBytes];
};
static_assert(sizeof(DiskCopy) == 96);

struct ControlBlock {
  uint32_t magic;
  uint32_t crc;  // over bytes [8, 16384)
  uint32_t version;
  uint32_t align;
  uint64_t sequence;
  Id log_id;
  uint64_t salt;
  Id node_id;
  uint64_t segment_bytes;
  uint64_t max_record_bytes;
  uint32_t role;
  uint32_t flags;
  uint64_t epoch;
  Id opener;
  uint32_t incarnation;
  uint32_t history_entries;
  uint64_t watermark_position;
  uint64_t watermark_lsn;
  uint32_t watermark_crc;
  uint32_t zero;
  uint64_t commit_position;
  uint64_t commit_lsn;
  uint64_t start_position;
  uint64_t fork_position;
  uint64_t wall_clock_us;
  uint64_t start_lsn;
  char name[64];
  char primary_name[64];
  char primary_address[128];
  uint64_t contact_us;
  uint64_t rebuild_from;  // 0: nobody has to be told
  uint64_t rebuild_to;
  uint64_t quorum_lsn;
  uint64_t quorum_most_lsn;
  uint8_t reserved[24];
  DiskHistoryEntry history[kMaxHistory];
  uint32_t rule_level;  // 0: no rule is recorded
  uint32_t rule_members;
  uint32_t rule_flags;
  uint32_t rule_zero;
  Id rule_member_ids[kMaxMembers];
  char rule_standbys[kRuleTextBytes];
  uint64_t generation;  // 0: one directory
  uint32_t copies;
  uint32_t quorum;                            // of them, for an acknowledgement; 0: all that are in
  uint64_t generation_tags[kGenerationTags];  // of this one and of those before it
  DiskCopy copy[kMaxCopies];
  Id own_copy;  // which of them lies here
};
static_assert(offsetof(ControlBlock, segment_bytes) == 64 && offsetof(ControlBlock, epoch) == 88);
static_assert(offsetof(ControlBlock, watermark_position) == 120 &&
              offsetof(ControlBlock, name) == 192);
static_assert(offsetof(ControlBlock, contact_us) == 448 &&
              offsetof(ControlBlock, quorum_lsn) == 472 && offsetof(ControlBlock, history) == 512);
static_assert(offsetof(ControlBlock, rule_level) == 12800 &&
              offsetof(ControlBlock, rule_member_ids) == 12816 &&
              offsetof(ControlBlock, rule_standbys) == 13840);
static_assert(offsetof(ControlBlock, generation) == 15888 &&
              offsetof(ControlBlock, copy) == 15976 && offsetof(ControlBlock, own_copy) == 16360);
static_assert(sizeof(ControlBlock) <= kControlCopyBytes);

constexpr uint32_t kRuleDegraded = 1;
constexpr uint32_t kRuleOfEarlierTerm = 2;
constexpr uint32_t kRuleUndercut = 4;
constexpr uint32_t kRuleUntold = 8;
constexpr uint32_t kControlClean = 1;
constexpr uint32_t kControlCutUnderWay = 2;
constexpr uint32_t kControlCommitExact = 4;

constexpr uint64_t align_up(uint64_t value, uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}
constexpr uint64_t align_down(uint64_t value, uint64_t unit) { return value / unit * unit; }

/// Bytes that a record of this length takes in a payload.
constexpr uint64_t record_bytes(uint64_t length) { return 4 + align_up(length, 4); }

/// Room for a filler that every other batch leaves before the end of its segment.
constexpr uint64_t filler_bytes(uint64_t align) {
  return align > kBatchHeaderBytes ? align : kBatchHeaderBytes;
}

}  // namespace walmirror
