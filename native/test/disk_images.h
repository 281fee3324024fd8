// All that a power loss may leave of a disk at one instant: every subset of the sectors that are
// not flushed, with every prefix of the changes of the directory, with every outcome for the sizes.
#pragma once

#include <functional>

#include "memory_file_system.h"

namespace walmirror::test {

/// 2^full_bits outcomes of sectors at most; where there are more, `samples` of them: none, all,
/// each sector alone, all but each, each prefix and suffix, and the rest drawn.
struct ImageLimits {
  uint32_t full_bits = 8;
  uint32_t samples = 64;
  DiskModel disk{};
};

/// Equal for images with the same files of the same content and size, whatever their inodes.
using ImageHash = uint64_t;

ImageHash hash_of(const DiskState& image);

/// Calls `visit` with each image's hash, and with what builds it; everything in it is flushed.
/// The draw depends on `seed` alone.
void for_each_image(const DiskState& state, const ImageLimits& limits, uint64_t seed,
                    const std::function<void(ImageHash, const std::function<DiskState()>&)>& visit);

}  // namespace walmirror::test
