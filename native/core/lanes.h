// Threads that make the calls to one directory, so that one that hangs is left behind.
#pragma once

#include <functional>
#include <memory>
#include <vector>

namespace walmirror {

/// As many threads as calls are under way at the same time; those that are idle wait for the next.
class Lanes {
 public:
  Lanes() = default;
  ~Lanes();
  Lanes(const Lanes&) = delete;
  Lanes& operator=(const Lanes&) = delete;

  /// Runs the task, which throws nothing, on a thread of its own. Throws where there is none.
  void run(std::function<void()> task);
  /// Ends the threads that are idle. One that is in a call ends when that returns, whenever that
  /// is: nobody waits for it.
  void end();
  /// Whether no call is under way.
  bool quiet() const;

 private:
  struct Lane;
  struct Idle;

  std::shared_ptr<Idle> idle_ = make_idle();
  static std::shared_ptr<Idle> make_idle();
};

}  // namespace walmirror
