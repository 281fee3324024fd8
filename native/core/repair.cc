#include "repair.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "planted.h"

namespace walmirror {
namespace {

using Part = DamagedRange::Part;

constexpr uint64_t kRepairStep = 1u << 20;
/// Bytes that do not verify, of one repair: no peer that goes on giving such holds it up for good.
constexpr int kMostRefused = 16;

}  // namespace

/// Writes bytes in a row into one file, durably; what lies beside them in their first and last
/// block stays.
class Repairer::BlockWriter {
 public:
  explicit BlockWriter(std::unique_ptr<File> file) : file_(std::move(file)), buffer_(kRepairStep) {}

  /// Continues what was added before.
  void add(uint64_t offset, const uint8_t* bytes, uint64_t size) {
    if (filled_ == 0) {
      start_ = align_down(offset, kBlock);
      filled_ = offset - start_;
      if (filled_ > 0) file_->read(start_, buffer_.data(), kBlock);
    }
    while (size > 0) {
      uint64_t piece = std::min(size, kRepairStep - filled_);
      if (bytes != nullptr) {
        std::memcpy(buffer_.data() + filled_, bytes, piece);
        bytes += piece;
      } else {
        std::memset(buffer_.data() + filled_, 0, piece);
      }
      filled_ += piece;
      size -= piece;
      if (filled_ == kRepairStep) write();
    }
  }

  void add_zeros(uint64_t offset, uint64_t size) { add(offset, nullptr, size); }

  /// Returns how many bytes were written in all.
  uint64_t finish() {
    uint64_t rest = filled_ % kBlock;
    if (rest > 0) {
      AlignedBuffer last = AlignedBuffer::zeroed(kBlock);
      try {
        file_->read(start_ + filled_ - rest, last.data(), kBlock);
      } catch (const WalFailure& failure) {
        // Nothing that verified lies in a block that cannot be read.
        if (failure.code != "WAL_IO") throw;
      }
      std::memcpy(buffer_.data() + filled_, last.data() + rest, kBlock - rest);
      filled_ += kBlock - rest;
    }
    if (filled_ > 0) write();
    return written_;
  }

 private:
  void write() {
    Slice slice{buffer_.data(), filled_};
    file_->write(start_, &slice, 1, true);
    written_ += filled_;
    start_ += filled_;
    filled_ = 0;
  }

