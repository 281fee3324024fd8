// Reading whole, verified batches: from the ring (the owner's thread) or from the segments (tasks).
#include <algorithm>
#include <cstring>

#include "log.h"
#include "planted.h"

namespace walmirror {

void ReadOutcome::take(uint64_t end, uint64_t last_lsn) {
  constexpr uint64_t kApart = 256u << 10;
  uint64_t known = ends.empty() ? next - length : ends.back().position;
  if (end - known > kApart && next > known) ends.push_back({next, lsn, 0});
  length += end - next;
  next = end;
  lsn = last_lsn;
}

bool Log::read_ring(uint8_t* buffer, uint64_t size, uint64_t from, uint64_t up_to,
                    ReadOutcome& outcome) const {
  if (from < ring_floor() || from > chain_.position) return false;
  uint64_t limit = std::min(up_to, chain_.position);
  uint64_t next = from;
  outcome = {};
  outcome.next = from;
  while (next < limit) {
    BatchHeader header;
    std::memcpy(&header, ring_->at(next), sizeof header);
    if (header.magic != kBatchMagic || header.position != next) {
      throw WalFailure("WAL_DIVERGED", "no batch starts at position " + std::to_string(next));
    }
    uint64_t end = batch_end(identity_, header);
    if (end > limit) break;
    if (end - from > size) {
      if (next == from) outcome.need = end - from;
      break;
    }
    next = end;
    outcome.take(end, header.first_lsn + header.count - 1);
    // Readers take the log by segments: the place after a filler begins another.
    if (is_filler(header)) break;
  }
  std::memcpy(buffer, ring_->at(from), outcome.length);
  return true;
}

std::optional<uint64_t> Log::locate_in_ring(uint64_t lsn) const {
  if (lsn > chain_.lsn) return chain_.position;
  std::optional<IndexEntry> entry = segments_->last_before_lsn(lsn, ring_floor());
  if (!entry) return std::nullopt;
  uint64_t at = entry->position;
  while (at < chain_.position) {
    BatchHeader header;
    std::memcpy(&header, ring_->at(at), sizeof header);
    if (header.count > 0 && header.first_lsn + header.count > lsn) return at;
    at = batch_end(identity_, header);
  }
  return std::nullopt;
}

std::optional<uint32_t> Log::checksum_in_ring(uint64_t position) const {
  if (position == chain_.position) return chain_.crc;
  std::optional<IndexEntry> entry = segments_->last_before_position(position, ring_floor());
  if (!entry || position > chain_.position) return std::nullopt;
  uint64_t at = entry->position;
  while (at < position) {
    BatchHeader header;
    std::memcpy(&header, ring_->at(at), sizeof header);
    at = batch_end(identity_, header);
    if (at == position) return header.crc;
  }
  throw WalFailure("WAL_DIVERGED", "no batch ends at position " + std::to_string(position));
}

namespace {

/// From one copy of the file, or from that which comes first.
ReadOutcome read_batches(const LogIdentity& identity, const std::shared_ptr<Segment>& segment,
                         std::optional<size_t> copy, uint8_t* buffer, uint64_t size, uint64_t from,
                         uint64_t limit) {
  uint64_t block = align_down(from, kBlock);
  uint64_t end = std::min(identity.segment_end(from), align_up(limit, kBlock));
  uint64_t want = std::min(align_down(size, kBlock), end - block);
  uint64_t offset = block % identity.segment_bytes;
  std::shared_ptr<File> file = segment->file();
  uint64_t got =
      copy ? file->read_copy(*copy, offset, buffer, want) : file->read(offset, buffer, want);
  ReadOutcome outcome;
  outcome.offset = from - block;
  outcome.next = from;
  Chain chain;
  chain.position = from;
  bool link = false;
  while (chain.position < limit) {
    const uint8_t* batch = buffer + (chain.position - block);
    uint64_t available = block + got > chain.position ? block + got - chain.position : 0;
    Check check = check_batch(identity, chain, batch, available, link);
    if (PLANTED(served_unverified) && std::strstr(check.reason, "checksum") != nullptr)
      check = {Verdict::kValid};
    if (check.verdict == Verdict::kBad) {
      // What verified before it is given; what comes next is told when it is asked for, and may be
      // good on another copy.
      bool alone = check_batch(identity, chain, batch, available, false).verdict != Verdict::kBad;
      if (outcome.length > 0 && (!alone || file->copies() > 1)) break;
      throw WalFailure("WAL_CORRUPT", segment->path + " at offset " +
                                          std::to_string(chain.position % identity.segment_bytes) +
                                          ": " + check.reason)
          .at(segment->path, chain.position % identity.segment_bytes, link ? chain.lsn + 1 : 0);
    }
    BatchHeader header;
    uint64_t need = check.need;
    if (check.verdict == Verdict::kValid) {
      std::memcpy(&header, batch, sizeof header);
      // The zeros after a filler and the next segment's header go with it.
      need = batch_end(identity, header) - chain.position;
    }
    bool filler = check.verdict == Verdict::kValid && is_filler(header);
    uint64_t room = size - (chain.position - block);
    if (check.verdict == Verdict::kShort ||
        (filler && (need > room || need - kSegmentHeaderBytes > available))) {
      if (outcome.length == 0) outcome.need = align_up(outcome.offset + need, kBlock) + kBlock;
      break;
    }
    if (filler) {
      uint64_t zeros = need - kSegmentHeaderBytes - header.length;
      if (!all_zero(batch + header.length, zeros)) {
        throw WalFailure("WAL_CORRUPT", segment->path + ": bytes after the filler are not zero")
            .at(segment->path, chain.position % identity.segment_bytes, header.first_lsn);
      }
      make_segment_header(identity, identity.segment_end(from), header.first_lsn - 1, header.crc,
                          buffer + (identity.segment_end(from) - block));
    }
    advance(identity, chain, header);
    link = true;
    outcome.take(chain.position, chain.lsn);
    if (filler) break;
  }
  return outcome;
}

}  // namespace

ReadOutcome read_segment(const LogIdentity& identity, const Segments& segments, uint8_t* buffer,
                         uint64_t size, uint64_t from, uint64_t limit) {
  std::shared_ptr<Segment> segment = segments.find(identity.segment_of(from));
  if (segment == nullptr)
    throw WalFailure("WAL_LSN_GONE", "position " + std::to_string(from) + " is not kept");
  try {
    return read_batches(identity, segment, {}, buffer, size, from, limit);
  } catch (const WalFailure&) {
    // Damage of one copy is not damage of the log: another may verify.
    std::shared_ptr<File> file = segment->file();
    std::vector<size_t> bad;
    for (size_t copy = 0; copy < file->copies() && file->copies() > 1; copy++) {
      try {
        ReadOutcome outcome = read_batches(identity, segment, copy, buffer, size, from, limit);
        for (size_t other : bad) file->bad_copy(other);
        return outcome;
      } catch (const WalFailure&) {
        bad.push_back(copy);
      }
    }
    throw;
  }
}

ReadOutcome Log::read_into(uint8_t* buffer, uint64_t size, uint64_t from, uint64_t up_to) {
  uint64_t limit = std::min(up_to, flushed().position);
  if (from >= limit) return {0, 0, from, 0, 0, {}};
  if (from < start().position)
    throw WalFailure("WAL_LSN_GONE", "position " + std::to_string(from) + " was trimmed");
  try {
    return read_segment(identity_, *segments_, buffer, size, from, limit);
  } catch (WalFailure& failure) {
    if (failure.code == "WAL_CORRUPT" && failure.lsn <= 0) name_lsn(from, failure);
    throw;
  }
}

/// Which records a batch that does not verify held, what comes before it tells.
void Log::name_lsn(uint64_t position, WalFailure& failure) {
  try {
    failure.lsn = static_cast<int64_t>(chain_at(position).lsn + 1);
  } catch (const WalFailure&) {
    // That is damaged too.
  }
}

uint64_t locate_on_disk(const LogIdentity& identity, const Segments& segments, uint64_t lsn,
                        uint64_t end) {
  std::shared_ptr<Segment> segment = segments.find_lsn(lsn);
  if (segment == nullptr)
    throw WalFailure("WAL_LSN_GONE", "record " + std::to_string(lsn) + " was trimmed");
  Chain from;
  from.position = segments.nearest_lsn(*segment, lsn).position;
  Walker walker(identity, segments, from, false);
  while (walker.chain().position < end) {
    uint64_t position = walker.chain().position;
    Step step = walker.next();
    if (step == Step::kMissing) break;
    if (step == Step::kBad) {
      throw WalFailure("WAL_CORRUPT", walker.file() + " at offset " +
                                          std::to_string(walker.offset()) + ": " + walker.reason())
          .at(walker.file(), walker.offset(), walker.chain().lsn + 1);
    }
    if (walker.header().count > 0 && walker.chain().lsn >= lsn) return position;
  }
  return walker.chain().position;
}

uint64_t Log::locate(uint64_t lsn) {
  if (lsn <= start().lsn)
    throw WalFailure("WAL_LSN_GONE", "record " + std::to_string(lsn) + " was trimmed");
  return locate_on_disk(identity_, *segments_, lsn, flushed().position);
}

uint32_t Log::checksum_at(uint64_t position) { return place_at(position).crc; }

Place Log::place_at(uint64_t position) {
  if (position > flushed().position)
    throw WalFailure("WAL_DIVERGED", "the log ends before that position");
  return chain_at(position).place();
}

}  // namespace walmirror
