#include "recovery.h"

#include <algorithm>
#include <cstring>

#include "planted.h"

namespace walmirror {
namespace {

/// Large enough for the rate of the device, when all since the last watermark is read.
constexpr uint64_t kReadAhead = 4u << 20;

[[noreturn]] void corrupt(const Walker& walker, const std::string& why) {
  throw WalFailure("WAL_CORRUPT", walker.file() + " at offset " + std::to_string(walker.offset()) +
                                      ": " + walker.reason() + ", and " + why)
      .at(walker.file(), walker.offset(), walker.chain().lsn + 1);
}

/// A batch past `bad` that this node framed when the bytes at `bad` were already durable
/// (SAFETY 6.1, 6.2). Stale batches of cut histories cannot say that: what they call durable was
/// valid when the cut was made.
class ProofSearch {
 public:
  ProofSearch(const LogIdentity& identity, const Segments& segments, const Control& control,
              const Chain& end)
      : identity_(identity), segments_(segments), control_(control), end_(end) {}

  bool found(uint64_t reach) {
    uint64_t last = identity_.segment_of(end_.position + reach);
    for (uint64_t number = identity_.segment_of(end_.position); number <= last; number++) {
      std::shared_ptr<Segment> segment = segments_.find(number);
      if (segment == nullptr) {
        if (found_in_unreadable(number, reach)) return true;
        continue;
      }
      if (found_in(segment, reach)) return true;
    }
    return false;
  }

 private:
  /// A file whose header is damaged may be the segment that seems not to be there.
  bool found_in_unreadable(uint64_t number, uint64_t reach) {
    for (const std::shared_ptr<Segment>& file : segments_.unreadable(number)) {
      if (found_in(file, reach)) return true;
    }
    return false;
  }

  bool found_in(const std::shared_ptr<Segment>& segment, uint64_t reach) {
    uint64_t start = segment->number * identity_.segment_bytes;
    uint64_t from = std::max(start + kSegmentHeaderBytes, end_.position + 8);
    uint64_t to =
        std::min(start + identity_.segment_bytes, align_up(end_.position + reach, kBlock));
    return from < to && search(segment, from, to);
  }

  bool search(const std::shared_ptr<Segment>& segment, uint64_t from, uint64_t to) {
    SegmentWindow window(kReadAhead);
    for (uint64_t at = from; at < to;) {
      uint64_t available;
      const uint8_t* bytes =
          window.view(segment, identity_.segment_bytes, at % identity_.segment_bytes,
                      kBatchHeaderBytes, available);
      uint64_t whole = available < kBatchHeaderBytes ? 0 : available - kBatchHeaderBytes;
      uint64_t limit = std::min(whole, to - at);
      for (uint64_t i = 0; i <= limit; i += 8) {
        uint32_t magic;
        std::memcpy(&magic, bytes + i, sizeof magic);
        if (magic == kBatchMagic && proves(segment, at + i, bytes + i)) return true;
      }
      at += limit + 8;
      if (whole == 0) break;
    }
    return false;
  }

  bool proves(const std::shared_ptr<Segment>& segment, uint64_t position, const uint8_t* bytes) {
    BatchHeader header;
    std::memcpy(&header, bytes, sizeof header);
    if (header.position != position || header.watermark <= end_.position) return false;
    if (!is_framed_by(control_.node_id, header)) return false;
    if (!term_may_follow(end_.term, {header.epoch, header.opener, header.incarnation}))
      return false;
    SegmentWindow window(256u << 10);
    uint64_t available;
    const uint8_t* all = window.view(segment, identity_.segment_bytes,
                                     position % identity_.segment_bytes, header.length, available);
    Chain chain;
    chain.position = position;
    return check_batch(identity_, chain, all, available, false).verdict == Verdict::kValid;
  }

  const LogIdentity& identity_;
  const Segments& segments_;
  const Control& control_;
  const Chain& end_;
};

/// Walks from `walker` to the last valid batch, and makes sure that what follows was never durable.
class EndSearch {
 public:
  EndSearch(const LogIdentity& identity, Segments& segments, const Control& control, Walker& walker,
            EndOfLog& end, const std::function<void(const BatchHeader&)>& visit)
      : identity_(identity),
        segments_(segments),
        control_(control),
        walker_(walker),
        end_(end),
        visit_(visit) {}

  void run(uint64_t reach) {
    uint64_t from = walker_.chain().position;
    end_.durable = control_.watermark.position;
    do {
      walk();
      end_.chain = walker_.chain();
    } while (goes_on(reach));
    end_.reason = walker_.reason();
    end_.torn_bytes = last_ == Step::kBad ? walker_.torn_bytes() : 0;
    end_.scanned_bytes = end_.chain.position - from;
  }

