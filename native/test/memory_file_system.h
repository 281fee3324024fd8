// The simulated disk, for tests.
#pragma once

#include "../simulated/memory_file_system.h"

namespace walmirror::test {
using namespace walmirror::simulated;
}
