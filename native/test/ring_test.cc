#include "ring.h"

#include <cstring>

#include "test.h"
#include "types.h"

namespace walmirror {
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

}  // namespace
}  // namespace walmirror
