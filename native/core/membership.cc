#include "membership.h"

#include <algorithm>
#include <cstring>

#include "planted.h"
#include "random.h"

namespace walmirror {

size_t copies_to_acknowledge(size_t in, uint32_t quorum) {
  return quorum == 0 ? in : std::min<size_t>(in, quorum);
}

size_t copies_to_know_all(size_t in, uint32_t quorum) {
  return in - copies_to_acknowledge(in, quorum) + 1;
}

size_t copies_to_open(size_t in, uint32_t quorum) {
  size_t needed = std::max(copies_to_know_all(in, quorum), copies_to_acknowledge(in, quorum));
  return PLANTED(opened_with_one_too_few) && needed > 1 ? needed - 1 : needed;
}

size_t copies_to_go_on(size_t in, uint32_t quorum) { return in - copies_to_open(in, quorum) + 1; }

const CopyRecord* Membership::find(const Id& id) const {
  for (const CopyRecord& copy : copies) {
    if (copy.id == id) return &copy;
  }
  return nullptr;
}

bool Membership::has_in(const Id& id) const {
  const CopyRecord* copy = find(id);
  return copy != nullptr && copy->state == CopyState::kIn;
}

size_t Membership::count_in() const {
  return static_cast<size_t>(std::count_if(
      copies.begin(), copies.end(), [](const auto& copy) { return copy.state == CopyState::kIn; }));
}

bool Membership::follows(const Membership& other) const {
  if (other.generation == 0 || other.generation > generation) return false;
  uint64_t back = generation - other.generation;
  return back < tags.size() && tags[back] == other.tags[0];
}

void Membership::next_generation() {
  generation++;
  std::copy_backward(tags.begin(), tags.end() - 1, tags.end());
  do {
    random_bytes(&tags[0], sizeof tags[0]);
  } while (tags[0] == 0);
}

std::string describe(const CopyRecord& copy) {
  switch (copy.reason) {
    case OutReason::kNone:
      return "";
    case OutReason::kNew:
      return "new";
    case OutReason::kFailed:
      return std::string("a call failed: ") + std::strerror(copy.error);
    case OutReason::kSlow:
      return "too slow";
    case OutReason::kDamaged:
      return "damaged";
    case OutReason::kMissing:
      return "missing";
    case OutReason::kStale:
      return "stale";
    case OutReason::kAccepted:
      return "accepted as missing";
  }
  return "unknown";
}

std::string recorded_path(const std::string& directory) {
  if (directory.size() < kCopyPathBytes) return directory;
  std::string end = directory.substr(directory.size() - (kCopyPathBytes - 4));
  while (!end.empty() && (static_cast<uint8_t>(end[0]) & 0xc0) == 0x80) end.erase(0, 1);
  return "..." + end;
}

}  // namespace walmirror
