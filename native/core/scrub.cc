#include "scrub.h"

#include <algorithm>
#include <cstring>

#include "advice.h"

namespace walmirror {
namespace {

/// What cannot be read: neither zeros nor a header nor a batch.
constexpr int kUnreadable = 0xff;
/// One read of a scrub that has nothing to be gentle to.
constexpr uint64_t kFullStep = 1u << 20;

}  // namespace

Scrub::Scrub(const LogIdentity& identity, SegmentSource& segments, Pace pace, uint64_t step)
    : identity_(identity), segments_(segments), pace_(std::move(pace)), step_(step) {}

void Scrub::start(const Chain& chain, bool linked) {
  finish();
  chain_ = chain;
  linked_ = linked;
  viewed_number_ = UINT64_MAX;
}

void Scrub::read(uint64_t number, uint64_t offset, uint8_t* out, uint64_t size) {
  try {
    segments_.read(number, offset, out, size);
    return;
  } catch (const WalFailure& failure) {
    if (failure.code != "WAL_IO") throw;
  }
  if (size == kBlock) {
    std::memset(out, kUnreadable, size);
    return;
  }
  // Which blocks it is, so that no more is given up than has to be.
  for (uint64_t at = 0; at < size; at += kBlock) read(number, offset + at, out + at, kBlock);
}

const uint8_t* Scrub::view(uint64_t number, uint64_t offset, uint64_t need, uint64_t& available) {
  need = std::min(need, identity_.segment_bytes - offset);
  if (number != viewed_number_ || offset < viewed_from_ ||
      offset + need > viewed_from_ + viewed_size_) {
    uint64_t from = align_down(offset, kBlock);
    uint64_t want = std::min(std::max(step_, align_up(offset + need, kBlock) - from),
                             identity_.segment_bytes - from);
    buffer_.reserve(want);
    viewed_number_ = UINT64_MAX;
    for (uint64_t at = 0; at < want; at += step_) {
      uint64_t size = std::min(step_, want - at);
      if (!pace_(number * identity_.segment_bytes + from + at, size)) throw Stopped{};
      read(number, from + at, buffer_.data() + at, size);
    }
    viewed_number_ = number;
    viewed_from_ = from;
    viewed_size_ = want;
  }
  available = viewed_from_ + viewed_size_ - offset;
  return buffer_.data() + (offset - viewed_from_);
}

/// By what came before it or, where that is lost, by itself: it then says what came before.
bool Scrub::header_verifies(uint64_t number, std::string& reason) {
  uint64_t available;
  const uint8_t* bytes = view(number, 0, kSegmentHeaderBytes, available);
  const char* why;
  if (!check_segment_header(bytes, &why)) {
    reason = why;
    return false;
  }
  SegmentHeader header;
  std::memcpy(&header, bytes, sizeof header);
  uint64_t lsn = linked_ ? chain_.lsn : header.first_lsn - 1;
  uint32_t crc = linked_ ? chain_.crc : header.prev_crc;
  uint8_t expected[kSegmentHeaderBytes];
  make_segment_header(identity_, number * identity_.segment_bytes, lsn, crc, expected);
  if (std::memcmp(bytes, expected, kSegmentHeaderBytes) != 0) {
    reason = "segment header does not continue the log";
    return false;
  }
  anchor(lsn, crc);
  return true;
}

bool Scrub::batch_verifies(const Chain& at, bool linked, BatchHeader& header, std::string& reason) {
  uint64_t need = kBatchHeaderBytes;
  for (;;) {
    uint64_t available;
    const uint8_t* bytes = view(identity_.segment_of(at.position),
                                at.position % identity_.segment_bytes, need, available);
    Check check = check_batch(identity_, at, bytes, available, linked);
    if (check.verdict == Verdict::kValid) {
      std::memcpy(&header, bytes, sizeof header);
      return true;
    }
    if (check.verdict == Verdict::kBad) {
      reason = check.reason;
      return false;
    }
    if (check.need <= need && available < check.need) {
      reason = "the segment ends inside a batch";
      return false;
    }
    need = check.need;
  }
}

bool Scrub::rest_is_zero(const BatchHeader& filler) {
  uint64_t end = identity_.segment_end(filler.position);
  for (uint64_t at = filler.position + filler.length; at < end;) {
    uint64_t available;
    const uint8_t* bytes =
        view(identity_.segment_of(at), at % identity_.segment_bytes, 1, available);
    uint64_t size = std::min(available, end - at);
    if (!all_zero(bytes, size)) return false;
    at += size;
  }
  return true;
}

uint64_t Scrub::find_batch(uint64_t number, uint64_t from, uint64_t to,
                           const std::function<bool(const BatchHeader&)>& wanted) {
  for (uint64_t at = from; at + kBatchHeaderBytes <= to;) {
    uint64_t available;
    const uint8_t* bytes = view(number, at % identity_.segment_bytes, kBatchHeaderBytes, available);
    uint64_t whole = std::min(available, to - at);
    BatchHeader header{};
    uint64_t i = 0;
    for (; i + kBatchHeaderBytes <= whole; i += identity_.align) {
      uint32_t magic;
      std::memcpy(&magic, bytes + i, sizeof magic);
      if (magic != kBatchMagic) continue;
      std::memcpy(&header, bytes + i, sizeof header);
      if (header.position == at + i && wanted(header)) break;
      header = {};
    }
    at += i;
    if (header.magic != kBatchMagic) continue;
    Chain alone;
    alone.position = at;
    std::string reason;
    if (batch_verifies(alone, false, header, reason)) return at;
    at += identity_.align;
  }
  return to;
}

uint64_t Scrub::later_watermark(const Id& node_id) {
  uint64_t latest = 0;
  uint64_t candidate = 0;
  auto proves = [&](const BatchHeader& header) {
    bool ours = is_framed_by(node_id, header);
    candidate = header.watermark;
    return ours && candidate > std::max(latest, chain_.position) && may_follow(header);
  };
  uint64_t from = chain_.position + identity_.align;
  for (uint64_t number = identity_.segment_of(chain_.position); number <= segments_.last_number();
       number++) {
    if (!segments_.holds(number)) continue;
    uint64_t start = number * identity_.segment_bytes;
    uint64_t end = start + identity_.segment_bytes;
    uint64_t at = std::max(from, start + kSegmentHeaderBytes);
    while ((at = find_batch(number, at, end, proves)) != end) {
      latest = candidate;
      at += identity_.align;
    }
  }
  return latest;
}

bool Scrub::may_follow(const BatchHeader& header) const {
  Term term{header.epoch, header.opener, header.incarnation};
  return header.first_lsn > chain_.lsn && term_may_follow(chain_.term, term);
}

/// The log is whole here again, and what lies before the chain's position is known.
void Scrub::anchor(uint64_t lsn, uint32_t crc) {
  chain_.lsn = lsn;
  chain_.crc = crc;
  linked_ = true;
  if (!open_) return;
  for (DamagedRange& range : open_->ranges) range.last_lsn = lsn;
  if (!open_->linked && open_->before.position == chain_.position) {
    // No batch is lost: only a header, which what follows it tells.
    open_->before.lsn = lsn;
    open_->before.crc = crc;
    open_->linked = true;
  }
  damage_.push_back(std::move(*open_));
  open_.reset();
}

void Scrub::lose(DamagedRange::Part part, uint64_t from, uint64_t to, const std::string& reason) {
  if (damage_.size() >= kMostDamage) {
    throw WalFailure("WAL_CORRUPT",
                     "more than " + std::to_string(kMostDamage) + " ranges are damaged")
        .at(segments_.path(identity_.segment_of(from)), from % identity_.segment_bytes,
            chain_.lsn + 1)
        .advise("Restore this copy as a whole, from a standby or a backup.");
  }
  if (!open_) open_ = Damage{{}, chain_, linked_};
  std::string file = segments_.path(identity_.segment_of(from));
  if (!open_->ranges.empty()) {
    DamagedRange& last = open_->ranges.back();
    if (last.to == from && last.file == file && last.part == DamagedRange::Part::kHeader) {
      last.to = to;
      last.part = part;
      return;
    }
  }
  uint64_t lsn = open_->before.lsn;
  open_->ranges.push_back({part, file, from, to, lsn + 1, lsn, reason});
}

void Scrub::take(const BatchHeader& header) {
  if (!linked_ || open_) anchor(header.first_lsn - 1, header.prev_crc);
  advance(identity_, chain_, header);
  batches_++;
  records_ += header.count;
}

void Scrub::segment(uint64_t stop, const std::optional<Place>& known) {
  using Part = DamagedRange::Part;
  uint64_t number = identity_.segment_of(chain_.position);
  uint64_t start = number * identity_.segment_bytes;
  uint64_t end = std::min(start + identity_.segment_bytes, stop);
  bool stops = end == stop;
  auto skip_to = [&](uint64_t position) {
    linked_ = false;
    chain_.position = position < end || stops ? position : end + kSegmentHeaderBytes;
  };
  if (!segments_.holds(number)) {
    lose(Part::kSegment, start, end, "the segment is missing");
    skip_to(end);
    return;
  }
  std::string reason;
  if (chain_.position == start + kSegmentHeaderBytes && !header_verifies(number, reason))
    lose(Part::kHeader, start, start + kSegmentHeaderBytes, reason);
  while (chain_.position < end) {
    BatchHeader header;
    uint64_t from = chain_.position;
    bool valid = batch_verifies(chain_, linked_, header, reason);
    uint64_t next = 0;
    if (valid && known && batch_end(identity_, header) == known->position &&
        header.crc != known->crc) {
      valid = false;
      reason = "the control file knows another batch there";
      next = end;
    }
    if (!valid) {
      auto plausible = [this](const BatchHeader& later) { return may_follow(later); };
      if (next == 0) next = find_batch(number, from + identity_.align, end, plausible);
      lose(Part::kBatches, from, next, reason);
      skip_to(next);
      continue;
    }
    take(header);
    if (!is_filler(header)) continue;
    if (!rest_is_zero(header)) {
      lose(Part::kZeros, from + header.length, start + identity_.segment_bytes,
           "bytes after the filler are not zero");
    }
    return;
  }
}

void Scrub::header() {
  uint64_t number = identity_.segment_of(chain_.position);
  uint64_t start = number * identity_.segment_bytes;
  std::string reason = "the segment is missing";
  if (segments_.holds(number) && header_verifies(number, reason)) return;
  lose(DamagedRange::Part::kHeader, start, start + kSegmentHeaderBytes, reason);
}

bool Scrub::advance_if_valid() {
  uint64_t number = identity_.segment_of(chain_.position);
  if (!segments_.holds(number)) return false;
  std::string reason;
  if (chain_.position == number * identity_.segment_bytes + kSegmentHeaderBytes &&
      !header_verifies(number, reason)) {
    return false;
  }
  BatchHeader header;
  if (!batch_verifies(chain_, linked_, header, reason)) return false;
  if (is_filler(header) && !rest_is_zero(header)) return false;
  take(header);
  return true;
}

bool Scrub::next_verifies() {
  uint64_t number = identity_.segment_of(chain_.position);
  if (!segments_.holds(number)) return false;
  std::string reason;
  BatchHeader header;
  bool at_first = chain_.position == number * identity_.segment_bytes + kSegmentHeaderBytes;
  if (at_first && header_verifies(number, reason)) return true;
  return batch_verifies(chain_, linked_, header, reason);
}

void Scrub::arrive(const Place& known) {
  if (!linked_ && chain_.position == known.position) anchor(known.lsn, known.crc);
}

void Scrub::finish() {
  if (open_) damage_.push_back(std::move(*open_));
  open_.reset();
}

namespace {

struct Scrubbed {
  ScrubReport report;
  uint64_t proven;  // as durable, by a batch behind the end; 0: nothing
};

/// `known`: the place at `durable`, where something says it.
Scrubbed scrub_up_to(uint64_t durable, const std::optional<Place>& known,
                     const LogIdentity& identity, SegmentSource& segments, const Control& control,
                     Scrub::Pace pace) {
  Scrub scrub(identity, segments, std::move(pace), kFullStep);
  Chain from;
  from.position = identity.segment_start(control.start_position) + kSegmentHeaderBytes;
  from.lsn = control.start_lsn;
  for (const HistoryEntry& entry : control.history) {
    if (entry.position < from.position) from.term = entry.term;
  }
  scrub.start(from, from.position == kFirstBatch);
  while (scrub.chain().position < durable) scrub.segment(durable, known);
  if (known) scrub.arrive(*known);
  while (scrub.advance_if_valid()) {
  }
  // As an opening would take it: what follows is a torn tail, unless something proves more.
  bool whole = control.clean || control.cut_under_way;
  uint64_t proven = whole ? 0 : scrub.later_watermark(control.node_id);
  scrub.finish();
  ScrubReport report;
  report.start = {from.position, from.lsn, 0};
  report.end = scrub.chain();
  report.durable = durable;
  report.batches = scrub.batches();
  report.records = scrub.records();
  report.damage = std::move(scrub.damage());
  return {std::move(report), proven};
}

}  // namespace

ScrubReport scrub_log(const LogIdentity& identity, SegmentSource& segments, const Control& control,
                      Scrub::Pace pace) {
  uint64_t durable = control.watermark.position;
  std::optional<Place> known = control.watermark;
  for (;;) {
    auto [report, proven] = scrub_up_to(durable, known, identity, segments, control, pace);
    if (proven <= durable) return std::move(report);
    durable = proven;
    known.reset();
  }
}

LogIdentity identity_of(const Control& control) {
  return {control.log_id, control.salt, control.segment_bytes, control.align};
}

Control read_control(FileSystem& files, const std::string& directory) {
  if (!files.exists(directory))
    throw WalFailure("WAL_NOT_FOUND", "there is no log in " + directory);
  std::unique_ptr<ControlFile> control = ControlFile::open(files, directory, true);
  if (control != nullptr) return control->current();
  for (const std::string& name : files.list(directory)) {
    if (!name.ends_with(".wal")) continue;
    throw WalFailure("WAL_CORRUPT", directory + "/control is missing beside segments")
        .at(directory + "/control", 0, 0)
        .advise(kRestoreControl);
  }
  throw WalFailure("WAL_NOT_FOUND", "there is no log in " + directory);
}

std::vector<Damage> wrong_lengths(const LogIdentity& identity, const SegmentFiles& segments) {
  std::vector<Damage> all;
  for (const SegmentFiles::WrongLength& wrong : segments.wrong_lengths()) {
    uint64_t start = wrong.number * identity.segment_bytes;
    uint64_t end = start + identity.segment_bytes;
    uint64_t from = std::min(start + wrong.size, end);
    all.push_back({{{DamagedRange::Part::kLength, wrong.path, from, end, 0, 0,
                     "the file is not as long as a segment: it was cut, or grew"}},
                   {},
                   false});
  }
  return all;
}

ScrubReport scrub_directory(std::shared_ptr<FileSystem> files, const std::string& directory,
                            const std::function<bool(uint64_t position, uint64_t of)>& progress) {
  Control control = read_control(*files, directory);
  LogIdentity identity = identity_of(control);
  SegmentFiles segments(files, directory, identity, control.start_position);
  ScrubReport report = scrub_log(identity, segments, control, [&](uint64_t position, uint64_t) {
    return progress(position, std::max(position, control.watermark.position));
  });
  std::vector<Damage> wrong = wrong_lengths(identity, segments);
  report.damage.insert(report.damage.begin(), wrong.begin(), wrong.end());
  return report;
}

}  // namespace walmirror
