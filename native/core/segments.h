// The segment files of a directory: which exist, the spares that wait to become one, and a sparse
// index of each.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "batch.h"
#include "open_files.h"

namespace walmirror {

/// Where a batch starts, and the last LSN before it.
struct IndexEntry {
  uint64_t position;
  uint64_t lsn;
};

struct Segment {
  uint64_t number = 0;
  uint64_t first_lsn = 0;
  uint32_t prev_crc = 0;
  std::string path;
  std::shared_ptr<OpenFiles> files;
  std::weak_ptr<File> open;

  /// Opened where it is not, and open for as long as it is held.
  std::shared_ptr<File> file() { return files->get(path, open); }
};

/// A file that waits to become a segment. `written` bytes of it were once written, so that writing
/// them again needs no change of the file system's metadata.
struct Spare {
  std::string path;
  std::shared_ptr<File> file;
  std::weak_ptr<Segment> former;  // what the file was
  uint64_t written = 0;
  bool busy = false;
  bool unfillable = false;  // there is no space for zeros: a file system that copies on write
};

/// Thread-safe. A segment or spare that somebody reads (holds a pointer to) is never reused. The
/// owner of the log asks too: nothing is waited for under the lock, since a call to a disk may
/// hang. What renames and removes segments is for one thread at a time: the writer activates, the
/// task thread recycles and drops.
class Segments {
 public:
  Segments(std::shared_ptr<FileSystem> files, std::string directory, LogIdentity identity,
           bool read_only);

  /// Reads the header of every file. Those below `start` and those without a header become spares;
  /// foreign and doubled ones are refused (WAL_CORRUPT). What was never given its name is removed.
  void load(uint64_t start);

  /// Removes segment files without a header, once recovery has found that none of them is missed.
  void reclaim_unreadable();
  /// Files without a header, each as if it were this segment.
  std::vector<std::shared_ptr<Segment>> unreadable(uint64_t number) const;
  /// Flushes the directory: a process that was killed may have left files whose names are not
  /// durable.
  void sync_names();
  /// The file that ought to be this segment, for an error message.
  std::string describe_missing(uint64_t number) const;

  /// nullptr: there is none.
  std::shared_ptr<Segment> find(uint64_t number) const;
  /// The segment that holds this LSN or, for one not yet written, the last.
  std::shared_ptr<Segment> find_lsn(uint64_t lsn) const;
  uint64_t last_number() const;
  size_t count() const;
  size_t spare_count() const;
  /// Spares that ever came, never fewer: their number alone does not tell, as others are used.
  uint64_t spares_kept() const { return spares_kept_.load(std::memory_order_acquire); }
  bool direct() const { return direct_; }
  /// Spares that are promised to nobody. Grows at any time; only `promise` takes from it.
  size_t ready() const { return ready_.load(std::memory_order_acquire); }

  /// Whether so many are ready. If not, housekeeping is asked for them. Throws WAL_NO_SPACE where
  /// the disk is known to be full.
  bool want(size_t count);
  /// Promises a spare to the caller, who will `activate` it. False: none is ready; one is wanted.
  bool promise();
  /// Makes a promised spare the segment that this header (its first 4096 bytes) describes, and
  /// renames it.
  std::shared_ptr<Segment> activate(const SegmentHeader& header);

  /// One step of housekeeping: creates a spare, or writes zeros to a part of one. False: nothing to
  /// do. `target`: spares to have ready.
  bool prepare(size_t target);
  bool wanted() const;
  /// Whether there is a step to do towards `target`.
  bool lacks(size_t target) const;

  /// Turns all segments below `number` into spares, or removes them where there are enough.
  void recycle_below(uint64_t number);
  /// After a cut at `position`: zeroes the header of all later segments and removes them. What they
  /// hold must not come back in a segment of the same number, where it would look like a later part
  /// of the log.
  void drop_after(uint64_t position);

  void note_batch(const IndexEntry& entry);
  /// The last known batch start before this LSN (position), within the segment that holds it.
  IndexEntry nearest_lsn(const Segment& segment, uint64_t lsn) const {
    return nearest(segment, lsn, &IndexEntry::lsn);
  }
  IndexEntry nearest_position(const Segment& segment, uint64_t position) const {
    return nearest(segment, position, &IndexEntry::position);
  }
  /// The same in the whole log, where it is not before the position `floor`.
  std::optional<IndexEntry> last_before_lsn(uint64_t lsn, uint64_t floor) const {
    return last_before(lsn, &IndexEntry::lsn, floor);
  }
  std::optional<IndexEntry> last_before_position(uint64_t position, uint64_t floor) const {
    return last_before(position, &IndexEntry::position, floor);
  }
  void forget_index_from(uint64_t position);

  /// The segment's file was replaced by another: what is open is not it any more.
  void file_replaced(uint64_t number);

  /// Lets go of every file; nothing is read or written afterwards.
  void close_files();

  std::string name_of(uint64_t number, uint64_t first_lsn) const;

 private:
  IndexEntry nearest(const Segment& segment, uint64_t value, uint64_t IndexEntry::*by) const;
  std::optional<IndexEntry> last_before(uint64_t value, uint64_t IndexEntry::*by,
                                        uint64_t floor) const;
  std::shared_ptr<Segment> load_file(const std::string& name, uint64_t start);
  void keep_as_spare(std::string path, std::shared_ptr<File> file, uint64_t written);
  void hold_last();
  void hold(std::shared_ptr<File> file);
  std::shared_ptr<Segment> last_segment() const;
  void forget(uint64_t number);
  std::string next_spare_path();
  std::shared_ptr<Spare> take_spare();
  std::shared_ptr<Spare> pick_spare(std::unique_lock<std::mutex>& lock);
  void count_ready();

  std::shared_ptr<FileSystem> files_;
  std::shared_ptr<OpenFiles> open_files_;
  std::string directory_;
  LogIdentity identity_;
  bool read_only_;
  bool direct_ = true;
  mutable std::mutex mutex_;
  std::condition_variable not_busy_;
  std::map<uint64_t, std::shared_ptr<Segment>> segments_;
  std::map<uint64_t, std::vector<IndexEntry>> index_;
  /// The last segment's: a flush never waits for a descriptor, nor fails for the lack of one.
  std::shared_ptr<File> written_to_;
  std::vector<std::shared_ptr<Spare>> spares_;
  std::vector<std::string> unreadable_;
  size_t promised_ = 0;
  std::atomic<size_t> wanted_{0};  // how many shall be ready; 0 once they are
  bool no_space_ = false;  // the last attempt failed; as long as more are wanted, others follow
  std::atomic<size_t> ready_{0};
  std::atomic<uint64_t> spares_kept_{0};
  std::string no_space_reason_;
  uint64_t spare_names_ = 0;
};

}  // namespace walmirror
