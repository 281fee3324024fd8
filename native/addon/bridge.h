// From the engine's threads to JavaScript's: wakes the loop once for all that happened, and runs
// completions there.
#pragma once

#include <napi.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>

namespace walmirror {

/// One a log and environment. Threads may outlive the environment: after `detach` what they say
/// goes nowhere.
class Bridge : public std::enable_shared_from_this<Bridge> {
 public:
  using Completion = std::function<void(Napi::Env)>;
  /// A completion that has all the memory it needs to be told.
  struct Note {
    Completion completion;
    std::shared_ptr<Note> next;
  };
  static std::shared_ptr<Note> note(Completion completion);

  /// JavaScript's thread. `on_progress` runs there after any number of `signal`s.
  /// Not `wakes`: the loop is never woken, what there is to tell waits for `deliver`.
  static std::shared_ptr<Bridge> create(Napi::Env env, bool wakes = true);
  ~Bridge();

  /// Any thread; never blocks for long.
  void signal();
  /// Has it run on JavaScript's thread. Takes no memory.
  void complete(std::shared_ptr<Note> note);
  void complete(Completion completion) { complete(note(std::move(completion))); }

  // -- JavaScript's thread --
  bool has_news();
  void deliver(Napi::Env env) { drain(env); }
  /// What is done, and was not told, nobody of this life hears of any more.
  void abandon() { abandoned_ = true; }
  bool abandoned() const { return abandoned_; }
  void on_progress(Completion callback) { progress_ = std::move(callback); }
  /// Runs when the environment ends, after `detach`.
  void on_teardown(std::function<void()> callback) { teardown_ = std::move(callback); }
  /// While held, the event loop stays alive.
  void hold(Napi::Env env);
  void let_go(Napi::Env env);
  void detach();

 private:
  Bridge() = default;
  void make_function(Napi::Env env);
  void wake();
  void drain(Napi::Env env);
  static void clean_up(void* bridge);
  bool run(Napi::Env env, const Completion& completion);
  static void call_js(napi_env env, napi_value callback, void* context, void* data);

  std::mutex mutex_;
  napi_threadsafe_function function_ = nullptr;
  bool attached_ = false;
  bool woken_ = false;
  bool progressed_ = false;
  std::shared_ptr<Note> first_;
  Note* last_ = nullptr;
  Completion progress_;
  std::function<void()> teardown_;
  napi_env env_ = nullptr;
  int holds_ = 0;
  bool abandoned_ = false;
};

}  // namespace walmirror
