// The segment files of a directory as they are: damaged, cut short or missing, none is refused, and
// none is changed.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "batch.h"
#include "control_file.h"

namespace walmirror {

/// What a scrub and a repair read a log through.
class SegmentSource {
 public:
  virtual ~SegmentSource() = default;
  /// The file of this segment, or what its name would be.
  virtual std::string path(uint64_t number) = 0;
  /// Whether there is a file of this segment, whatever it holds.
  virtual bool holds(uint64_t number) = 0;
  /// Reads whole blocks, all within the segment; what the file is too short for is zeros. What the
  /// disk cannot read throws WAL_IO.
  virtual void read(uint64_t number, uint64_t offset, uint8_t* out, uint64_t size) = 0;
  /// No segment has a higher number.
  virtual uint64_t last_number() = 0;
};

class SegmentFiles : public SegmentSource {
 public:
  /// Throws WAL_CORRUPT where no choice can be made: a file of another log, two files that claim
  /// one place, a file that opening would refuse and that is no part of this log.
  SegmentFiles(std::shared_ptr<FileSystem> files, std::string directory,
               const LogIdentity& identity, uint64_t start_position);

  std::string path(uint64_t number) override;
  bool holds(uint64_t number) override { return found_.contains(number); }
  void read(uint64_t number, uint64_t offset, uint8_t* out, uint64_t size) override;
  uint64_t last_number() override { return found_.empty() ? 0 : found_.rbegin()->first; }

  struct WrongLength {
    uint64_t number;
    std::string path;
    uint64_t size;
  };
  /// Files that were cut, or grew: an opening refuses them.
  std::vector<WrongLength> wrong_lengths() const;

 private:
  struct Found {
    std::string path;
    uint64_t size;
    bool has_header;
  };

  void look_at(const std::string& name, uint64_t start_position);
  void claim(uint64_t number, Found file);

  std::shared_ptr<FileSystem> files_;
  std::string directory_;
  LogIdentity identity_;
  std::map<uint64_t, Found> found_;
  std::unique_ptr<File> open_;
  uint64_t open_number_ = 0;
};

/// The name that docs/format.md gives a segment's file.
std::string segment_file_name(uint64_t start, uint64_t first_lsn);

}  // namespace walmirror
