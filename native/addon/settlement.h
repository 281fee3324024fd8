// A promise, and what an engine's thread has to say of it.
#pragma once

#include <exception>
#include <functional>
#include <memory>

#include "bridge.h"
#include "types.h"

namespace walmirror {

/// All the memory that settling takes is had when it is made, on JavaScript's thread: where there
/// is none left later, the promise is rejected for that. The event loop stays alive until then.
class Settlement : public std::enable_shared_from_this<Settlement> {
 public:
  /// Gives the value; what it throws rejects the promise.
  using Result = std::function<Napi::Value(Napi::Env)>;

  static std::shared_ptr<Settlement> create(Napi::Env env, std::shared_ptr<Bridge> bridge);

  // -- JavaScript's thread --
  Napi::Promise promise() const { return deferred_.Promise(); }
  /// Runs before it is settled, whatever with.
  void before(Bridge::Completion call) { before_ = std::move(call); }
  /// Runs after it was, with whether it was resolved.
  void after(std::function<void(Napi::Env, bool good)> call) { after_ = std::move(call); }
  /// From a result: it is not settled by it, but later, by `resolve` or `reject`.
  void keep_open(Napi::Env env);
  void resolve(Napi::Env env, Napi::Value value);
  void reject(Napi::Env env, const WalFailure& failure);
  /// Nothing will be run, and the caller tells so itself.
  void abandon(Napi::Env env);

  // -- any thread, once --
  /// Runs the body, and has its result, or what it threw, told. Throws nothing.
  void run(const std::function<Result()>& body);

 private:
  Settlement(Napi::Env env, std::shared_ptr<Bridge> bridge)
      : bridge_(std::move(bridge)), deferred_(Napi::Promise::Deferred::New(env)) {}
  void tell(Napi::Env env);
  void settle(Napi::Env env);
  void reject_with(Napi::Env env, Napi::Value error);

  std::shared_ptr<Bridge> bridge_;
  Napi::Promise::Deferred deferred_;
  std::shared_ptr<Bridge::Note> note_;
  Bridge::Completion before_;
  std::function<void(Napi::Env, bool)> after_;
  Result result_;
  std::exception_ptr failure_;
  bool kept_open_ = false;
  bool settled_ = false;
  bool good_ = false;
};

}  // namespace walmirror
