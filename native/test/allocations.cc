#include "allocations.h"

#include <sys/mman.h>
#include <sys/types.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>
#include <utility>

#include "memory_file_system.h"

namespace walmirror::test {
namespace {

std::atomic<bool> armed{false};
std::atomic<uint64_t> count{0};
std::atomic<uint64_t> fails_at{0};
std::atomic<bool> fails_on{false};
thread_local std::function<void()>* before = nullptr;

[[maybe_unused]] void call_before() {
  if (before == nullptr) return;
  std::function<void()>* call = std::exchange(before, nullptr);
  (*call)();
  before = call;
}

bool fails() {
  if (!armed.load(std::memory_order_acquire) || inside_a_disk > 0) return false;
  uint64_t number = ++count;
  return fails_on ? number >= fails_at : number == fails_at;
}

}  // namespace

FailingAllocations::FailingAllocations(uint64_t nth, bool ever_after) {
  count = 0;
  fails_at = nth;
  fails_on = ever_after;
  armed.store(true, std::memory_order_release);
}

FailingAllocations::~FailingAllocations() { armed.store(false, std::memory_order_release); }

uint64_t FailingAllocations::seen() const { return count; }

BeforeAllocations::BeforeAllocations(std::function<void()> call) : call_(std::move(call)) {
  before = &call_;
}

BeforeAllocations::~BeforeAllocations() { before = nullptr; }

}  // namespace walmirror::test

using walmirror::test::call_before;
using walmirror::test::fails;

#ifndef WALMIRROR_FUZZ  // where the sanitizer's own shall see every allocation
void* operator new(size_t size) {
  call_before();
  void* memory = fails() ? nullptr : std::malloc(size > 0 ? size : 1);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void operator delete(void* memory) noexcept { std::free(memory); }

void operator delete(void* memory, size_t) noexcept { std::free(memory); }
#endif

// The linker sends the core's calls here (see the Makefile).
extern "C" {
int __real_posix_memalign(void** memory, size_t alignment, size_t size);
int __real_memfd_create(const char* name, unsigned flags);
void* __real_mmap(void* at, size_t size, int protection, int flags, int fd, off_t offset);

int __wrap_posix_memalign(void** memory, size_t alignment, size_t size) {
  return fails() ? ENOMEM : __real_posix_memalign(memory, alignment, size);
}

int __wrap_memfd_create(const char* name, unsigned flags) {
  if (!fails()) return __real_memfd_create(name, flags);
  errno = ENOMEM;
  return -1;
}

void* __wrap_mmap(void* at, size_t size, int protection, int flags, int fd, off_t offset) {
  if (!fails()) return __real_mmap(at, size, protection, flags, fd, offset);
  errno = ENOMEM;
  return MAP_FAILED;
}
}
