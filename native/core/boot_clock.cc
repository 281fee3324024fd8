#include "boot_clock.h"

#include <time.h>

#include <limits>

namespace walmirror {

double boot_milliseconds() {
  struct timespec now {};
  if (clock_gettime(CLOCK_BOOTTIME, &now) != 0) return std::numeric_limits<double>::quiet_NaN();
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

}  // namespace walmirror
