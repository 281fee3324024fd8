#include "short_calls.h"

#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

namespace walmirror::test {

ShortCalls& short_calls() {
  static ShortCalls calls;
  return calls;
}

namespace {

/// How many of `size` bytes this call may take; `size` where it is not the one.
size_t limit(std::atomic<int>& counter, size_t size) {
  if (counter == 0 || --counter != 0) return size;
  switch (short_calls().how.load()) {
    case ShortCall::kHalf:
      return std::max<size_t>(size / 2 / 4096 * 4096, std::min<size_t>(size, 4096));
    case ShortCall::kOneSector:
      return std::min<size_t>(size, 512);
    case ShortCall::kNothing:
      return 0;
    case ShortCall::kInterrupted:
      break;
  }
  return SIZE_MAX;
}

}  // namespace
}  // namespace walmirror::test

// The linker sends the core's calls here (see the Makefile).
extern "C" {
ssize_t __real_pwritev2(int fd, const iovec* vectors, int count, off_t offset, int flags);
ssize_t __real_pread(int fd, void* data, size_t size, off_t offset);

ssize_t __wrap_pwritev2(int fd, const iovec* vectors, int count, off_t offset, int flags) {
  size_t size = 0;
  for (int i = 0; i < count; i++) size += vectors[i].iov_len;
  size_t most = walmirror::test::limit(walmirror::test::short_calls().write_in, size);
  if (most == size) return __real_pwritev2(fd, vectors, count, offset, flags);
  if (most == 0) return 0;
  if (most == SIZE_MAX) {
    errno = EINTR;
    return -1;
  }
  std::vector<iovec> part;
  for (int i = 0; i < count && most > 0; i++) {
    part.push_back({vectors[i].iov_base, std::min(vectors[i].iov_len, most)});
    most -= part.back().iov_len;
  }
  return __real_pwritev2(fd, part.data(), static_cast<int>(part.size()), offset, flags);
}

ssize_t __wrap_pread(int fd, void* data, size_t size, off_t offset) {
  size_t most = walmirror::test::limit(walmirror::test::short_calls().read_in, size);
  if (most == SIZE_MAX) {
    errno = EINTR;
    return -1;
  }
  return most == 0 ? 0 : __real_pread(fd, data, most, offset);
}
}
