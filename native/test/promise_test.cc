// Room that was promised is there: in the ring, and in segments that may come slowly or not at all.
#include <random>
#include <thread>

#include "log_fixture.h"

namespace walmirror::test::promise_test {
namespace {

/// Log bytes that records take from `position` on, by docs/format.md and the rules of batches
/// alone.
uint64_t space_of(Owner& owner, const std::vector<uint64_t>& sizes) {
  const LogIdentity& identity = owner->identity();
  uint64_t at = owner->closed().position;
  auto room = [&] {
    uint64_t limit = identity.batch_limit(at);
    uint64_t left = limit > at ? align_down(limit - at, identity.align) : 0;
    return left > kBatchHeaderBytes ? left - kBatchHeaderBytes : 0;
  };
  uint64_t capacity = owner->capacity();
  uint64_t payload = 0;
  auto close = [&] {
    if (payload > 0) at += align_up(kBatchHeaderBytes + payload, identity.align);
    payload = 0;
  };
  for (uint64_t size : sizes) {
    if (payload + size > capacity) {
      close();
      if (size > room()) at = identity.segment_end(at) + kSegmentHeaderBytes;
      capacity = std::min(std::max(owner->max_batch_bytes(), size), room());
    }
    payload += size;
  }
  close();
  return at - owner->closed().position;
}

/// Appends without a wait; false where there is no room.
bool append_at_once(Owner& owner, const std::vector<uint64_t>& lengths) {
  static const std::string bytes(8192, 'x');
  uint64_t payload = 0;
  uint32_t count = 0;
  for (uint64_t length : lengths) {
    uint64_t size = record_bytes(length);
    if (payload + size > owner->capacity()) {
      if (!owner->reserve(payload, count, size)) return false;
      payload = 0;
      count = 0;
    }
    owner->put(payload, reinterpret_cast<const uint8_t*>(bytes.data()), length);
    payload += size;
    count++;
  }
  owner->close_batch(payload, count);
  return true;
}

std::vector<uint64_t> sizes_of(const std::vector<uint64_t>& lengths) {
  std::vector<uint64_t> sizes;
  for (uint64_t length : lengths) sizes.push_back(record_bytes(length));
  return sizes;
}

std::vector<uint64_t> random_lengths(std::mt19937_64& random) {
  std::vector<uint64_t> lengths(1 + random() % 30);
  uint64_t most = random() % 3 == 0 ? 4096 : 500;
  for (uint64_t& length : lengths) length = random() % (most + 1);
  return lengths;
}

TEST(PromiseOfRingAndSegmentsIsKeptHoweverSlowlySegmentsCome) {
  for (bool padded : {false, true}) {
    auto files = std::make_shared<MemoryFileSystem>();
    LogOptions options = small_options();
    options.padded = padded;
    options.ring_bytes = 1 << 18;
    Owner owner(options, files);
    owner.open_term();
    std::mt19937_64 random(padded ? 2 : 1);
    uint64_t records = 0;
    uint64_t waits = 0;
    int holds = 0;
    while (records < (kSlow ? 4000u : 20000u)) {
      std::vector<uint64_t> lengths = random_lengths(random);
      uint64_t space = space_of(owner, sizes_of(lengths));
      files->hold_allocations = true;
      while (!owner->promise(space)) {
        waits++;
        // Once all is flushed, only a segment can be missing.
        owner.settle();
        CHECK(owner->ring_free() >= space);
        if (owner->segment_free() < space) {
          holds++;
          files->hold_allocations = false;
          files->hold_allocations.notify_all();
          std::this_thread::sleep_for(std::chrono::microseconds(50));
        }
      }
      CHECK(owner->ring_free() >= space && owner->segment_free() >= space);
      CHECK(owner->ring_floor() + owner->ring()->size() >= owner->closed().position + space);
      uint64_t before = owner->closed().position;
      CHECK(append_at_once(owner, lengths));
      CHECK_EQ(owner->closed().position, before + space);
      records += lengths.size();
    }
    files->hold_allocations = false;
    files->hold_allocations.notify_all();
    owner.settle();
    CHECK(holds > 20);
    CHECK_EQ(read_all(owner.log()).last_lsn(), records);
  }
}

TEST(PromiseThatIsNotGivenChangesNothing) {
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(small_options(), files);
  owner.open_term();
  owner.settle();
  uint64_t floor = owner->ring_floor();
  CHECK(!owner->promise(owner->ring()->size() + 1));
  CHECK_EQ(owner->ring_floor(), floor);
}

TEST(PromiseOnAFullDiskIsRefusedByNameAsAWholeAndGivenWhenThereIsSpace) {
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(small_options(), files);
  owner.open_term();
  files->full = true;
  std::vector<uint64_t> lengths(20, 4000);
  uint64_t position = owner->closed().position;
  std::string code;
  for (int tries = 0; code.empty() && tries < 5000; tries++) {
    try {
      CHECK(!owner->promise(space_of(owner, sizes_of(lengths))));
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    } catch (const WalFailure& failure) {
      code = failure.code;
    }
  }
  CHECK_EQ(code, "WAL_NO_SPACE");
  CHECK_EQ(owner->closed().position, position);
  // What is left of the segment can still be had.
  CHECK(owner->promise(owner->segment_free()));
  CHECK(append_at_once(owner, {100, 200}));
  files->full = false;
  for (int tries = 0;; tries++) {
    try {
      if (owner->promise(space_of(owner, sizes_of(lengths)))) break;
    } catch (const WalFailure& failure) {
      CHECK_EQ(failure.code, "WAL_NO_SPACE");
    }
    CHECK(tries < 5000);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK(append_at_once(owner, lengths));
  owner.settle();
  CHECK_EQ(owner->flushed().lsn, 22u);
}

TEST(PromiseWaitsForASegmentWithoutHoldingTheOwner) {
  auto files = std::make_shared<MemoryFileSystem>();
  Owner owner(small_options(), files);
  owner.open_term();
  files->hold_allocations = true;
  // With the housekeeper stuck in an allocation, every call returns; none would otherwise.
  for (int i = 0; i < 100; i++) CHECK(!owner->promise(owner->segment_free() + 1));
  int refused = 0;
  for (int i = 0; i < 40; i++) refused += append_at_once(owner, {4000}) ? 0 : 1;
  CHECK(refused > 20);
  files->hold_allocations = false;
  files->hold_allocations.notify_all();
  for (int tries = 0; !owner->promise(owner->ring()->size() / 2); tries++) {
    CHECK(tries < 5000);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace
}  // namespace walmirror::test::promise_test
