#include "durable_log.h"

#include "control_file.h"
#include "recovery.h"
#include "segments.h"
#include "walker.h"

namespace walmirror::simulated {
namespace {

constexpr uint32_t kWholeLookEvery = 512;
constexpr uint64_t kReadAhead = 16u << 10;

}  // namespace

void DurableLog::look(const std::shared_ptr<MemoryFileSystem>& files,
                      const std::string& directory) {
  bool is_new = looked_at_ != files.get() || directory_ != directory;
  if (!is_new && changes_ == files->durable_changes) return;
  changes_ = files->durable_changes;
  directory_ = directory;
  std::shared_ptr<FileSystem> disk = durable_view(files);
  if (is_new || ++looks_ % kWholeLookEvery == 0) {
    looked_at_ = nullptr;  // Only what is whole is built on.
    look_at_all(disk, directory);
  } else {
    look_on(disk, directory);
  }
  looked_at_ = files.get();
}

void DurableLog::look_at_all(const std::shared_ptr<FileSystem>& disk,
                             const std::string& directory) {
  ends_.clear();
  chain_ = Chain{};
  std::unique_ptr<ControlFile> file = ControlFile::open(*disk, directory, true);
  if (file == nullptr) return;
  Control control = file->current();
  LogIdentity identity{control.log_id, control.salt, control.segment_bytes, control.align};
  Segments segments(disk, directory, identity, true);
  segments.load(control.start_position);
  EndOfLog end = verify_all(identity, segments, control, 2 * identity.segment_bytes,
                            [&](const BatchHeader& header) {
                              if (header.count > 0)
                                ends_[header.first_lsn + header.count - 1] = header.crc;
                            });
  chain_ = end.chain;
}

void DurableLog::look_on(const std::shared_ptr<FileSystem>& disk, const std::string& directory) {
  std::unique_ptr<ControlFile> file = ControlFile::open(*disk, directory, true);
  if (file == nullptr) return;
  Control control = file->current();
  LogIdentity identity{control.log_id, control.salt, control.segment_bytes, control.align};
  Segments segments(disk, directory, identity, true);
  segments.load(control.start_position);
  if (chain_.position < control.start_position) return look_at_all(disk, directory);
  // From the start of the segment, whose header is checked with it.
  Chain from;
  from.position = identity.segment_start(chain_.position) + kSegmentHeaderBytes;
  Walker walker(identity, segments, from, false, kReadAhead);
  while (walker.next() == Step::kBatch) {
    const BatchHeader& header = walker.header();
    if (header.count > 0) ends_[header.first_lsn + header.count - 1] = header.crc;
    chain_ = walker.chain();
  }
}

std::optional<uint32_t> DurableLog::checksum_of(uint64_t lsn) const {
  auto found = ends_.lower_bound(lsn);
  if (found == ends_.end()) return {};
  return found->second;
}

}  // namespace walmirror::simulated
