// Opening: create or recover, rewrite the tail, start the threads (SAFETY 5.4, 6).
#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "copy_opening.h"
#include "log.h"
#include "planted.h"

namespace walmirror {
namespace {

Control fresh_control(const LogOptions& options, Surroundings& surroundings) {
  // The largest record, or the longest history, beside a filler.
  uint64_t least = kSegmentHeaderBytes + kBatchHeaderBytes +
                   record_bytes(options.max_record_bytes) + 3 * kBlock +
                   (options.padded ? 2 * kBlock : 0);
  if (options.max_record_bytes > kMaxRecordBytes || options.segment_bytes % kBlock != 0 ||
      options.segment_bytes < align_up(least, kBlock)) {
    throw WalFailure("WAL_UNSUPPORTED", "a segment of " + std::to_string(options.segment_bytes) +
                                            " bytes cannot hold the largest record (" +
                                            std::to_string(options.max_record_bytes) + " bytes)")
        .advise("Pass segmentBytes: a multiple of 4096, at least " +
                std::to_string(align_up(least, kBlock)) + ".");
  }
  Control control;
  surroundings.random(control.node_id.data(), control.node_id.size());
  surroundings.random(control.log_id.data(), control.log_id.size());
  surroundings.random(&control.salt, sizeof control.salt);
  if (options.log_id) control.log_id = *options.log_id;
  if (options.salt) control.salt = *options.salt;
  control.segment_bytes = options.segment_bytes;
  control.max_record_bytes = options.max_record_bytes;
  control.align = options.padded ? kBlock : 8;
  control.role = options.role;
  control.name = options.name;
  control.clean = true;
  control.watermark = {kFirstBatch, 0, 0};
  control.commit = {kFirstBatch, 0, 0};
  return control;
}

}  // namespace

/// The ring holds the largest record beside what a roll may need before it: the zeros that end a
/// segment are fewer than a record is long.
uint64_t Log::ring_size(uint64_t asked, uint64_t max_record_bytes) {
  return std::bit_ceil(std::max<uint64_t>(asked, 2 * max_record_bytes + (64u << 10)));
}

std::unique_ptr<Log> Log::open(const LogOptions& options, std::shared_ptr<FileSystem> files,
                               std::function<void()> progress,
                               std::shared_ptr<Surroundings> surroundings) {
  auto began = surroundings->now();
  std::unique_ptr<Log> log(new Log());
  log->surroundings_ = std::move(surroundings);
  log->files_ = std::move(files);
  log->directory_ = options.directory;
  log->progress_ = std::move(progress);
  for (auto& pin : log->pins_) pin.store(UINT64_MAX);
  log->create_or_open(options);
  log->recover(options);
  log->fill_new_copies();
  log->recovery_.milliseconds =
      std::chrono::duration<double, std::milli>(log->surroundings_->now() - began).count();
  log->make_scrubber();
  log->start_threads();
  return log;
}

void Log::create_or_open(const LogOptions& options) {
  if (!options.mirrors.empty()) {
    if (!surroundings_->has_threads())
      throw WalFailure("WAL_UNSUPPORTED", "a log without threads has one directory");
    open_several(options);
    return;
  }
  if (!files_->prepare_directory(directory_, options.create)) {
    throw WalFailure("WAL_NOT_FOUND", "there is no log in " + directory_);
  }
  if (!files_->exists(directory_ + "/control")) refuse_other_files(*files_, directory_, false);
  lock_ = files_->lock(directory_ + "/lock");
  control_ = ControlFile::open(*files_, directory_, false);
  if (control_ != nullptr) {
    open_alone(options);
    return;
  }
  create_log(options);
}

/// In a directory that is locked. One without a control file is fresh, or what a creation that
/// crashed left.
void Log::create_log(const LogOptions& options) {
  refuse_other_files(*files_, directory_, false);
  if (!options.create) throw WalFailure("WAL_NOT_FOUND", "there is no log in " + directory_);
  Control control = fresh_control(options, *surroundings_);
  LogIdentity identity{control.log_id, control.salt, control.segment_bytes, control.align};
  Segments segments(files_, directory_, identity, false);
  segments.load(kFirstBatch);
  // The first segment is written once before it is used: a first write to merely allocated blocks
  // has to change the file system's metadata, and a flush then waits for that.
  while (segments.prepare(1)) {
  }
  control_ = ControlFile::create(*files_, directory_, control);
  recovery_.created = true;
}

/// A peer's ring may have been larger than ours: what it sent before it was durable reaches as far.
uint64_t Log::recovery_reach(uint64_t ring_bytes, uint64_t segment_bytes) {
  return std::max(ring_bytes, segment_bytes) + segment_bytes;
}

void Log::recover(const LogOptions& options) {
  Control control = control_->current();
  identity_ = {control.log_id, control.salt, control.segment_bytes, control.align};
  node_id_ = control.node_id;
  max_record_bytes_ = control.max_record_bytes;
  ring_ = std::make_shared<Ring>(ring_size(options.ring_bytes, max_record_bytes_));
  max_batch_bytes_ = std::clamp<uint64_t>(options.max_batch_bytes, kBlock, ring_->size() / 4);
  batch_delay_ = std::chrono::milliseconds(std::max<uint32_t>(1, options.max_batch_delay_ms));
  tail_block_.reserve(kBlock);
  segments_ = std::make_unique<Segments>(files_, directory_, identity_, false);
  segments_->load(control.start_position);
  uint64_t reach = recovery_reach(ring_->size(), identity_.segment_bytes);
  EndOfLog end = find_end(identity_, *segments_, control, reach, true);
  recovery_.clean = control.clean;
  recovery_.scanned_bytes = end.scanned_bytes;
  recovery_.cut_bytes = end.torn_bytes;

  chain_ = end.chain;
  received_ = chain_.position;
  history_ = end.history;
  term_ = control.term;
  if (PLANTED(older_control_accepted)) term_ = chain_.term;
  if (chain_.term.epoch > term_.epoch ||
      (chain_.term.epoch == term_.epoch && chain_.term.incarnation > term_.incarnation)) {
    // SAFETY 2.2: the term is stored before a batch of it is written.
    throw WalFailure("WAL_CORRUPT",
                     directory_ +
                         "/control knows an older term than the log: one of them was put "
                         "back from elsewhere")
        .at(directory_ + "/control", 0, chain_.lsn)
        .advise("Put control file and segments of the same moment together again.");
  }
  commit_ = control.commit;
  if (commit_.position > chain_.position) commit_ = chain_.place();
  commit_exact_ = control.commit_exact;
  start_position_ = control.start_position;
  start_lsn_ = control.start_lsn;
  last_clock_us_ = end.last_wall_clock_us;
  wall_clock_us_.store(last_clock_us_);
  last_indexed_ = chain_.position;
  segments_->reclaim_unreadable();

  if (control.cut_under_way) finish_cut(chain_);
  segments_->drop_after(chain_.position);
  segments_->sync_names();
  // An opening that is stored in the control file and never reached the log did not happen.
  while (!history_.empty() && history_.back().position >= chain_.position) history_.pop_back();
  flushed_ = chain_.place();
  bool header_missing = segments_->find(identity_.segment_of(chain_.position)) == nullptr;
  uint64_t rewrite_from =
      control.clean ? chain_.position : std::min(control.watermark.position, chain_.position);
  // A watermark at the first batch of a segment says nothing of the segment's header, not even
  // after a clean close: it may have been written by an opening that was killed.
  bool at_first_batch = rewrite_from % identity_.segment_bytes == kSegmentHeaderBytes;
  if (at_first_batch) rewrite_from -= kSegmentHeaderBytes;
  uint64_t from =
      header_missing ? identity_.segment_start(chain_.position) : align_down(rewrite_from, kBlock);
  ring_valid_from_ = align_down(chain_.position, kBlock);
  if (header_missing) {
    // A roll whose new segment never reached the disk. Its header follows from the log.
    ring_valid_from_ = from;
    // The end of the segment before it may be in a cache only.
    if (!control.clean && rewrite_from < from)
      load_tail(align_down(rewrite_from, kBlock), from, true);
    make_segment_header(identity_, from, chain_.lsn, chain_.crc, ring_->at(from));
    while (!segments_->promise()) segments_->prepare(1);
    // With zeros after it: the spare may be the very file whose header was lost, and a batch that
    // survived in it would be a part of the log again, now that its header is back.
    std::memset(ring_->at(chain_.position), 0, kBlock);
    write_range(from, chain_.position + (PLANTED(stale_batch_comes_back) ? 0 : kBlock));
    recovery_.rewritten_bytes = kSegmentHeaderBytes;
  } else {
    load_tail(from, chain_.position, !control.clean || at_first_batch);
    if (!control.clean && chain_.position % kBlock == 0) forget_torn_batch();
  }
  flush_position_.store(chain_.position);
  stored_watermark_ = flushed_;
  control_->update(ControlFile::Copies::kBoth, [this](Control& next) {
    next.clean = false;
    next.cut_under_way = false;
    // Of records that a power loss took, and that others may come in the place of, nothing is kept.
    next.quorum_lsn = std::min(next.quorum_lsn, chain_.lsn);
    next.quorum_most_lsn = std::min(next.quorum_most_lsn, chain_.lsn);
    refresh_control(next);
  });
}

/// Where the log ends at a block, zeros in the next one, on every copy: else the first sector of a
/// batch that was torn, and zeros of the one that is written there next, could be a batch again.
/// Within a block the tail is followed by zeros anyway.
void Log::forget_torn_batch() {
  if (PLANTED(torn_batch_left)) return;
  AlignedBuffer zeros = AlignedBuffer::zeroed(kBlock);
  Slice slice{zeros.data(), kBlock};
  std::shared_ptr<Segment> segment = segments_->find(identity_.segment_of(chain_.position));
  segment->file()->write(chain_.position % identity_.segment_bytes, &slice, 1, true);
}

/// Leaves the last block before `to` in the ring, where the next flush continues it. `rewrite`:
/// [from, to) is written again as it was read, so that nothing rests on what a failed flush left in
/// a cache (SAFETY 5.4).
void Log::load_tail(uint64_t from, uint64_t to, bool rewrite) {
  AlignedBuffer piece(4u << 20);
  uint64_t last_block = align_down(to, kBlock);
  for (uint64_t at = rewrite ? from : last_block; at < to;) {
    std::shared_ptr<Segment> segment = segments_->find(identity_.segment_of(at));
    uint64_t end = std::min({identity_.segment_end(at), at + piece.size(), to});
    uint64_t size = align_up(end - at, kBlock);
    uint64_t offset = at % identity_.segment_bytes;
    segment->file()->read(offset, piece.data(), size);
    std::memset(piece.data() + (end - at), 0, size - (end - at));
    if (rewrite && !PLANTED(tail_not_rewritten)) {
      Slice slice{piece.data(), size};
      segment->file()->write(offset, &slice, 1, true);
      recovery_.rewritten_bytes += size;
    }
    if (end > last_block)
      std::memcpy(ring_->at(last_block), piece.data() + (last_block - at), end - last_block);
    at = end;
  }
}

void Log::start_threads() {
  started_ = true;
  lap_ends_ = flushed_.position + ring_->size();
  spares_told_ = segments_->spares_kept();
  if (!surroundings_->has_threads()) return;
  writer_ = std::thread([this] { writer_main(); });
  housekeeper_ = std::thread([this] { housekeeper_main(); });
  task_ = std::thread([this] { task_main(); });
  if (copies_ != nullptr) keeper_ = std::thread([this] { keeper_main(); });
}

}  // namespace walmirror
