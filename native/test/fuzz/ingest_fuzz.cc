// What a standby takes from a primary: any bytes, in pieces of any size, are kept as verified
// batches or refused by name, and nothing of a batch that does not verify is kept. Input: a byte
// that says how it is cut, then the stream from the first batch on.
#include "fuzz.h"
#include "log_fixture.h"
#include "workload.h"

using namespace walmirror;
using namespace walmirror::fuzz;
using namespace walmirror::test;

namespace {

const Source& source() {
  static const Source& made = *new Source(make_source(false));
  return made;
}

/// A standby's empty log, made once.
const DiskState& empty_disk() {
  static const DiskState& made = *new DiskState([] {
    auto files = std::make_shared<MemoryFileSystem>();
    LogOptions options = workload_options();
    options.role = Role::kStandby;
    Owner owner(options, files);
    owner->store_role(Role::kStandby, source().term, "p", "");
    owner->close();
    return files->state();
  }());
  return made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  auto files = std::make_shared<MemoryFileSystem>(empty_disk());
  std::string stream(reinterpret_cast<const char*>(data) + 1, size - 1);
  uint64_t kept;
  {
    Owner owner(workload_options(), files);
    owner->begin_ingest(source().history);
    size_t piece = data[0] == 0 ? stream.size() : size_t{data[0]} * 17;
    try {
      for (size_t at = 0; at < stream.size();) {
        std::string part = stream.substr(at, piece);
        uint64_t taken = owner->ingest(reinterpret_cast<const uint8_t*>(part.data()), part.size());
        FUZZ_CHECK(taken <= part.size() && owner->closed().position <= owner->received());
        at += taken;
        if (taken < part.size()) owner.wait_for_progress();
      }
    } catch (const WalFailure& failure) {
      FUZZ_CHECK(failure.code == "WAL_PEER_INVALID");
      FUZZ_CHECK(owner->received() == owner->closed().position);
    }
    owner.settle();
    kept = owner->closed().position;
    FUZZ_CHECK(kept >= kFirstBatch && kept - kFirstBatch <= stream.size());
    std::string bytes = read_bytes(owner.log(), kFirstBatch);
    FUZZ_CHECK(bytes == stream.substr(0, kept - kFirstBatch));
    owner->close();
  }
  Owner again(workload_options(), files);
  FUZZ_CHECK(again->closed().position == kept);
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned seed) {
  std::mt19937 random(seed);
  if (size < 1 + kBatchHeaderBytes) {
    size_t batches = 1 + random() % 8;
    size_t length = source().ends[batches].position - kFirstBatch;
    return take(std::string(1, '\0') + source().bytes.substr(0, length), data, most);
  }
  size = LLVMFuzzerMutate(data, size, most);
  if (size == 0 || random() % 4 == 0) return size;
  mend_batches(fuzz_identity(), data + 1, size - 1, random() % 2 == 0);
  return size;
}
