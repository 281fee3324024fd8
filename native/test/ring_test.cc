#include "ring.h"

#include <atomic>
#include <cstring>
#include <thread>

#include "test.h"
#include "types.h"

namespace walmirror::test::ring_test {
namespace {

TEST(RingBytesAreTheSameInBothMappings) {
  Ring ring(1 << 16);
  for (uint64_t i = 0; i < ring.size(); i += 511) ring.base()[i] = static_cast<uint8_t>(i * 7);
  CHECK_EQ(std::memcmp(ring.base(), ring.base() + ring.size(), ring.size()), 0);
  ring.base()[ring.size() + 5] = 99;
  CHECK_EQ(int{ring.base()[5]}, 99);
}

TEST(RingRangeAcrossItsEndIsContiguous) {
  Ring ring(4096);
  const char text[] = "crosses the end";
  uint64_t position = 10 * 4096 - 5;
  std::memcpy(ring.at(position), text, sizeof text);
  CHECK_EQ(std::string(reinterpret_cast<char*>(ring.at(position))), std::string(text));
  CHECK_EQ(int{ring.base()[0]}, int{text[5]});
}

TEST(RingTooLargeForTheMachineFailsByName) { CHECK_FAILS("WAL_IO", Ring ring(1ull << 62)); }

constexpr uint64_t kSize = 8u << 20;

void fill(Ring& ring, uint64_t seed) {
  for (uint64_t at = 0; at < kSize; at += 8) {
    uint64_t value = (at + seed) * 0x9e3779b97f4a7c15u;
    std::memcpy(ring.at(at), &value, sizeof value);
  }
}

bool holds(const Ring& ring, uint64_t seed) {
  for (uint64_t at = 0; at < 2 * kSize; at += 8) {  // through the second mapping too
    uint64_t value;
    std::memcpy(&value, ring.base() + at, sizeof value);
    if (value != (at % kSize + seed) * 0x9e3779b97f4a7c15u) return false;
  }
  return true;
}

TEST(RingKeepsWhatItHoldsWhenItsPagesGrow) {
  Ring ring(kSize);
  fill(ring, 1);
  int calls = 0;
  while (ring.enlarge_pages()) calls++;
  CHECK(calls <= 40);  // it ends, whether the system has large pages or not
  for (int i = 0; i < 40; i++) CHECK(!ring.enlarge_pages());
  CHECK(holds(ring, 1));
}

TEST(RingTakesWhatIsWrittenWhileItsPagesGrow) {
  for (int round = 0; round < 10; round++) {
    Ring ring(kSize);
    fill(ring, 0);
    std::atomic<bool> grown{false};
    std::thread grower([&] {
      while (ring.enlarge_pages()) continue;
      grown = true;
    });
    uint64_t seed = 1;
    for (; !grown; seed++) fill(ring, seed);
    grower.join();
    CHECK(holds(ring, seed - 1));
  }
}

TEST(RingsTooSmallForALargePageStayAsTheyAre) {
  Ring ring(64 << 10);
  CHECK(!ring.enlarge_pages());
}

}  // namespace
}  // namespace walmirror::test::ring_test
