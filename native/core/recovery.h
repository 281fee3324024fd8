// Finding the end of a log after a crash (SAFETY 6).
#pragma once

#include "control_file.h"
#include "walker.h"

namespace walmirror {

struct EndOfLog {
  Chain chain;
  History history;
  uint64_t last_wall_clock_us = 0;
  uint64_t scanned_bytes = 0;
  /// What is known to have been durable: by the control file, or a batch of this node that was met.
  uint64_t durable = 0;
  /// Bytes after the end that looked like the beginning of something: a torn tail.
  uint64_t torn_bytes = 0;
  /// Why the walk ended where it did.
  std::string reason;
};

/// Walks from the start of the segment that holds the control file's watermark to the last valid
/// batch. Throws WAL_CORRUPT, naming file, offset and LSN, where bytes that were durable do not
/// verify: below the watermark, or below one that a later batch of this node bears. `reach`: no
/// batch lies further than this past the durable end. `index`: where to note the batches met, or
/// nullptr.
EndOfLog find_end(const LogIdentity& identity, Segments& segments, const Control& control,
                  uint64_t reach, bool note_index);

/// Walks the whole log from its start and checks all of it; `visit` is called for each batch.
EndOfLog verify_all(const LogIdentity& identity, Segments& segments, const Control& control,
                    uint64_t reach, const std::function<void(const BatchHeader&)>& visit);

}  // namespace walmirror
