// The log memory: `size` bytes mapped twice in a row, so that any range of up to `size` bytes is
// contiguous.
#pragma once

#include <cstddef>
#include <cstdint>

namespace walmirror {

/// Position p lies at p mod size. Knows nothing of who may write where: Log does.
class Ring {
 public:
  /// `size`: a power of two, a multiple of the page size. Throws WalFailure.
  explicit Ring(uint64_t size);
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  /// Gives the memory back; it reads as zeros afterwards.
  void discard();

  uint64_t size() const { return size_; }
  uint8_t* base() const { return base_; }
  uint8_t* at(uint64_t position) const { return base_ + (position & (size_ - 1)); }

 private:
  uint64_t size_;
  uint8_t* base_ = nullptr;
};

}  // namespace walmirror
