// Writes anew what of a closed log does not verify, from bytes that do: from another copy, from a
// peer or, where it follows from the log, from the log itself.
//
// Nothing is written before all that takes the place of a damaged part was read and verified: it
// continues what is whole before it, batch by batch, and what is whole behind it continues it. Only
// right bytes are ever written, in place, so that a crash leaves a part repaired and the rest as
// damaged as it was; repairing again goes on from there.
#pragma once

#include "scrub.h"

namespace walmirror {

/// Where verified bytes may come from. They are verified by whoever asks, whatever it is.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  /// For messages.
  virtual std::string name() const = 0;
  /// Bytes from the batch boundary `from`, within its segment: `available` of them, at least `need`
  /// where it has so many. Valid until the next call. Throws WalFailure where it has none.
  virtual const uint8_t* view(uint64_t from, uint64_t need, uint64_t& available) = 0;
  /// What the last `view` gave cannot be used. `wrong`: it does not verify, or does not continue
  /// the log; otherwise it may be right, and what is here cannot tell. True: other bytes may be had
  /// for it, from the next `view` on.
  virtual bool refuse([[maybe_unused]] bool wrong) { return false; }
  /// Any thread: a `view` that waits, and every later one, throws.
  virtual void cancel() {}
};

/// Another directory with a copy of the same log: a mirror's, a standby's, a primary's. It is only
/// read; a process may have it open.
class DirectorySource : public BatchSource {
 public:
  /// Throws WAL_NOT_A_LOG where it holds another log, WAL_NOT_FOUND.
  DirectorySource(std::shared_ptr<FileSystem> files, const std::string& directory,
                  const Control& control);

  std::string name() const override { return directory_; }
  const uint8_t* view(uint64_t from, uint64_t need, uint64_t& available) override;

 private:
  std::string directory_;
  LogIdentity identity_;
  std::unique_ptr<SegmentFiles> segments_;
  AlignedBuffer buffer_;
  uint64_t from_ = 0;
  uint64_t size_ = 0;
};

/// The log whose damage is repaired.
struct RepairTarget {
  std::shared_ptr<FileSystem> files;
  std::string directory;
  LogIdentity identity;
  SegmentSource* segments = nullptr;
  /// Up to here it was durable.
  uint64_t durable = 0;
  /// A place that the log is known to go through.
  std::optional<Place> known;
  /// Where its end was lost: what the source has of it is kept too, of no later term.
  std::optional<Term> keep_more;
  bool dry_run = false;
};

/// Repairs one damage after the other.
class Repairer {
 public:
  /// `source` may be nullptr: then only what follows from the log itself can be repaired.
  Repairer(RepairTarget target, BatchSource* source)
      : target_(std::move(target)), source_(source) {}

  /// False: nothing was changed, and why not. Throws where the disk does not take it.
  bool repair(Damage damage, std::string& why);
  /// Writes what the source has of the log behind `end`, in the same segment.
  void write_more(Chain end);
  /// Puts a file of a segment's length, with what is there, in the place of one that is not.
  void mend_length(uint64_t number);

  void change_target(SegmentSource& segments, uint64_t durable) {
    target_.segments = &segments;
    target_.durable = durable;
  }
  /// Behind the last repair.
  uint64_t whole_to() const { return whole_to_; }
  uint64_t written_bytes() const { return written_bytes_; }

 private:
  class BlockWriter;

  bool find_end(Damage& damage, Chain& at, std::string& why);
  bool find_end_once(Damage& damage, Chain& at, std::string& why);
  bool ask_another();
  bool goes_on(const Chain& at, bool linked = true);
  const uint8_t* read_batch(const Chain& at, bool linked, BatchHeader& header, std::string& why);
  void read_what_is_there(uint64_t number, uint64_t offset, uint8_t* out, uint64_t size);
  void write(const Damage& damage, const Chain& end);
  void add_header(const Chain& at);
  void write_batch(Chain& at);
  void open(uint64_t number, bool whole_segment, const Chain& at);
  void open_fresh(const std::string& path);
  void finish_file();

  RepairTarget target_;
  BatchSource* source_;
  /// Of the batches that are to be written, in order: what is read again must be what verified.
  std::vector<uint32_t> crcs_;
  size_t nth_ = 0;
  int refused_ = 0;
  bool wrong_ = true;  // what was given last, rather than what is here to compare it with
  uint64_t whole_to_ = 0;
  uint64_t written_bytes_ = 0;
  std::shared_ptr<BlockWriter> writer_;
  std::string path_;
  bool fresh_ = false;  // the file that is written is not there under its name yet
};

struct RepairOptions {
  std::string directory;
  bool dry_run = false;
  /// May be nullptr: then only what follows from the log itself can be repaired.
  BatchSource* source = nullptr;
  /// How far reading the log is, of how far. False: stop.
  std::function<bool(uint64_t position, uint64_t of)> progress;
};

struct RepairedRange {
  DamagedRange range;
  /// Dry run: it could be.
  bool repaired = false;
  /// Why not.
  std::string reason;
};

struct RepairReport {
  ScrubReport before;
  /// One for each damaged range.
  std::vector<RepairedRange> ranges;
  uint64_t written_bytes = 0;
};

/// Holds the directory's lock meanwhile. Throws WAL_LOCKED, WAL_CORRUPT for a control file of which
/// no copy verifies; Scrub::Stopped.
RepairReport repair_directory(std::shared_ptr<FileSystem> files, const RepairOptions& options);

}  // namespace walmirror
