#include "ring.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "file_system.h"
#include "types.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25  // Linux 6.1; refused before
#endif

namespace walmirror {
namespace {

/// An extent is refused while a write under way refers to it: that often they are tried again.
constexpr int kMostRetries = 8;

[[noreturn]] void fail(const char* what) {
  throw WalFailure("WAL_IO",
                   std::string("cannot map the log memory: ") + what + ": " + std::strerror(errno));
}

}  // namespace

Ring::Ring(uint64_t size) : size_(size) {
  int fd = memfd_create("walmirror-ring", MFD_CLOEXEC);
  if (fd < 0) fail("memfd_create");
  if (ftruncate(fd, static_cast<off_t>(size)) != 0) {
    close(fd);
    fail("ftruncate");
  }
  // A large page needs an address that is a multiple of it. What is reserved too much goes back.
  uint64_t spare = size >= kLargePage ? kLargePage : 0;
  void* reserved = mmap(nullptr, 2 * size + spare, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (reserved == MAP_FAILED) {
    close(fd);
    fail("mmap");
  }
  auto* first = static_cast<uint8_t*>(reserved);
  uint64_t before = spare == 0 ? 0 : (~reinterpret_cast<uintptr_t>(first) + 1) % kLargePage;
  uint8_t* base = first + before;
  if (before > 0) munmap(first, before);
  if (spare > before) munmap(base + 2 * size, spare - before);
  for (int half = 0; half < 2; half++) {
    void* mapped =
        mmap(base + half * size, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    if (mapped == MAP_FAILED) {
      munmap(base, 2 * size);
      close(fd);
      fail("mmap");
    }
  }
  close(fd);  // the mappings keep the memory
  // A child of fork() must not share the log's memory with its parent.
  madvise(base, 2 * size, MADV_DONTFORK);
  base_ = base;
  for (uint64_t at = 0; at + kLargePage <= size; at += kLargePage) small_.push_back(at);
}

void Ring::discard() { madvise(base_, size_, MADV_REMOVE); }

bool Ring::enlarge_pages() {
  if (next_ >= small_.size()) {
    next_ = 0;
    if (++passes_ >= kMostRetries) small_.clear();
  }
  if (small_.empty()) return false;
  auto extent = small_.begin() + static_cast<std::ptrdiff_t>(next_);
  if (madvise(base_ + *extent, kLargePage, MADV_COLLAPSE) == 0) {
    small_.erase(extent);
  } else if (errno == EINVAL) {
    small_.clear();  // not on this system
    next_ = 0;
  } else {
    next_++;
  }
  return true;
}

Ring::~Ring() { munmap(base_, 2 * size_); }

}  // namespace walmirror