  std::unique_ptr<File> file_;
  AlignedBuffer buffer_;
  uint64_t start_ = 0;
  uint64_t filled_ = 0;
  uint64_t written_ = 0;
};

bool Repairer::repair(Damage damage, std::string& why) {
  bool of_itself = std::all_of(damage.ranges.begin(), damage.ranges.end(), [](const auto& range) {
    return range.part == Part::kHeader || range.part == Part::kZeros;
  });
  Chain end = damage.before;
  crcs_.clear();
  refused_ = 0;
  if (of_itself) {
    if (!damage.linked) {
      why = "nothing that is whole tells what the header was";
      return false;
    }
  } else if (source_ == nullptr) {
    why = "it takes another copy of the log, and none was named";
    return false;
  } else if (!find_end(damage, end, why)) {
    return false;
  }
  if (!target_.dry_run) write(damage, end);
  whole_to_ = end.position;
  return true;
}

/// Whether the source has what the damaged batches were: from the last place that is whole on,
/// until what is here continues it.
bool Repairer::find_end(Damage& damage, Chain& at, std::string& why) {
  const Damage asked = damage;
  while (!find_end_once(damage, at, why)) {
    if (!ask_another()) return false;
    damage = asked;
    at = damage.before;
  }
  return true;
}

bool Repairer::ask_another() { return ++refused_ <= kMostRefused && source_->refuse(wrong_); }

bool Repairer::find_end_once(Damage& damage, Chain& at, std::string& why) {
  crcs_.clear();
  wrong_ = true;
  bool linked = damage.linked;
  uint64_t to = damage.ranges.back().to;
  for (;;) {
    if (at.position >= to) {
      bool is_known = target_.known && at.position == target_.known->position;
      if (is_known) {
        if (at.lsn == target_.known->lsn && at.crc == target_.known->crc) return true;
      } else if (goes_on(at)) {
        return true;
      }
      bool missing = !target_.segments->holds(target_.identity.segment_of(at.position));
      if (at.position >= target_.durable || missing) {
        // Whoever gave it is not to blame where what is here is damaged, or cannot be read.
        wrong_ = is_known || goes_on(at, false);
        why = "what " + source_->name() + " holds there is not what this log goes on from";
        return false;
      }
    }
    BatchHeader header;
    if (read_batch(at, linked, header, why) == nullptr) return false;
    if (!linked) {
      damage.before.crc = header.prev_crc;
      damage.linked = linked = true;
    }
    crcs_.push_back(header.crc);
    advance(target_.identity, at, header);
  }
}

/// Whether what is here behind `at` continues it or, not `linked`, is a batch at all.
bool Repairer::goes_on(const Chain& at, bool linked) {
  Scrub own(
      target_.identity, *target_.segments, [](uint64_t, uint64_t) { return true; }, kRepairStep);
  own.start(at, linked);
  return own.next_verifies();
}

/// nullptr: the source has no batch that continues `at`.
const uint8_t* Repairer::read_batch(const Chain& at, bool linked, BatchHeader& header,
                                    std::string& why) {
  const std::string name = source_->name();
  uint64_t need = kBatchHeaderBytes;
  for (;;) {
    uint64_t available;
    const uint8_t* bytes;
    try {
      bytes = source_->view(at.position, need, available);
    } catch (const WalFailure& failure) {
      why = failure.what();
      return nullptr;
    }
    Check check = check_batch(target_.identity, at, bytes, available, linked);
    if (check.verdict == Verdict::kShort && (check.need > need || available >= check.need)) {
      need = check.need;
      continue;
    }
    if (PLANTED(repaired_unverified) && std::strstr(check.reason, "checksum") != nullptr)
      check = {Verdict::kValid};
    bool valid = check.verdict == Verdict::kValid;
    if (valid) std::memcpy(&header, bytes, sizeof header);
    if (valid && (linked || header.first_lsn == at.lsn + 1)) return bytes;
    bool alone =
        check_batch(target_.identity, at, bytes, available, false).verdict == Verdict::kValid;
    std::string where = name + " at position " + std::to_string(at.position);
    why = alone ? where + " holds another history: its batch does not continue this log"
                : where + " holds no batch that verifies: it ends before, or is damaged too";
    return nullptr;
  }
}

void Repairer::read_what_is_there(uint64_t number, uint64_t offset, uint8_t* out, uint64_t size) {
  try {
    target_.segments->read(number, offset, out, size);
  } catch (const WalFailure& failure) {
    if (failure.code != "WAL_IO") throw;
    std::memset(out, 0, size);
    if (size == kBlock) return;
    for (uint64_t at = 0; at < size; at += kBlock)
      read_what_is_there(number, offset + at, out + at, kBlock);
  }
}

/// Whether the position lies in a damaged range, or in a segment that is missing.
static bool covers(const Damage& damage, uint64_t position, bool whole_segment) {
  return std::any_of(damage.ranges.begin(), damage.ranges.end(), [&](const auto& range) {
    return range.from <= position && position < range.to &&
           (!whole_segment || range.part == Part::kSegment);
  });
}

void Repairer::write(const Damage& damage, const Chain& end) {
  for (const DamagedRange& range : damage.ranges) {
    if (range.part != Part::kZeros) continue;
    open(target_.identity.segment_of(range.from), false, damage.before);
    writer_->add_zeros(range.from % target_.identity.segment_bytes, range.to - range.from);
    finish_file();
  }
  Chain at = damage.before;
  nth_ = 0;
  for (;;) {
    uint64_t start = target_.identity.segment_start(at.position);
    bool at_first = at.position == start + kSegmentHeaderBytes;
    if (at_first && covers(damage, start, false)) {
      open(target_.identity.segment_of(start), covers(damage, start, true), at);
      add_header(at);
    }
    if (at.position >= end.position) break;
    write_batch(at);
  }
  if (fresh_ || (damage.ranges.back().to >= target_.durable && !goes_on(at))) write_more(at);
  finish_file();
}

void Repairer::add_header(const Chain& at) {
  uint8_t header[kSegmentHeaderBytes];
  make_segment_header(target_.identity, target_.identity.segment_start(at.position), at.lsn, at.crc,
                      header);
  writer_->add(0, header, sizeof header);
}

void Repairer::write_batch(Chain& at) {
  BatchHeader header;
  std::string why;
  const uint8_t* bytes = read_batch(at, true, header, why);
  while (bytes == nullptr || (nth_ < crcs_.size() && header.crc != crcs_[nth_] &&
                              !PLANTED(repaired_from_another_reading))) {
    // It was there a moment ago.
    if (why.empty()) why = source_->name() + " gives other bytes than it gave before";
    if (!ask_another()) throw WalFailure("WAL_CORRUPT", why);
    bytes = read_batch(at, true, header, why);
  }
  nth_++;
  uint64_t segment_bytes = target_.identity.segment_bytes;
  if (writer_ == nullptr) open(target_.identity.segment_of(at.position), false, at);
  uint64_t offset = at.position % segment_bytes;
  writer_->add(offset, bytes, header.length);
  if (is_filler(header)) {
    uint64_t from = offset + header.length;
    if (from < segment_bytes) writer_->add_zeros(from, segment_bytes - from);
    finish_file();
  }
  advance(target_.identity, at, header);
}

/// The end of the log was lost: no watermark says how far it went. What the source has
/// of it is kept, so that nothing is lost that some disk still holds.
void Repairer::write_more(Chain at) {
  if (!target_.keep_more || source_ == nullptr) return;
  uint64_t number = target_.identity.segment_of(at.position);
  BatchHeader header;
  std::string why;
  while (target_.identity.segment_of(at.position) == number) {
    if (read_batch(at, true, header, why) == nullptr) break;
    // A term that this node has not stored is not for its log (SAFETY 2.2).
    Term term{header.epoch, header.opener, header.incarnation};
    if (!term_may_follow(term, *target_.keep_more)) break;
    bool at_first = at.position % target_.identity.segment_bytes == kSegmentHeaderBytes;
    if (at_first && writer_ == nullptr) {
      open(number, false, at);
      add_header(at);
    }
    write_batch(at);
  }
  finish_file();
}

void Repairer::open(uint64_t number, bool whole_segment, const Chain& at) {
  finish_file();
  if (whole_segment) {
    uint64_t start = number * target_.identity.segment_bytes;
    open_fresh(target_.directory + "/" + segment_file_name(start, at.lsn + 1));
  } else {
    path_ = target_.segments->path(number);
    writer_ = std::make_shared<BlockWriter>(target_.files->open(path_, OpenMode::kReadWrite, true));
  }
}

/// A file that appears whole or not at all: until then it has a name that no opening looks at.
void Repairer::open_fresh(const std::string& path) {
  path_ = path;
  fresh_ = true;
  target_.files->remove(path_ + ".new");
  std::unique_ptr<File> file = target_.files->open(path_ + ".new", OpenMode::kCreate, true);
  file->allocate(target_.identity.segment_bytes);
  file->sync();
  writer_ = std::make_shared<BlockWriter>(std::move(file));
}

void Repairer::finish_file() {
  if (writer_ == nullptr) return;
  written_bytes_ += writer_->finish();
  writer_.reset();
  if (!fresh_) return;
  fresh_ = false;
  target_.files->rename(path_ + ".new", path_);
  target_.files->sync_directory(target_.directory);
}

void Repairer::mend_length(uint64_t number) {
  open_fresh(target_.segments->path(number));
  AlignedBuffer piece(kRepairStep);
  for (uint64_t at = 0; at < target_.identity.segment_bytes; at += kRepairStep) {
    uint64_t size = std::min(kRepairStep, target_.identity.segment_bytes - at);
    read_what_is_there(number, at, piece.data(), size);
    writer_->add(at, piece.data(), size);
  }
  finish_file();
}

namespace {

class DirectoryRepair {
 public:
  DirectoryRepair(std::shared_ptr<FileSystem> files, const RepairOptions& options,
                  const Control& control)
      : files_(std::move(files)),
        options_(options),
        control_(control),
        identity_(identity_of(control)),
        repairer_(target(), options.source) {}

