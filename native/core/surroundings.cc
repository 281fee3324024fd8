#include "surroundings.h"

#include "random.h"

namespace walmirror {

Surroundings::Time Surroundings::now() { return std::chrono::steady_clock::now(); }

uint64_t Surroundings::wall_clock_us() {
  auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

void Surroundings::random(void* out, size_t size) { random_bytes(out, size); }

std::shared_ptr<Surroundings> real_surroundings() { return std::make_shared<Surroundings>(); }

}  // namespace walmirror
