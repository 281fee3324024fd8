// Memory that runs out: every allocation of the process, by `new`, of aligned buffers and of
// mappings, can be made to fail by its number.
#pragma once

#include <cstdint>
#include <functional>

namespace walmirror::test {

/// While it lives, the n-th allocation of any thread from its making on fails (1 is the first);
/// with `ever_after`, all that follow fail too. One at a time.
class FailingAllocations {
 public:
  FailingAllocations(uint64_t nth, bool ever_after);
  ~FailingAllocations();
  FailingAllocations(const FailingAllocations&) = delete;
  FailingAllocations& operator=(const FailingAllocations&) = delete;

  /// Allocations so far.
  uint64_t seen() const;
};

/// While it lives, calls this before each `new` of the thread that made it: to look at what others
/// see in between. What it calls may allocate.
class BeforeAllocations {
 public:
  explicit BeforeAllocations(std::function<void()> call);
  ~BeforeAllocations();
  BeforeAllocations(const BeforeAllocations&) = delete;
  BeforeAllocations& operator=(const BeforeAllocations&) = delete;

 private:
  std::function<void()> call_;
};

}  // namespace walmirror::test
