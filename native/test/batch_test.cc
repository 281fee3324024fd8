#include "batch.h"

#include <vector>

#include "crc32c.h"
#include "test.h"

namespace walmirror::test::batch_test {
namespace {

LogIdentity identity(uint32_t align = 8) {
  LogIdentity log;
  log.log_id.fill(0x11);
  log.salt = 99;
  log.segment_bytes = 65536;
  log.align = align;
  return log;
}

std::vector<uint8_t> batch(const LogIdentity& log, const Chain& chain, const std::string& payload,
                           uint32_t count, Kind kind = Kind::kData) {
  BatchHeader header{};
  header.magic = kBatchMagic;
  header.length = static_cast<uint32_t>(align_up(kBatchHeaderBytes + payload.size(), log.align));
  header.version = kFormatVersion;
  header.kind = static_cast<uint8_t>(kind);
  header.log_id = log.log_id;
  header.salt = log.salt;
  header.position = chain.position;
  header.first_lsn = chain.lsn + 1;
  header.count = count;
  header.payload = header.raw_bytes = static_cast<uint32_t>(payload.size());
  header.prev_crc = chain.crc;
  std::vector<uint8_t> bytes(header.length, 0);
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + sizeof header, payload.data(), payload.size());
  header.crc = crc32c(0, bytes.data() + 8, bytes.size() - 8);
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

/// As if the writer had computed its checksum over wrong bytes: only what follows it can refuse
/// them.
void mend(std::vector<uint8_t>& bytes) {
  uint32_t crc = crc32c(0, bytes.data() + 8, bytes.size() - 8);
  std::memcpy(bytes.data() + 4, &crc, sizeof crc);
}

const std::string kTwoRecords("\x03\0\0\0abc\0\0\0\0\0", 12);

TEST(BatchIsValidAndMovesTheChain) {
  LogIdentity log = identity();
  Chain chain;
  auto bytes = batch(log, chain, kTwoRecords, 2);
  CHECK(check_batch(log, chain, bytes.data(), bytes.size()).verdict == Verdict::kValid);
  BatchHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  advance(log, chain, header);
  CHECK_EQ(chain.position, kFirstBatch + 144);
  CHECK_EQ(chain.lsn, 2u);
  CHECK_EQ(chain.crc, header.crc);
}

TEST(BatchOfWhichOnlyAPartIsThereIsShortAndSaysWhatItNeeds) {
  LogIdentity log = identity();
  Chain chain;
  auto bytes = batch(log, chain, kTwoRecords, 2);
  for (size_t size = 0; size < bytes.size(); size++) {
    // An exact copy, so that the address sanitizer sees any read beyond what is there.
    std::vector<uint8_t> part(bytes.begin(), bytes.begin() + static_cast<long>(size));
    Check check = check_batch(log, chain, part.data(), part.size());
    CHECK(check.verdict == Verdict::kShort);
    CHECK_EQ(check.need, size < kBatchHeaderBytes ? kBatchHeaderBytes : bytes.size());
  }
}

TEST(BatchWithAnyBitFlippedIsNeverValid) {
  for (uint32_t align : {8u, 4096u}) {
    LogIdentity log = identity(align);
    Chain chain;
    auto bytes = batch(log, chain, kTwoRecords, 2);
    for (size_t bit = 0; bit < bytes.size() * 8; bit++) {
      bytes[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
      CHECK(check_batch(log, chain, bytes.data(), bytes.size()).verdict != Verdict::kValid);
      bytes[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    }
  }
}

TEST(BatchWithAnyHeaderByteChangedAndItsChecksumMendedReadsNothingBeyondItself) {
  LogIdentity log = identity();
  Chain chain;
  auto good = batch(log, chain, kTwoRecords, 2);
  for (size_t at = 8; at < good.size(); at++) {
    for (int value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      auto bytes = good;
      bytes[at] = static_cast<uint8_t>(value);
      mend(bytes);
      check_batch(log, chain, bytes.data(), bytes.size());
      check_batch(log, chain, bytes.data(), bytes.size(), false);
    }
  }
}

TEST(BatchThatDoesNotContinueTheChainIsBad) {
  LogIdentity log = identity();
  Chain chain;
  chain.term.epoch = 0;
  auto bytes = batch(log, chain, kTwoRecords, 2);
  auto bad = [&](const Chain& other) {
    return check_batch(log, other, bytes.data(), bytes.size()).verdict == Verdict::kBad;
  };
  Chain lsn = chain, crc = chain, term = chain, position = chain;
  lsn.lsn++;
  crc.crc++;
  term.term.epoch++;
  position.position += 8;
  CHECK(bad(lsn) && bad(crc) && bad(term) && bad(position));
  CHECK(check_batch(log, lsn, bytes.data(), bytes.size(), false).verdict == Verdict::kValid);
}

TEST(BatchLeavesRoomForAFillerAndOnlyAFillerTakesIt) {
  LogIdentity log = identity();
  Chain chain;
  uint64_t room = log.segment_bytes - kFirstBatch - 2 * kBatchHeaderBytes;
  std::string fits(room, '\0'), too_long(room + 8, '\0');
  for (std::string* payload : {&fits, &too_long}) {
    uint32_t length = static_cast<uint32_t>(payload->size() - 4);
    std::memcpy(payload->data(), &length, 4);
  }
  auto last = batch(log, chain, fits, 1);
  auto over = batch(log, chain, too_long, 1);
  CHECK(check_batch(log, chain, last.data(), last.size()).verdict == Verdict::kValid);
  CHECK(check_batch(log, chain, over.data(), over.size()).verdict == Verdict::kBad);
  chain.position += last.size();
  auto filler = batch(log, chain, "", 0, Kind::kFiller);
  CHECK(check_batch(log, chain, filler.data(), filler.size()).verdict == Verdict::kValid);
  auto label = batch(log, chain, "", 0, Kind::kLabel);
  CHECK(check_batch(log, chain, label.data(), label.size()).verdict == Verdict::kBad);
}

TEST(BatchBeyondTheLastPlaceForOneIsBadWhateverItsLengthSays) {
  // Looking for evidence (SAFETY 6.1) tries every place of a segment, these too.
  LogIdentity log = identity();
  Chain chain;
  chain.position = log.segment_bytes - 64;
  auto bytes = batch(log, chain, std::string(4096 - 4, '\0'), 1023);
  CHECK(check_batch(log, chain, bytes.data(), bytes.size(), false).verdict == Verdict::kBad);
  CHECK(check_batch(log, chain, bytes.data(), kBatchHeaderBytes, false).verdict == Verdict::kBad);
}

TEST(BatchWithRecordPaddingThatIsNotZeroIsBad) {
  LogIdentity log = identity();
  Chain chain;
  auto bytes = batch(log, chain, kTwoRecords, 2);
  bytes[kBatchHeaderBytes + 7] = 1;
  mend(bytes);
  CHECK(check_batch(log, chain, bytes.data(), bytes.size()).verdict == Verdict::kBad);
}

TEST(SegmentHeaderIsCheckedAndSaysWhatIsWrong) {
  LogIdentity log = identity();
  std::vector<uint8_t> bytes(kSegmentHeaderBytes);
  make_segment_header(log, 65536, 41, 0xabcdef01, bytes.data());
  const char* reason = nullptr;
  CHECK(check_segment_header(bytes.data(), &reason));
  SegmentHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  CHECK_EQ(header.start, 65536u);
  CHECK_EQ(header.first_lsn, 42u);
  for (size_t at = 0; at < bytes.size(); at++) {
    bytes[at] ^= 0x10;
    CHECK(!check_segment_header(bytes.data(), &reason) && reason != nullptr);
    bytes[at] ^= 0x10;
  }
}

TEST(HistoryOfMoreThanTheLimitKeepsTheNewest) {
  History history(300), found;
  for (uint64_t i = 0; i < history.size(); i++) history[i] = {{i, {}, 1}, i * 8, i};
  std::string payload = encode_history(history);
  auto bytes = reinterpret_cast<const uint8_t*>(payload.data());
  CHECK(decode_history(bytes, payload.size(), found));
  CHECK_EQ(found.size(), 256u);
  CHECK_EQ(found.front().lsn, 44u);
  for (size_t size = 0; size < payload.size(); size++) {
    std::vector<uint8_t> part(bytes, bytes + size);
    CHECK(!decode_history(part.data(), size, found));
  }
}

}  // namespace
}  // namespace walmirror::test::batch_test
