#include "boot_clock.h"

#include <fstream>

#include "test.h"

namespace walmirror::test::boot_clock_test {
namespace {

/// The kernel's own figure, in which time of suspension counts; to a hundredth of a second.
double uptime_milliseconds() {
  double seconds = 0;
  std::ifstream("/proc/uptime") >> seconds;
  return seconds * 1e3;
}

TEST(BootClockIsTheUptimeOfTheKernel) {
  double before = boot_milliseconds();
  double uptime = uptime_milliseconds();
  double after = boot_milliseconds();
  CHECK(before - 20 <= uptime);
  CHECK(uptime <= after + 20);
}

TEST(BootClockNeverFalls) {
  double last = boot_milliseconds();
  for (int i = 0; i < 100000; i++) {
    double now = boot_milliseconds();
    CHECK(now >= last);
    last = now;
  }
}

}  // namespace
}  // namespace walmirror::test::boot_clock_test
