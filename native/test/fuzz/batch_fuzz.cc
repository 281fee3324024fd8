// The batch parser: reads nothing beyond what it is given, asks for no more than a segment, and
// calls nothing valid that has a bit changed. Input: a byte of choices, then batches.
#include "fuzz.h"

using namespace walmirror;
using namespace walmirror::fuzz;

namespace {

constexpr uint8_t kPadded = 1;
constexpr uint8_t kUnlinked = 2;
constexpr uint8_t kElsewhere = 4;

void check_one(const LogIdentity& identity, const Chain& chain, const std::string& bytes,
               bool link) {
  auto data = reinterpret_cast<const uint8_t*>(bytes.data());
  Check check = check_batch(identity, chain, data, bytes.size(), link);
  if (check.verdict == Verdict::kShort) {
    FUZZ_CHECK(check.need > bytes.size() && check.need <= identity.segment_bytes);
    return;
  }
  if (check.verdict == Verdict::kBad) {
    FUZZ_CHECK(check.reason != nullptr && *check.reason != 0);
    return;
  }
  BatchHeader header;
  std::memcpy(&header, data, sizeof header);
  FUZZ_CHECK(header.length <= bytes.size());
  FUZZ_CHECK(check_batch(identity, chain, data, header.length - 1, link).verdict ==
             Verdict::kShort);
  std::string flipped = bytes.substr(0, header.length);
  uint64_t bit = header.crc % (flipped.size() * 8);
  flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ 1 << bit % 8);
  FUZZ_CHECK(
      check_batch(identity, chain, reinterpret_cast<uint8_t*>(flipped.data()), flipped.size(), link)
          .verdict != Verdict::kValid);
  History history;
  if (header.kind == static_cast<uint8_t>(Kind::kTermOpened) &&
      decode_history(data + kBatchHeaderBytes, header.payload, history)) {
    FUZZ_CHECK(history.size() <= kMaxHistory);
    History again;
    std::string encoded = encode_history(history);
    FUZZ_CHECK(
        decode_history(reinterpret_cast<const uint8_t*>(encoded.data()), encoded.size(), again) &&
        again.size() == history.size());
  }
  note_term_of_filler(header, history);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  LogIdentity identity = fuzz_identity((data[0] & kPadded) != 0 ? kBlock : 8);
  bool link = (data[0] & kUnlinked) == 0;
  Chain chain;
  for (size_t at = 1; at < size;) {
    // A copy of its own size, so that a byte too many is one outside of it.
    std::string bytes(reinterpret_cast<const char*>(data) + at, size - at);
    BatchHeader header{};
    std::memcpy(&header, bytes.data(), std::min(bytes.size(), sizeof header));
    if ((data[0] & kElsewhere) != 0) {
      chain = {header.position, header.first_lsn - 1, header.prev_crc, {}};
    }
    check_one(identity, chain, bytes, link);
    auto raw = reinterpret_cast<const uint8_t*>(bytes.data());
    if (check_batch(identity, chain, raw, bytes.size(), link).verdict != Verdict::kValid) break;
    advance(identity, chain, header);
    if (is_filler(header)) break;
    at += header.length;
  }
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned seed) {
  std::mt19937 random(seed);
  if (size < 1 + kBatchHeaderBytes) {
    Chain chain;
    LogIdentity identity = fuzz_identity();
    std::string batches = make_batch(identity, chain);
    batches += make_batch(identity, chain);
    return take(std::string(1, '\0') + batches, data, most);
  }
  size = LLVMFuzzerMutate(data, size, most);
  if (size == 0 || random() % 4 == 0) return size;
  mend_batches(fuzz_identity((data[0] & kPadded) != 0 ? kBlock : 8), data + 1, size - 1,
               random() % 2 == 0);
  return size;
}
