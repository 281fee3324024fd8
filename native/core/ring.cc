#include "ring.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "types.h"

namespace walmirror {
namespace {

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
  void* both = mmap(nullptr, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (both == MAP_FAILED) {
    close(fd);
    fail("mmap");
  }
  auto* base = static_cast<uint8_t*>(both);
  for (int half = 0; half < 2; half++) {
    void* mapped =
        mmap(base + half * size, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
    if (mapped == MAP_FAILED) {
      munmap(both, 2 * size);
      close(fd);
      fail("mmap");
    }
  }
  close(fd);  // the mappings keep the memory
  // A child of fork() must not share the log's memory with its parent.
  madvise(base, 2 * size, MADV_DONTFORK);
  base_ = base;
}

void Ring::discard() { madvise(base_, size_, MADV_REMOVE); }

Ring::~Ring() { munmap(base_, 2 * size_); }

}  // namespace walmirror
