#include "batch.h"

#include "crc32c.h"
#include "planted.h"

namespace walmirror {

bool all_zero(const uint8_t* bytes, uint64_t size) {
  uint64_t word;
  for (; size >= 8; size -= 8, bytes += 8) {
    std::memcpy(&word, bytes, 8);
    if (word != 0) return false;
  }
  for (; size > 0; size--, bytes++) {
    if (*bytes != 0) return false;
  }
  return true;
}

bool records_fill(const uint8_t* payload, uint64_t size, uint32_t count) {
  uint64_t at = 0;
  for (uint32_t i = 0; i < count; i++) {
    if (size - at < 4) return false;
    uint32_t length;
    std::memcpy(&length, payload + at, 4);
    if (length > kMaxRecordBytes || record_bytes(length) > size - at) return false;
    uint64_t end = at + 4 + length;
    at += record_bytes(length);
    for (; end < at; end++) {
      if (payload[end] != 0) return false;
    }
  }
  return at == size;
}

namespace {

const char* check_fields(const LogIdentity& identity, const Chain& chain, const BatchHeader& header,
                         bool link) {
  if (header.version != kFormatVersion) return "unknown format version";
  if (header.log_id != identity.log_id || header.salt != identity.salt)
    return "a batch of another log";
  if (header.position != chain.position && !PLANTED(any_position))
    return "a batch of another position";
  if (header.length < kBatchHeaderBytes || header.length % identity.align != 0)
    return "impossible length";
  bool filler = is_filler(header);
  uint64_t limit =
      filler ? identity.segment_end(chain.position) : identity.batch_limit(chain.position);
  if (limit < chain.position || header.length > limit - chain.position)
    return "length beyond the segment";
  if (header.length != align_up(kBatchHeaderBytes + header.payload, identity.align))
    return "impossible length";
  if (header.codec != kCodecNone || header.raw_bytes != header.payload) return "unknown codec";
  if ((header.flags & ~(kFlagSafeToIgnore | kFlagPadded)) != 0) return "unknown flags";
  if (header.kind > static_cast<uint8_t>(Kind::kFiller) &&
      (header.flags & kFlagSafeToIgnore) == 0) {
    return "unknown kind";
  }
  if ((header.kind == 0) != (header.count > 0)) return "impossible record count";
  if (filler && header.payload != 0) return "a filler with a payload";
  if (header.watermark > header.position || header.zero != 0) return "impossible watermark";
  if (!link) return nullptr;
  if (header.first_lsn != chain.lsn + 1) return "LSN out of order";
  if (header.prev_crc != chain.crc && !PLANTED(chain_unchecked))
    return "does not continue the batch before it";
  if (!term_may_follow(chain.term, {header.epoch, header.opener, header.incarnation}))
    return "term falls";
  return nullptr;
}

}  // namespace

Check check_batch(const LogIdentity& identity, const Chain& chain, const uint8_t* bytes,
                  uint64_t available, bool link) {
  if (available < kBatchHeaderBytes) return {Verdict::kShort, kBatchHeaderBytes};
  BatchHeader header;
  std::memcpy(&header, bytes, sizeof header);
  if (header.magic != kBatchMagic) return {Verdict::kBad, 0, "no batch here"};
  // Fields before the checksum: a length must be believable before that many bytes are asked for.
  if (const char* reason = check_fields(identity, chain, header, link))
    return {Verdict::kBad, 0, reason};
  if (available < header.length) return {Verdict::kShort, header.length};
  if (crc32c(0, bytes + 8, header.length - 8) != header.crc && !PLANTED(checksum_unchecked))
    return {Verdict::kBad, 0, "checksum does not match"};
  const uint8_t* payload = bytes + kBatchHeaderBytes;
  if (!all_zero(payload + header.payload, header.length - kBatchHeaderBytes - header.payload)) {
    return {Verdict::kBad, 0, "padding is not zero"};
  }
  if (header.kind == 0 && !records_fill(payload, header.payload, header.count)) {
    return {Verdict::kBad, 0, "record lengths do not add up"};
  }
  return {Verdict::kValid};
}

uint64_t batch_end(const LogIdentity& identity, const BatchHeader& header) {
  if (!is_filler(header)) return header.position + header.length;
  return identity.segment_end(header.position) + kSegmentHeaderBytes;
}

void advance(const LogIdentity& identity, Chain& chain, const BatchHeader& header) {
  chain.position = batch_end(identity, header);
  chain.lsn = header.first_lsn + header.count - 1;
  chain.crc = header.crc;
  chain.term = {header.epoch, header.opener, header.incarnation};
}

void make_segment_header(const LogIdentity& identity, uint64_t start, uint64_t lsn,
                         uint32_t prev_crc, uint8_t* out) {
  SegmentHeader header{};
  header.magic = kSegmentMagic;
  header.version = kFormatVersion;
  header.align = identity.align;
  header.log_id = identity.log_id;
  header.salt = identity.salt;
  header.start = start;
  header.first_lsn = lsn + 1;
  header.segment_bytes = identity.segment_bytes;
  header.prev_crc = prev_crc;
  std::memset(out, 0, kSegmentHeaderBytes);
  std::memcpy(out, &header, sizeof header);
  header.crc = crc32c(0, out + 8, kSegmentHeaderBytes - 8);
  std::memcpy(out, &header, sizeof header);
}

void make_tail_header(const LogIdentity& identity, const Chain& from, const Chain& to,
                      uint8_t* out) {
  make_segment_header(identity, from.position, from.lsn, from.crc, out);
  TailHeader tail{to.position, to.lsn};
  std::memcpy(out + kTailHeaderAt, &tail, sizeof tail);
  uint32_t crc = crc32c(0, out + 8, kSegmentHeaderBytes - 8);
  std::memcpy(out + offsetof(SegmentHeader, crc), &crc, sizeof crc);
}

bool check_segment_header(const uint8_t* bytes, const char** reason) {
  SegmentHeader header;
  std::memcpy(&header, bytes, sizeof header);
  *reason = nullptr;
  if (header.magic != kSegmentMagic) {
    *reason = "no segment header";
  } else if (crc32c(0, bytes + 8, kSegmentHeaderBytes - 8) != header.crc) {
    *reason = "segment header: checksum does not match";
  } else if (header.version != kFormatVersion) {
    *reason = "segment header: unknown format version";
  }
  return *reason == nullptr;
}

bool is_framed_by(const Id& node, const BatchHeader& header) {
  return std::memcmp(header.framer, node.data(), sizeof header.framer) == 0;
}

void note_term_of_filler(const BatchHeader& header, History& history) {
  Term term{header.epoch, header.opener, header.incarnation};
  if (!is_filler(header) || history.empty()) return;
  if (history.back().term == term || !term_may_follow(history.back().term, term)) return;
  history.push_back({term, header.position, header.first_lsn - 1});
  if (history.size() > kMaxHistory) history.erase(history.begin());
}

std::string encode_history(const History& history) {
  size_t first = history.size() > kMaxHistory ? history.size() - kMaxHistory : 0;
  uint32_t head[2] = {static_cast<uint32_t>(history.size() - first), 0};
  std::string payload(reinterpret_cast<const char*>(head), sizeof head);
  for (size_t i = first; i < history.size(); i++) {
    DiskHistoryEntry entry{history[i].term.epoch,       history[i].term.opener,
                           history[i].term.incarnation, 0,
                           history[i].position,         history[i].lsn};
    payload.append(reinterpret_cast<const char*>(&entry), sizeof entry);
  }
  return payload;
}

bool decode_history(const uint8_t* payload, uint64_t size, History& history) {
  uint32_t head[2];
  if (size < sizeof head) return false;
  std::memcpy(head, payload, sizeof head);
  if (head[0] == 0 || head[0] > kMaxHistory || head[1] != 0) return false;
  if (size != sizeof head + head[0] * sizeof(DiskHistoryEntry)) return false;
  history.clear();
  for (uint32_t i = 0; i < head[0]; i++) {
    DiskHistoryEntry entry;
    std::memcpy(&entry, payload + sizeof head + i * sizeof entry, sizeof entry);
    history.push_back({{entry.epoch, entry.opener, entry.incarnation}, entry.position, entry.lsn});
  }
  return true;
}

}  // namespace walmirror
