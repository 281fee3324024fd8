#include "log_reader.h"

#include <algorithm>

namespace walmirror {
namespace {

/// A process that works on the log moves segments while they are looked at: a few looks may be
/// needed.
constexpr int kLooks = 3;

}  // namespace

std::unique_ptr<LogReader> LogReader::open(const std::string& directory,
                                           std::shared_ptr<FileSystem> files) {
  std::unique_ptr<LogReader> reader(new LogReader());
  reader->directory_ = directory;
  reader->files_ = std::move(files);
  if (!reader->files_->exists(directory))
    throw WalFailure("WAL_NOT_FOUND", "there is no log in " + directory);
  reader->load();
  return reader;
}

void LogReader::load() {
  std::unique_ptr<ControlFile> control = ControlFile::open(*files_, directory_, true);
  if (control == nullptr) throw WalFailure("WAL_NOT_FOUND", "there is no log in " + directory_);
  control_ = control->current();
  identity_ = {control_.log_id, control_.salt, control_.segment_bytes, control_.align};
  segments_ = std::make_unique<Segments>(files_, directory_, identity_, true);
  segments_->load(control_.start_position);
}

Place LogReader::refresh() {
  for (int look = 1;; look++) {
    try {
      load();
      end_ = find_end(identity_, *segments_, control_, 2 * identity_.segment_bytes, true)
                 .chain.place();
      return end_;
    } catch (const WalFailure&) {
      if (look == kLooks) throw;
    }
  }
}

ReadOutcome LogReader::read_into(uint8_t* buffer, uint64_t size, uint64_t from, uint64_t up_to) {
  uint64_t limit = std::min(up_to, end_.position);
  if (from >= limit) return {0, 0, from, 0, 0, {}};
  try {
    return read_segment(identity_, *segments_, buffer, size, from, limit);
  } catch (const WalFailure&) {
    // The owner of the log may have trimmed it: the file is gone, or is another segment by now.
    std::unique_ptr<ControlFile> control = ControlFile::open(*files_, directory_, true);
    if (control == nullptr || control->current().start_position <= from) throw;
    throw WalFailure("WAL_LSN_GONE",
                     "position " + std::to_string(from) + " was trimmed while it was read");
  }
}

uint64_t LogReader::locate(uint64_t lsn) {
  if (lsn <= control_.start_lsn)
    throw WalFailure("WAL_LSN_GONE", "record " + std::to_string(lsn) + " was trimmed");
  return locate_on_disk(identity_, *segments_, lsn, end_.position);
}

VerifyReport LogReader::verify() {
  VerifyReport report;
  for (int look = 1;; look++) {
    report = {};
    try {
      load();
      report.start = {control_.start_position, control_.start_lsn, 0};
      report.end = report.start;
      report.term = control_.term;
      EndOfLog end = verify_all(identity_, *segments_, control_, 2 * identity_.segment_bytes,
                                [&](const BatchHeader& header) {
                                  report.batches++;
                                  report.records += header.count;
                                  report.bytes += header.length;
                                  report.end = {batch_end(identity_, header),
                                                header.first_lsn + header.count - 1, header.crc};
                                });
      report.term = end.chain.term;
      report.end = end.chain.place();
      return report;
    } catch (const WalFailure& failure) {
      if (look < kLooks) continue;
      if (failure.code != "WAL_CORRUPT") throw;
      report.damage = failure;
      return report;
    }
  }
}

}  // namespace walmirror