  RepairReport run() {
    load();
    mend_lengths();
    // What one damage hides is looked for when it is gone.
    for (bool first = true;; first = false) {
      load();
      ScrubReport found = scrub_log(identity_, *segments_, control_, [&](uint64_t at, uint64_t) {
        return options_.progress(at, std::max(at, control_.watermark.position));
      });
      repairer_.change_target(*segments_, found.durable);
      behind_ = 0;
      uint64_t written_before = repairer_.written_bytes();
      for (const Damage& damage : found.damage) attempt(damage);
      Chain end = found.end;
      if (first) report_.before = std::move(found);
      if (repairer_.written_bytes() != written_before) continue;
      if (mended_.contains(identity_.segment_of(end.position))) repairer_.write_more(end);
      report_.written_bytes = repairer_.written_bytes();
      return std::move(report_);
    }
  }

 private:
  RepairTarget target() const {
    RepairTarget target{files_, options_.directory, identity_, nullptr,
                        0,      control_.watermark, {},        options_.dry_run};
    if (!control_.clean && !control_.cut_under_way) target.keep_more = control_.term;
    return target;
  }

  void load() {
    segments_ = std::make_unique<SegmentFiles>(files_, options_.directory, identity_,
                                               control_.start_position);
    repairer_.change_target(*segments_, 0);
  }

