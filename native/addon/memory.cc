#include "memory.h"

#include <map>
#include <mutex>

namespace walmirror {
namespace {

struct Known {
  std::mutex mutex;
  std::map<const uint8_t*, std::weak_ptr<AlignedBuffer>> by_start;
};

/// Never freed: buffers may go when the process ends.
Known& known() {
  static auto& all = *new Known;
  return all;
}

}  // namespace

std::shared_ptr<AlignedBuffer> make_aligned_memory(size_t size) {
  std::shared_ptr<AlignedBuffer> memory(new AlignedBuffer(AlignedBuffer::zeroed(size)),
                                        [](AlignedBuffer* buffer) {
                                          {
                                            std::lock_guard<std::mutex> guard(known().mutex);
                                            known().by_start.erase(buffer->data());
                                          }
                                          delete buffer;
                                        });
  std::lock_guard<std::mutex> guard(known().mutex);
  known().by_start[memory->data()] = memory;
  return memory;
}

std::shared_ptr<AlignedBuffer> aligned_memory_of(const uint8_t* data) {
  std::lock_guard<std::mutex> guard(known().mutex);
  auto after = known().by_start.upper_bound(data);
  if (after == known().by_start.begin()) return nullptr;
  const auto& [start, memory] = *std::prev(after);
  std::shared_ptr<AlignedBuffer> held = memory.lock();
  bool inside = held != nullptr && data < start + held->size();
  return inside ? held : nullptr;
}

}  // namespace walmirror
