// The clock by which a lease ends.
#pragma once

namespace walmirror {

/// Milliseconds since the machine was started, the time in which it was suspended included
/// (CLOCK_BOOTTIME): a lease that another machine keeps runs on meanwhile. Never falls. A quiet NaN
/// where the kernel has no such clock (before Linux 2.6.39): no deadline is before it.
double boot_milliseconds();

}  // namespace walmirror
