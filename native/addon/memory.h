// The memory of `allocateAligned`. A worker that is terminated frees its buffers before the hook
// runs that ends its logs: a task that still reads into one keeps its memory.
#pragma once

#include <memory>

#include "file_system.h"

namespace walmirror {

std::shared_ptr<AlignedBuffer> make_aligned_memory(size_t size);

/// Whose memory this is; nullptr: not from `make_aligned_memory`. Any thread.
std::shared_ptr<AlignedBuffer> aligned_memory_of(const uint8_t* data);

}  // namespace walmirror
