// The checks of recovery and of the walk that no crash leads to: they are for what else may happen
// to a disk, and for a log that another process works on while it is read.
#include "batch.h"
#include "crc32c.h"
#include "log_fixture.h"
#include "log_reader.h"

namespace walmirror::test::validation_test {
namespace {

void write_bytes(FileSystem& files, const std::string& path, uint64_t offset,
                 const std::string& bytes) {
  Slice slice{bytes.data(), bytes.size()};
  files.open(path, OpenMode::kReadWrite, false)->write(offset, &slice, 1, true);
}

std::string read_file(FileSystem& files, const std::string& path) {
  auto file = files.open(path, OpenMode::kRead, false);
  std::string bytes(file->size(), '\0');
  CHECK_EQ(file->read(0, bytes.data(), bytes.size()), bytes.size());
  return bytes;
}

/// As if it had been written so: its checksum is right.
void mend(std::string& block) {
  uint32_t crc = crc32c(0, reinterpret_cast<uint8_t*>(block.data()) + 8, block.size() - 8);
  std::memcpy(block.data() + 4, &crc, sizeof crc);
}

std::vector<std::string> segments_of(MemoryFileSystem& files) {
  std::vector<std::string> found;
  for (const std::string& name : files.list("d")) {
    if (name.ends_with(".wal")) found.push_back("d/" + name);
  }
  return found;
}

void append(Owner& owner, uint64_t records, uint64_t most = 300) {
  for (uint64_t i = 0; i < records; i++) {
    owner.append(record_of(5, owner->closed().lsn + 1, most));
    owner.close_batch();
    owner.settle();
  }
}

std::shared_ptr<MemoryFileSystem> make_log(uint64_t records, bool clean) {
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(small_options(), files);
  owner.open_term();
  append(owner, records, 4000);
  if (clean) owner->close();
  DiskState state = files->state();
  owner.drop();
  return std::make_shared<MemoryFileSystem>(state);
}

/// What `change` makes of the first `size` bytes at `offset`, with a right checksum.
template <class Header>
void change(MemoryFileSystem& files, const std::string& path, uint64_t offset, uint64_t size,
            const std::function<void(Header&)>& change) {
  std::string block = read_file(files, path).substr(offset, size);
  Header header;
  std::memcpy(&header, block.data(), sizeof header);
  change(header);
  std::memcpy(block.data(), &header, sizeof header);
  mend(block);
  write_bytes(files, path, offset, block);
}

TEST(ValidationRefusesASegmentOfAnotherFormatVersion) {
  auto files = make_log(40, true);
  change<SegmentHeader>(*files, segments_of(*files)[1], 0, kSegmentHeaderBytes,
                        [](SegmentHeader& header) { header.version++; });
  CHECK_FAILS("WAL_CORRUPT", Owner(small_options(), files));
}

TEST(ValidationRefusesAControlFileOfWhichOneCopyIsOfAnotherFormatVersion) {
  for (uint64_t copy : {0, 1}) {
    auto files = make_log(3, true);
    change<ControlBlock>(*files, "d/control", copy * kControlCopyBytes, kControlCopyBytes,
                         [](ControlBlock& block) { block.version++; });
    CHECK_FAILS("WAL_VERSION", Owner(small_options(), files));
    CHECK_FAILS("WAL_VERSION", LogReader::open("d", files));
  }
}

TEST(ValidationRefusesASegmentWhoseHeaderDoesNotContinueTheLog) {
  // The whole header is a function of the log: any other value is another log's.
  auto files = make_log(40, true);
  change<SegmentHeader>(*files, segments_of(*files).back(), 0, kSegmentHeaderBytes,
                        [](SegmentHeader& header) { header.prev_crc++; });
  VerifyReport report = LogReader::open("d", files)->verify();
  CHECK(report.damage.has_value());
  CHECK_EQ(report.damage->file, segments_of(*files).back());
  // Opening starts in the last segment, and finds its first batch to follow another.
  CHECK_FAILS("WAL_CORRUPT", Owner(small_options(), files));
}

TEST(ValidationRefusesAWatermarkAtAnotherBatch) {
  auto files = make_log(5, true);
  ControlFile::open(*files, "d", false)->update(ControlFile::Copies::kBoth, [](Control& control) {
    control.watermark.crc++;
  });
  try {
    Owner owner(small_options(), files);
    throw CheckFailed("it was opened");
  } catch (const WalFailure& failure) {
    CHECK_EQ(failure.code, "WAL_CORRUPT");
    CHECK(std::string(failure.what()).find("another batch") != std::string::npos);
  }
}

TEST(ValidationTakesNoBatchOfAnOlderTermForAProof) {
  // Two lives go on from one place. The second has the newer term; of the first, only what lies
  // further on is left, and its batches call the place durable.
  auto start = std::make_shared<MemoryFileSystem>();
  {
    Owner owner(small_options(), start);
    owner.open_term();
  }
  auto first = std::make_shared<MemoryFileSystem>(start->state());
  {
    Owner owner(small_options(), first);
    owner.open_term();
    append(owner, 8);
  }
  auto second = std::make_shared<MemoryFileSystem>(start->state());
  uint64_t end = 0;
  {
    Owner owner(small_options(), second);
    Term next = owner->term();
    next.epoch += 7;
    owner.open_term(next);
    append(owner, 1);
    end = owner->closed().position;
    owner.drop();
  }
  std::string path = segments_of(*second)[0];
  std::string stale = read_file(*first, segments_of(*first)[0]);
  CHECK(stale.find("WMBT", end) != std::string::npos);
  write_bytes(*second, path, align_up(end, kBlock), stale.substr(align_up(end, kBlock)));
  write_bytes(*second, path, end, stale.substr(end, align_up(end, kBlock) - end));
  ControlFile::open(*second, "d", false)->update(ControlFile::Copies::kBoth, [](Control& control) {
    control.clean = false;
    control.watermark = {kFirstBatch, 0, 0};
  });
  Owner owner(small_options(), second);
  CHECK_EQ(owner->closed().position, end);
  CHECK_EQ(read_all(owner.log()).last_lsn(), 1u);
}

TEST(ValidationOfALogThatGrowsMeanwhileTakesNoGrowthForDamage) {
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(small_options(), files);
  owner.open_term();
  append(owner, 3);
  DiskState before = files->state();
  append(owner, 5);
  std::string path = segments_of(*files)[0];
  std::string grown = read_file(*files, path);
  // The walk has read the segment; what was appended since proves that its end is not the end.
  int grew = 0;
  for (int nth = 1; nth <= 8; nth++) {
    auto seen = std::make_shared<MemoryFileSystem>(before);
    int reads = 0;
    seen->on_read = [&](const std::string& read) {
      if (read != path || ++reads != nth) return;
      write_bytes(*seen, path, 0, grown);
      grew++;
    };
    auto reader = LogReader::open("d", seen);
    uint64_t lsn = reader->refresh().lsn;
    CHECK(lsn == 3 || lsn == 8);
  }
  CHECK(grew > 2);
}

TEST(ValidationOfBatchesLargerThanAPieceOfASegmentThatIsReadAtOnce) {
  auto files = std::make_shared<MemoryFileSystem>();
  LogOptions options = small_options();
  options.segment_bytes = 16 << 20;
  options.max_record_bytes = 5 << 20;
  options.ring_bytes = 32 << 20;
  options.max_batch_bytes = 8 << 20;
  Owner owner(options, files);
  owner.open_term();
  for (uint64_t lsn = 1; lsn <= 6; lsn++) {
    owner.append(record_of(5, lsn, 4'500'000));
    owner.append(record_of(6, lsn, 100'000));
    owner.close_batch();
  }
  owner->close();
  VerifyReport report = LogReader::open("d", files)->verify();
  CHECK(!report.damage);
  CHECK_EQ(report.records, 12u);
  owner.drop();
  CHECK_EQ(read_all(Owner(options, files).log()).last_lsn(), 12u);
}

class Walk {
 public:
  explicit Walk(const std::shared_ptr<MemoryFileSystem>& files) : files_(files) {
    Control control = ControlFile::open(*files, "d", true)->current();
    identity = {control.log_id, control.salt, control.segment_bytes, control.align};
    segments = std::make_unique<Segments>(files, "d", identity, true);
    segments->load(control.start_position);
  }
  LogIdentity identity;
  std::unique_ptr<Segments> segments;

 private:
  std::shared_ptr<MemoryFileSystem> files_;
};

TEST(ValidationOfASegmentWhoseHeaderWentAfterItWasFound) {
  auto files = make_log(40, true);
  Walk walk(files);
  files->flip(segments_of(*files)[0], 100);
  Walker walker(walk.identity, *walk.segments, Chain{});
  CHECK(walker.next() == Step::kBad);
  CHECK(walker.reason().find("checksum") != std::string::npos);
  CHECK_EQ(walker.file(), segments_of(*files)[0]);
}

TEST(ValidationOfAPlaceWhereNoBatchFitsAnyMore) {
  auto files = make_log(40, true);
  Walk walk(files);
  Chain chain;
  chain.position = walk.identity.segment_bytes - 64;
  Walker walker(walk.identity, *walk.segments, chain, false);
  CHECK(walker.next() == Step::kBad);
  CHECK(walker.reason().find("ends inside") != std::string::npos);
  chain.position = 99 * walk.identity.segment_bytes + kSegmentHeaderBytes;
  Walker beyond(walk.identity, *walk.segments, chain, false);
  CHECK(beyond.next() == Step::kMissing);
  CHECK(beyond.file().find("*-") != std::string::npos);
}

TEST(ValidationOfTheZerosBehindAFiller) {
  auto files = make_log(40, true);
  files->flip(segments_of(*files)[0], 65535 * 8);
  VerifyReport report = LogReader::open("d", files)->verify();
  CHECK(report.damage && report.damage->file == segments_of(*files)[0]);
  Owner owner(small_options(), files);  // which looks at the last segment only
  CHECK_FAILS("WAL_CORRUPT", read_all(owner.log()));
}

}  // namespace
}  // namespace walmirror::test::validation_test
