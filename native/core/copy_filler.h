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

  /// Called with the bytes of each piece before it is written; throws to stop.
  void on_piece(std::function<void(uint64_t)> piece) { piece_ = std::move(piece); }

  /// Writes batches from `begin` to `end`, with the headers of the segments that begin there; on
  /// stable storage on return. `begin`: the first batch of a segment, or one that the directory has
  /// all before.
  void copy(uint64_t begin, uint64_t end);
  /// Zeros from `end` to the end of its segment.
  void clear_after(uint64_t end);
  /// Gives it the same files: spares and tails that were kept aside too. Others are removed.
  void match_files();

 private:
  File& file_of(uint64_t position);
  void write_header(const Segment& segment);
  void sync();
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
  AlignedBuffer buffer_;
};

}  // namespace walmirror
