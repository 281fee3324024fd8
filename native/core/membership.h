// Which directories hold a copy of the log, as each control file tells it (SAFETY 7).
#pragma once

#include <array>
#include <string>
#include <vector>

#include "types.h"

namespace walmirror {

enum class CopyState : uint32_t { kIn = 1, kOut = 2 };

/// Why a copy is not in.
enum class OutReason : uint16_t {
  kNone = 0,
  kNew = 1,       // never was in
  kFailed = 2,    // a call failed, with an errno
  kSlow = 3,      // it lagged past the limit
  kDamaged = 4,   // bytes that were durable do not verify
  kMissing = 5,   // the directory, or a file in it, is gone
  kStale = 6,     // the log went on without it
  kAccepted = 7,  // it was not there at an opening, and the operator said that it may be
};

struct CopyRecord {
  Id id{};
  CopyState state = CopyState::kIn;
  OutReason reason = OutReason::kNone;
  uint16_t error = 0;  // errno
  uint64_t since_us = 0;
  /// The end of it, where it is long: for messages, and to know a directory again that has lost its
  /// control file.
  std::string path;
};

/// Copies of `in` that each batch is flushed on when it is acknowledged, where `quorum` is asked
/// for; 0: all.
size_t copies_to_acknowledge(size_t in, uint32_t quorum);
/// Copies that hold, together, all that was acknowledged.
size_t copies_to_know_all(size_t in, uint32_t quorum);
/// Copies that may be opened without the others: they know all, and any two sets of so many have
/// one in common, so that what one of them goes on to is known to the other (docs/adr/0010).
size_t copies_to_open(size_t in, uint32_t quorum);
/// Copies that may go on when all others are lost at once: too few are left to open without them.
size_t copies_to_go_on(size_t in, uint32_t quorum);

struct Membership {
  /// Grows with each change of which copies are in; 0: one directory, as it was created.
  uint64_t generation = 0;
  /// A random number for this generation and those before it, newest first: two lines that have
  /// the same generation by number went on without each other.
  std::array<uint64_t, kGenerationTags> tags{};
  uint32_t quorum = 0;  // copies that an acknowledgement of this generation waits for; 0: all
  std::vector<CopyRecord> copies;

  const CopyRecord* find(const Id& id) const;
  bool has_in(const Id& id) const;
  size_t count_in() const;
  bool same_line(const Membership& other) const {
    return generation == other.generation && tags[0] == other.tags[0];
  }
  /// Whether the generation of `other` is this one or one that it followed.
  bool follows(const Membership& other) const;
  void next_generation();
};

std::string describe(const CopyRecord& copy);
/// What a record holds of a directory's path.
std::string recorded_path(const std::string& directory);

}  // namespace walmirror