  /// Each gets the length of a segment, with what it holds; what it lost is looked for after that.
  void mend_lengths() {
    for (const Damage& damage : wrong_lengths(identity_, *segments_)) {
      const DamagedRange& range = damage.ranges.front();
      report_.ranges.push_back({range, true, ""});
      if (options_.dry_run) continue;
      uint64_t number = identity_.segment_of(range.to - 1);
      repairer_.mend_length(number);
      mended_.insert(number);
    }
  }

  void attempt(const Damage& damage) {
    bool known = false;
    for (RepairedRange& done : report_.ranges) {
      if (done.range.part == Part::kLength) continue;
      bool same = std::any_of(damage.ranges.begin(), damage.ranges.end(), [&](const auto& range) {
        return range.from < done.range.to && range.to > done.range.from;
      });
      if (!same) continue;
      known = true;
      if (!done.repaired) continue;
      done.repaired = false;
      done.reason = "it was written again, and still does not verify";
    }
    if (known) return;
    std::string why;
    // What was written last may have gone on past this: it shows next time.
    bool repaired = damage.ranges.back().to <= behind_ || repairer_.repair(damage, why);
    if (repaired) behind_ = repairer_.whole_to();
    for (const DamagedRange& range : damage.ranges)
      report_.ranges.push_back({range, repaired, repaired ? "" : why});
  }

  std::shared_ptr<FileSystem> files_;
  const RepairOptions& options_;
  Control control_;
  LogIdentity identity_;
  std::unique_ptr<SegmentFiles> segments_;
  Repairer repairer_;
  RepairReport report_;
  uint64_t behind_ = 0;        // the last repair of this turn
  std::set<uint64_t> mended_;  // segments whose file had a wrong length
};

}  // namespace

DirectorySource::DirectorySource(std::shared_ptr<FileSystem> files, const std::string& directory,
                                 const Control& control)
    : directory_(directory), identity_(identity_of(control)) {
  try {
    Control other = read_control(*files, directory);
    if (other.log_id != control.log_id || other.salt != control.salt) {
      throw WalFailure("WAL_NOT_A_LOG",
                       directory + " holds another log: only a copy of this one can repair it");
    }
  } catch (const WalFailure& failure) {
    // Without a control file its segments still say of which log they are.
    if (failure.code != "WAL_CORRUPT") throw;
  }
  segments_ = std::make_unique<SegmentFiles>(std::move(files), directory, identity_,
                                             control.start_position);
}

const uint8_t* DirectorySource::view(uint64_t from, uint64_t need, uint64_t& available) {
  uint64_t end = identity_.segment_end(from);
  need = std::min(need, end - from);
  if (from < from_ || from + need > from_ + size_) {
    uint64_t number = identity_.segment_of(from);
    if (!segments_->holds(number))
      throw WalFailure("WAL_LSN_GONE", segments_->path(number) + " is missing there too");
    from_ = align_down(from, kBlock);
    size_ = std::min(std::max(kRepairStep, align_up(from + need, kBlock) - from_), end - from_);
    buffer_.reserve(size_);
    try {
      segments_->read(number, from_ % identity_.segment_bytes, buffer_.data(), size_);
    } catch (...) {
      size_ = 0;
      throw;
    }
  }
  available = from_ + size_ - from;
  return buffer_.data() + (from - from_);
}

RepairReport repair_directory(std::shared_ptr<FileSystem> files, const RepairOptions& options) {
  if (!files->prepare_directory(options.directory, false))
    throw WalFailure("WAL_NOT_FOUND", "there is no log in " + options.directory);
  read_control(*files, options.directory);  // before a lock file is made where no log is
  std::unique_ptr<DirectoryLock> lock = files->lock(options.directory + "/lock");
  Control control = read_control(*files, options.directory);
  return DirectoryRepair(files, options, control).run();
}

}  // namespace walmirror
