// Brings a directory to where a log is that it is to be a copy of.
#pragma once

#include <functional>
#include <string>

#include "segments.h"

namespace walmirror {

/// Not thread-safe. Writes only what verifies as it is read (FAULTS 16), and writes all of it: what
/// a directory that failed gives when it is read may be in a cache only (SAFETY 5.4).
class CopyFiller {
 public:
  /// `source` has the segments, and `from` their directory, which files also knows by that name.
  CopyFiller(FileSystem& source_files, std::string from, const Segments& source,
             const LogIdentity& identity, FileSystem& target_files, std::string to);

  /// A batch that this node framed says up to where the log was durable then, and so proves that
  /// what is missing below was lost (SAFETY 6.1). It is written only when all below is on stable
  /// storage here too; all below `durable` is. Segments are written in place, and each
  /// flush of the log is one here: for the end of a log.
  void keep_proofs_true(const Id& framer, uint64_t durable);
  /// The same end for a whole log: a segment has a name that no opening looks at until all of it,
  /// and all before it, is on stable storage. The last one gets its own by `publish`. Where it
  /// comes to nothing, `abandon` gives back the room of what has no name yet, if the disk lets it.
  void write_aside();
  void publish();
  void abandon();
  /// Called with the bytes of each piece before it is written; throws to stop.
  void on_piece(std::function<void(uint64_t)> piece) { piece_ = std::move(piece); }

  /// Whether what failed last was to read what it is filled from, and none of its own fault.
  bool source_failed() const { return source_failed_; }

  /// Writes batches from `begin` to `end`, with the headers of the segments that begin there; on
  /// stable storage on return. `begin`: the first batch of a segment, or one that the directory has
  /// all before.
  void copy(uint64_t begin, uint64_t end);
  /// Zeros from `end` to the end of its segment.
  void clear_after(uint64_t end);
  /// Gives it the same files: spares and tails that were kept aside too. Others are removed, but
  /// for segments before that of `start`: a copy that is not in yet takes them for a part of the
  /// log.
  void match_files(uint64_t start = 0);
  /// Removes those too, but for what the source had when the files were matched last. For a copy
  /// that is in: takes a while where there are many, so no lock is held.
  void remove_below();

 private:
  template <typename Call>
  auto from_source(Call call);
  File& file_of(uint64_t position);
  void write_header(const Segment& segment);
  void write(uint64_t at, const uint8_t* bytes, uint64_t size);
  void write_batches(uint64_t at, const uint8_t* bytes, uint64_t size);
  bool proves_too_much(const BatchHeader& batch) const;
  void sync();
  void remove_left_over();
  bool is_below(const std::string& name, uint64_t start) const;
  void remove_segment(const std::string& name);
  void copy_aside(const std::string& name);

  FileSystem& source_files_;
  std::string from_;
  const Segments& source_;
  LogIdentity identity_;
  FileSystem& files_;
  std::string to_;
  std::function<void(uint64_t)> piece_;
  std::unique_ptr<File> file_;
  uint64_t number_ = 0;
  bool aside_ = false;
  uint64_t start_ = 0;                // as files were matched last
  std::vector<std::string> matched_;  // what the source had when the files were matched last
  std::string unpublished_;  // the name that the file aside is to get; empty: there is none
  AlignedBuffer buffer_;
  Id framer_{};
  uint64_t durable_ = UINT64_MAX;
  bool source_failed_ = false;
};

}  // namespace walmirror
