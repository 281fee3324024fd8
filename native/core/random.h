// Random numbers that nobody can guess, from the system.
#pragma once

#include <cstddef>

namespace walmirror {

/// Throws WAL_IO.
void random_bytes(void* out, size_t size);

}  // namespace walmirror
