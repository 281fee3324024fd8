// The control file: any bytes are read or refused by name; what was read is the same after it is
// written. Input: two bytes with the length of the first copy, then both copies, without the zeros
// at their ends.
#include "control_file.h"
#include "fuzz.h"
#include "memory_file_system.h"

using namespace walmirror;
using namespace walmirror::fuzz;
using namespace walmirror::simulated;

namespace {

struct Copies {
  uint8_t* first;
  size_t first_size;
  uint8_t* second;
  size_t second_size;
};

Copies copies_of(uint8_t* data, size_t size) {
  size_t rest = size - 2;
  size_t first =
      std::min<size_t>({data[0] | static_cast<size_t>(data[1]) << 8, rest, kControlCopyBytes});
  size_t second = std::min<size_t>(rest - first, kControlCopyBytes);
  return {data + 2, first, data + 2 + first, second};
}

void mend(uint8_t* copy, size_t size) {
  if (size < 8) return;
  std::string whole(kControlCopyBytes, '\0');
  std::memcpy(whole.data(), copy, size);
  uint32_t crc = crc32c(0, reinterpret_cast<uint8_t*>(whole.data()) + 8, whole.size() - 8);
  std::memcpy(copy + 4, &crc, sizeof crc);
}

void check_same(const Control& a, const Control& b) {
  FUZZ_CHECK(a.log_id == b.log_id && a.salt == b.salt && a.node_id == b.node_id);
  FUZZ_CHECK(a.segment_bytes == b.segment_bytes && a.align == b.align && a.role == b.role);
  FUZZ_CHECK(a.clean == b.clean && a.cut_under_way == b.cut_under_way);
  FUZZ_CHECK(a.term == b.term && a.history.size() == b.history.size());
  FUZZ_CHECK(a.watermark.position == b.watermark.position && a.watermark.crc == b.watermark.crc);
  FUZZ_CHECK(a.rule == b.rule && a.contact_us == b.contact_us);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  std::string input(reinterpret_cast<const char*>(data), size);
  Copies copies = copies_of(reinterpret_cast<uint8_t*>(input.data()), size);
  std::string both(2 * kControlCopyBytes, '\0');
  std::memcpy(both.data(), copies.first, copies.first_size);
  std::memcpy(both.data() + kControlCopyBytes, copies.second, copies.second_size);
  MemoryFileSystem files;
  {
    auto file = files.open("d/control", OpenMode::kCreate, false);
    Slice slice{both.data(), both.size()};
    file->write(0, &slice, 1, true);
  }
  try {
    Control read = ControlFile::open(files, "d", true)->current();
    FUZZ_CHECK(read.history.size() <= kMaxHistory);
    std::unique_ptr<ControlFile> file = ControlFile::open(files, "d", false);
    check_same(read, file->current());
    file->update(ControlFile::Copies::kBoth, [](Control&) {});
    check_same(read, ControlFile::open(files, "d", true)->current());
  } catch (const WalFailure& failure) {
    FUZZ_CHECK(failure.code == "WAL_CORRUPT" || failure.code == "WAL_VERSION");
    FUZZ_CHECK(failure.file == "d/control");
  }
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned seed) {
  std::mt19937 random(seed);
  if (size < 2 + 512) {
    ControlBlock block{};
    block.magic = kControlMagic;
    block.version = kFormatVersion;
    block.align = 8;
    block.sequence = 5;
    block.segment_bytes = kSegmentBytes;
    block.role = 1;
    block.history_entries = 1;
    std::string copy(reinterpret_cast<char*>(&block), 600);
    std::string input("\x58\x02");
    for (int i = 0; i < 2; i++) {
      mend(reinterpret_cast<uint8_t*>(copy.data()), copy.size());
      input += copy;
      copy[offsetof(ControlBlock, sequence)]++;
    }
    return take(input, data, most);
  }
  size = LLVMFuzzerMutate(data, size, most);
  if (size < 2 || random() % 4 == 0) return size;
  Copies copies = copies_of(data, size);
  mend(copies.first, copies.first_size);
  mend(copies.second, copies.second_size);
  return size;
}
