// The log memory: `size` bytes mapped twice in a row, so that any range of up to `size` bytes is
// contiguous.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

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

  /// Puts the next extent of memory on a large page, where the system has them: a direct write is
  /// then a few pieces of memory to the device instead of one for each 4 KiB (docs/adr/0009). What
  /// lies in it stays as it is, for whoever reads or writes it meanwhile. It takes the memory of
  /// the whole extent: for a ring that has been written from end to end. False: nothing is left to
  /// try. By one thread.
  bool enlarge_pages();

  uint64_t size() const { return size_; }
  uint8_t* base() const { return base_; }
  uint8_t* at(uint64_t position) const { return base_ + (position & (size_ - 1)); }

 private:
  uint64_t size_;
  uint8_t* base_ = nullptr;
  std::vector<uint64_t> small_;  // offsets of the extents that are not on a large page yet
  size_t next_ = 0;              // of those
  int passes_ = 0;
};

}  // namespace walmirror