 private:
  void walk() {
    while (!at_the_cut() && (last_ = walker_.next()) == Step::kBatch) take();
  }

  void take() {
    const BatchHeader& header = walker_.header();
    end_.last_wall_clock_us = std::max(end_.last_wall_clock_us, header.wall_clock_us);
    if (is_framed_by(control_.node_id, header))
      end_.durable = std::max(end_.durable, header.watermark);
    if (header.kind == static_cast<uint8_t>(Kind::kTermOpened)) {
      decode_history(walker_.bytes() + kBatchHeaderBytes, header.payload, end_.history);
    }
    note_term_of_filler(header, end_.history);
    if (walker_.chain().position == control_.watermark.position &&
        walker_.chain().crc != control_.watermark.crc) {
      corrupt(walker_, "the control file knows another batch there");
    }
    visit_(header);
  }

  bool at_the_cut() const {
    return control_.cut_under_way && walker_.chain().position >= control_.fork_position;
  }

  /// False: the log ends here. Throws where it must not.
  bool goes_on(uint64_t reach) {
    uint64_t durable = control_.watermark.position;
    bool below = end_.chain.position < durable && !PLANTED(cut_below_watermark);
    if (!below && (control_.cut_under_way || control_.clean)) return false;
    ProofSearch proof(identity_, segments_, control_, end_.chain);
    if (!below && (PLANTED(no_proof_sought) || !proof.found(reach))) return false;
    // Where another process works on the log, it may have written on since the bytes were read.
    walker_.refresh();
    if (!at_the_cut() && (last_ = walker_.next()) == Step::kBatch) {
      take();
      return true;
    }
    if (below) corrupt(walker_, "it was durable up to position " + std::to_string(durable));
    corrupt(walker_, "a later batch proves that it was durable");
  }

  const LogIdentity& identity_;
  Segments& segments_;
  const Control& control_;
  Walker& walker_;
  EndOfLog& end_;
  const std::function<void(const BatchHeader&)>& visit_;
  Step last_ = Step::kBatch;
};

void note_first_missing(const Segments& segments, const LogIdentity& identity,
                        const Control& control) {
  uint64_t first = identity.segment_of(control.start_position);
  uint64_t last = identity.segment_of(control.watermark.position - 1);
  for (uint64_t number = first; number <= last; number++) {
    if (segments.find(number) != nullptr || PLANTED(missing_segment_is_the_end)) continue;
    if (number == last &&
        control.watermark.position <= number * identity.segment_bytes + kSegmentHeaderBytes)
      continue;
    std::string path = segments.describe_missing(number);
    throw WalFailure("WAL_CORRUPT",
                     path + ": the segment is missing, or its header does not verify")
        .at(path, 0, 0)
        .advise("Put the file back, or restore this copy from a standby or a backup.");
  }
}

Chain start_of_segment(const LogIdentity& identity, const Segments& segments, uint64_t position,
                       const Control& control) {
  Chain chain;
  uint64_t number = identity.segment_of(position);
  chain.position = number * identity.segment_bytes + kSegmentHeaderBytes;
  if (std::shared_ptr<Segment> segment = segments.find(number)) {
    chain.lsn = segment->first_lsn - 1;
    chain.crc = segment->prev_crc;
  } else {
    // Only where nothing was ever written to the segment.
    chain.lsn = control.watermark.lsn;
    chain.crc = control.watermark.crc;
  }
  for (const HistoryEntry& entry : control.history) {
    if (entry.position < chain.position) chain.term = entry.term;
  }
  return chain;
}

}  // namespace

EndOfLog find_end(const LogIdentity& identity, Segments& segments, const Control& control,
                  uint64_t reach, bool note_index) {
  note_first_missing(segments, identity, control);
  EndOfLog end;
  end.history = control.history;
  end.last_wall_clock_us = control.wall_clock_us;
  Walker walker(identity, segments,
                start_of_segment(identity, segments, control.watermark.position, control), true,
                kReadAhead);
  std::function<void(const BatchHeader&)> visit = [&](const BatchHeader& header) {
    if (note_index) segments.note_batch({header.position, header.first_lsn - 1});
  };
  EndSearch(identity, segments, control, walker, end, visit).run(reach);
  return end;
}

EndOfLog verify_all(const LogIdentity& identity, Segments& segments, const Control& control,
                    uint64_t reach, const std::function<void(const BatchHeader&)>& visit) {
  note_first_missing(segments, identity, control);
  EndOfLog end;
  end.history = control.history;
  Walker walker(identity, segments,
                start_of_segment(identity, segments, control.start_position, control), true,
                kReadAhead);
  EndSearch(identity, segments, control, walker, end, visit).run(reach);
  return end;
}

}  // namespace walmirror
