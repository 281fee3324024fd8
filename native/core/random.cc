#include "random.h"

#include <sys/random.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "types.h"

namespace walmirror {

void random_bytes(void* out, size_t size) {
  auto* at = static_cast<uint8_t*>(out);
  while (size > 0) {
    ssize_t got = getrandom(at, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw WalFailure("WAL_IO", std::string("getrandom: ") + std::strerror(errno));
    at += got;
    size -= static_cast<size_t>(got);
  }
}

}  // namespace walmirror
