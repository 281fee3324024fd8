// An open log whose owner has given out a handle: where other threads of the process find it, and
// the short texts that they and the owner send each other (src/api/attached_calls.ts).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "bridge.h"
#include "log.h"

namespace walmirror {

/// The owner is the environment that opened the log; each other one that attached is a member. What
/// one sends comes in order, on the thread of the other, and goes nowhere when that has ended.
class SharedLog : public std::enable_shared_from_this<SharedLog> {
 public:
  /// Nothing: the owner has ended, or the member `from` has left.
  using Heard = std::function<void(Napi::Env, uint64_t from, const std::string* text)>;

  static std::shared_ptr<SharedLog> create(std::shared_ptr<Log> log, std::shared_ptr<Bridge> owner,
                                           Heard heard);
  /// nullptr: no open log of this process has this handle.
  static std::shared_ptr<SharedLog> find(const std::string& handle);

  const std::string& handle() const { return handle_; }
  Log& log() const { return *log_; }

  // -- the owner --
  void tell(uint64_t to, std::string text);
  /// The log is closed: every member is told, and nobody finds it any more. Any thread; idempotent;
  /// takes no memory.
  void end();

  // -- members --
  /// Returns the number of the new member. Throws WAL_CLOSED.
  uint64_t join(std::shared_ptr<Bridge> bridge, Heard told);
  /// False: the owner has ended.
  bool ask(uint64_t from, std::string text);
  /// A batch was closed: the owner sends it to standbys.
  void batch_closed();
  /// Takes no memory.
  void leave(uint64_t member);

 private:
  struct Member {
    std::shared_ptr<Bridge> bridge;
    Heard told;
    // Made ahead: when they are needed, there may be no memory for them.
    std::shared_ptr<Bridge::Note> owner_ended;
    std::shared_ptr<Bridge::Note> has_left;
  };

  SharedLog(std::shared_ptr<Log> log, std::shared_ptr<Bridge> owner, Heard heard);

  std::string handle_;
  std::shared_ptr<Log> log_;
  Heard heard_;
  std::mutex mutex_;
  std::shared_ptr<Bridge> owner_;  // nullptr: it has ended
  std::map<uint64_t, Member> members_;
  uint64_t next_ = 1;
};

}  // namespace walmirror
