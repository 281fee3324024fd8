// The words of the core: places, terms, histories (SAFETY 1 and 2), and the one kind of failure.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "format.h"

namespace walmirror {

/// A point of the log: a batch ends at `position`, `lsn` is the last record before it, `crc` that
/// batch's.
struct Place {
  uint64_t position = 0;
  uint64_t lsn = 0;
  uint32_t crc = 0;
};

struct Term {
  uint64_t epoch = 0;
  Id opener{};
  uint32_t incarnation = 0;

  bool operator==(const Term&) const = default;
};

/// Whether `next` may follow `term` inside a log: terms never fall, and an epoch has one opener.
inline bool term_may_follow(const Term& term, const Term& next) {
  if (next.epoch != term.epoch) return next.epoch > term.epoch;
  return next.opener == term.opener && next.incarnation >= term.incarnation;
}

/// A term, where its opening batch starts, and the last LSN before it.
struct HistoryEntry {
  Term term;
  uint64_t position = 0;
  uint64_t lsn = 0;
};

using History = std::vector<HistoryEntry>;

enum class Role : uint32_t { kPrimary = 1, kStandby = 2, kFenced = 3 };

enum class CommitLevel : uint32_t {
  kOff = 1,
  kLocal = 2,
  kRemoteWrite = 3,
  kRemoteFlush = 4,
  kRemoteApply = 5,
};

/// What a primary's acknowledgements mean (SAFETY 4.1): the log's own level, the standbys asked for
/// (`ANY n (...)`, empty for nobody), and the nodes whose acknowledgements may count.
struct Rule {
  CommitLevel level = CommitLevel::kLocal;
  std::string standbys;
  std::vector<Id> members;

  bool operator==(const Rule&) const = default;
};

/// An operating failure. `code` is a key of the package's error table.
class WalFailure : public std::runtime_error {
 public:
  WalFailure(std::string code_, const std::string& message)
      : std::runtime_error(message), code(std::move(code_)) {}

  WalFailure& at(std::string file_, uint64_t offset_, uint64_t lsn_) {
    file = std::move(file_);
    offset = static_cast<int64_t>(offset_);
    lsn = static_cast<int64_t>(lsn_);
    return *this;
  }

  std::string code;
  std::string file;
  int64_t offset = -1;
  int64_t lsn = -1;
  int error_number = 0;
};

std::string hex(const uint8_t* bytes, size_t size);
bool from_hex(const std::string& text, uint8_t* bytes, size_t size);

}  // namespace walmirror
