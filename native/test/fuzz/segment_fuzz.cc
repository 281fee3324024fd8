// The segment opener and recovery: any bytes in a segment of a log are recovered from, or refused
// by name; what is found is found again, and is what the segment holds. Input: a byte of choices,
// the first 72 bytes of the segment's header, then its batches.
#include "fuzz.h"
#include "log_fixture.h"
#include "log_reader.h"
#include "workload.h"

using namespace walmirror;
using namespace walmirror::fuzz;
using namespace walmirror::test;

namespace {

constexpr uint8_t kOpens = 1;        // as its owner, too
constexpr uint8_t kKilled = 2;       // not closed cleanly
constexpr uint8_t kWatermarked = 4;  // the control file says that a byte was durable
constexpr size_t kHeader = 72;

Control control_of(uint8_t choices) {
  Control control;
  LogIdentity identity = fuzz_identity();
  control.log_id = identity.log_id;
  control.salt = identity.salt;
  control.node_id.fill(0xcc);
  control.segment_bytes = identity.segment_bytes;
  control.max_record_bytes = 1024;
  control.clean = (choices & kKilled) == 0;
  control.term = {UINT64_MAX, {}, 0};
  control.watermark = {kFirstBatch + ((choices & kWatermarked) != 0 ? 144u : 0u), 0, 0};
  return control;
}

DiskState disk_of(const uint8_t* data, size_t size) {
  MemoryFileSystem files;
  ControlFile::create(files, "d", control_of(data[0]));
  std::string segment(kSegmentBytes, '\0');
  size_t header = std::min(size - 1, kHeader);
  std::memcpy(segment.data(), data + 1, header);
  size_t rest = std::min(size - 1 - header, segment.size() - kFirstBatch);
  std::memcpy(segment.data() + kFirstBatch, data + 1 + header, rest);
  auto file = files.open("d/0000000000000001-0000000000000000.wal", OpenMode::kCreate, false);
  Slice slice{segment.data(), segment.size()};
  file->write(0, &slice, 1, true);
  files.sync_directory("d");
  return files.state();
}

bool is_told(const WalFailure& failure) {
  return failure.code == "WAL_CORRUPT" && !failure.file.empty() && failure.offset >= 0;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  DiskState disk = disk_of(data, size);
  auto files = std::make_shared<MemoryFileSystem>(disk);
  Place end;
  bool told = false;
  try {
    auto reader = LogReader::open("d", files);
    VerifyReport report = reader->verify();
    told = report.damage.has_value();
    if (told) {
      FUZZ_CHECK(is_told(*report.damage));
    } else {
      end = reader->refresh();
      FUZZ_CHECK(end.position == report.end.position && end.lsn == report.end.lsn);
      AlignedBuffer buffer(65536);
      for (uint64_t at = kFirstBatch; at < end.position;) {
        ReadOutcome read = reader->read_into(buffer.data(), buffer.size(), at, end.position);
        FUZZ_CHECK(read.next > at);
        at = read.next;
      }
    }
  } catch (const WalFailure& failure) {
    FUZZ_CHECK(is_told(failure));
    told = true;
  }
  if ((data[0] & kOpens) == 0) return 0;
  try {
    Owner owner(workload_options(), files);
    FUZZ_CHECK(!told && owner->closed().position == end.position);
    owner.open_term({UINT64_MAX, {}, 1});
  } catch (const WalFailure& failure) {
    FUZZ_CHECK(is_told(failure) || failure.code == "WAL_UNSUPPORTED");
  }
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned seed) {
  std::mt19937 random(seed);
  LogIdentity identity = fuzz_identity();
  if (size < 1 + kHeader + kBatchHeaderBytes) {
    uint8_t header[kSegmentHeaderBytes];
    make_segment_header(identity, 0, 0, 0, header);
    std::string input("\1");
    input.append(reinterpret_cast<char*>(header), kHeader);
    Chain chain;
    for (int i = 0; i < 3; i++) input += make_batch(identity, chain);
    return take(input, data, most);
  }
  size = LLVMFuzzerMutate(data, size, most);
  if (size < 1 + kHeader || random() % 4 == 0) return size;
  std::string block(kSegmentHeaderBytes, '\0');
  std::memcpy(block.data(), data + 1, kHeader);
  uint32_t crc = crc32c(0, reinterpret_cast<uint8_t*>(block.data()) + 8, block.size() - 8);
  std::memcpy(data + 1 + offsetof(SegmentHeader, crc), &crc, sizeof crc);
  mend_batches(identity, data + 1 + kHeader, size - 1 - kHeader, random() % 2 == 0);
  return size;
}
