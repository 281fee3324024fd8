// Repair from a source that does not always give the bytes that it should.
#include <cstring>

#include "crc32c.h"
#include "two_copies.h"

namespace walmirror::test::fickle_source_test {
namespace {

constexpr int kMostRefusals = 16;

/// Directory `e`, but for what `spoil` makes of a batch that it gives.
class FickleSource : public BatchSource {
 public:
  /// `times`: how often this batch was given before.
  using Spoil = std::function<void(uint8_t* batch, int times)>;

  FickleSource(const std::shared_ptr<MemoryFileSystem>& files, Spoil spoil)
      : directory_(files, "e", read_control(*files, "d")), spoil_(std::move(spoil)) {}

  std::string name() const override { return "a peer"; }
  const uint8_t* view(uint64_t from, uint64_t need, uint64_t& available) override {
    const uint8_t* bytes = directory_.view(from, need, available);
    batch_.assign(bytes, bytes + available);
    if (lies) spoil_(batch_.data(), times_[from]++);
    return batch_.data();
  }
  bool refuse(bool) override {
    refusals++;
    if (honest_after_refusal) lies = false;
    return has_others;
  }

  bool lies = true;
  bool has_others = true;
  bool honest_after_refusal = true;
  int refusals = 0;

 private:
  DirectorySource directory_;
  Spoil spoil_;
  std::vector<uint8_t> batch_;
  std::map<uint64_t, int> times_;
};

void flip_payload(uint8_t* batch, int) { batch[kBatchHeaderBytes + 5] ^= 1; }

/// Other records, and a checksum that fits them: it continues the log, which does not continue it.
void forge(uint8_t* batch) {
  flip_payload(batch, 0);
  BatchHeader header;
  std::memcpy(&header, batch, sizeof header);
  uint32_t crc = crc32c(0, batch + 8, header.length - 8);
  std::memcpy(batch + 4, &crc, sizeof crc);
}

RepairReport repair_from(const std::shared_ptr<MemoryFileSystem>& files, BatchSource& source) {
  RepairOptions options;
  options.directory = "d";
  options.source = &source;
  options.progress = [](uint64_t, uint64_t) { return true; };
  return repair_directory(files, options);
}

struct Damaged {
  std::shared_ptr<MemoryFileSystem> files =
      std::make_shared<MemoryFileSystem>(make_two_copies(true));
  std::map<uint64_t, std::string> before;

  Damaged() {
    damage(*files, std::next(segment_paths(*files, "d").begin())->second, 30000, 5000);
    before = segment_bytes(*files, "d");
  }
  bool is_untouched() const { return segment_bytes(*files, "d") == before; }
  bool is_whole() const { return segment_bytes(*files, "d") == segment_bytes(*files, "e"); }
};

TEST(RepairTakesOtherBytesWhereThoseItGotDoNotVerify) {
  Damaged log;
  FickleSource source(log.files, flip_payload);
  CHECK(all_repaired(repair_from(log.files, source)));
  CHECK_EQ(source.refusals, 1);
  CHECK(log.is_whole());
}

TEST(RepairTakesOtherBytesWhereThoseItGotDoNotContinueTheLog) {
  Damaged log;
  FickleSource source(log.files, [](uint8_t* batch, int) { forge(batch); });
  CHECK(all_repaired(repair_from(log.files, source)));
  CHECK(source.refusals > 0);
  CHECK(log.is_whole());
}

TEST(RepairWritesNothingOfWhatDoesNotVerifyAndEnds) {
  for (bool has_others : {true, false}) {
    Damaged log;
    FickleSource source(log.files, flip_payload);
    source.has_others = has_others;
    source.honest_after_refusal = false;
    RepairReport report = repair_from(log.files, source);
    CHECK(!report.ranges[0].repaired);
    CHECK(report.ranges[0].reason.find("a peer at position") == 0);
    CHECK_EQ(source.refusals, has_others ? kMostRefusals : 1);
    CHECK(log.is_untouched());
  }
}

/// What is written was read again: it has to be what was found to fit before.
TEST(RepairWritesWhatItVerifiedAndNotWhatItIsGivenLater) {
  for (bool goes_on : {false, true}) {
    Damaged log;
    FickleSource source(log.files, [&](uint8_t* batch, int times) {
      if (times > 0) forge(batch);
    });
    source.has_others = goes_on;
    if (goes_on) {
      CHECK(all_repaired(repair_from(log.files, source)));
      CHECK(log.is_whole());
    } else {
      std::string code;
      try {
        repair_from(log.files, source);
      } catch (const WalFailure& failure) {
        code = failure.code;
      }
      CHECK_EQ(code, std::string("WAL_CORRUPT"));
      CHECK(log.is_untouched());
    }
    CHECK_EQ(source.refusals, 1);
  }
}

}  // namespace
}  // namespace walmirror::test::fickle_source_test
