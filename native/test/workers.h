// Long work in several processes at once: each recovery maps memory and starts threads of its own,
// so that threads would wait for each other.
#pragma once

#include <sys/mman.h>

#include <functional>
#include <new>

#include "test.h"

namespace walmirror::test {

/// Whether all is to be tried that can be, however long it takes: `make exhaustive`.
bool exhaustive();

/// WALMIRROR_PART=k/n: whether this one is among the k-th of n parts; else all are.
bool in_part(size_t number);

/// Memory that processes share after a fork. T: atomics and plain arrays.
template <class T>
class Shared {
 public:
  Shared() {
    void* memory =
        mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw CheckFailed("mmap");
    shared_ = new (memory) T;
  }
  ~Shared() { munmap(shared_, sizeof(T)); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  T* operator->() { return shared_; }
  T& operator*() { return *shared_; }

 private:
  T* shared_;
};

/// Calls `work` with each number below `units`, in `workers` processes that take turns; throws the
/// first failure of any.
void share_work(int workers, size_t units, const std::function<void(size_t)>& work);

}  // namespace walmirror::test
