// The words of the core: places, terms, histories (SAFETY 1 and 2), and the one kind of failure.
#pragma once

#include <exception>
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

/// What a cut may remove.
enum class Cut {
  kUnseen,     // nobody can have seen what goes
  kSeen,       // an application may have: it has to be told
  kReturning,  // the same under a newer epoch, below the commit place too; a standby after it
};

/// What a primary's acknowledgements mean (SAFETY 4.1): the log's own level, the standbys asked for
/// (`ANY n (...)` or `FIRST n (...)`, empty for nobody), the nodes whose acknowledgements may
/// count, and whether the primary acknowledges alone, since too few of them were there.
struct Rule {
  CommitLevel level = CommitLevel::kLocal;
  std::string standbys;
  std::vector<Id> members;
  bool degraded = false;

  bool operator==(const Rule&) const = default;
};

/// An operating failure. `code` is a key of the package's error table. A copy shares nothing with
/// what it was copied from, since threads tell each other of failures: the text of a
/// std::runtime_error is shared by all its copies.
class WalFailure : public std::exception {
 public:
  WalFailure(std::string code_, std::string message_)
      : code(std::move(code_)), message(std::move(message_)) {}
  const char* what() const noexcept override { return message.c_str(); }

  WalFailure& at(std::string file_, uint64_t offset_, uint64_t lsn_) {
    file = std::move(file_);
    offset = static_cast<int64_t>(offset_);
    lsn = static_cast<int64_t>(lsn_);
    return *this;
  }
  /// What to do, where that is not what the table says for the code.
  WalFailure& advise(std::string hint_) {
    hint = std::move(hint_);
    return *this;
  }

  std::string code;
  std::string message;
  std::string file;
  std::string hint;
  int64_t offset = -1;
  int64_t lsn = -1;
  int error_number = 0;
};

/// A part of what was to be taken whole or not at all is in the log, which has failed since. Takes
/// no memory.
class PartTaken : public std::exception {
 public:
  const char* what() const noexcept override {
    return "the log has failed in the middle of a group: a part of it may be in the log";
  }
};

std::string hex(const uint8_t* bytes, size_t size);
bool from_hex(const std::string& text, uint8_t* bytes, size_t size);

}  // namespace walmirror
