#include "settlement.h"

#include <new>
#include <utility>

#include "convert.h"

namespace walmirror {

std::shared_ptr<Settlement> Settlement::create(Napi::Env env, std::shared_ptr<Bridge> bridge) {
  std::shared_ptr<Settlement> made(new Settlement(env, std::move(bridge)));
  made->note_ = Bridge::note([made](Napi::Env now) { made->tell(now); });
  made->bridge_->hold(env);
  return made;
}

void Settlement::run(const std::function<Result()>& body) {
  try {
    result_ = body();
  } catch (...) {
    failure_ = std::current_exception();
  }
  bridge_->complete(std::move(note_));
}

/// What was given to it goes here too: it may belong to JavaScript, and whoever else holds this is
/// on another thread.
void Settlement::tell(Napi::Env env) {
  bridge_->let_go(env);
  Result result = std::exchange(result_, nullptr);
  Bridge::Completion before = std::exchange(before_, nullptr);
  std::function<void(Napi::Env, bool)> after = std::exchange(after_, nullptr);
  try {
    if (before) before(env);
    if (failure_) std::rethrow_exception(failure_);
    if (bridge_->abandoned()) throw WalFailure("WAL_CLOSED", "the log is closed");
    Napi::Value value = result(env);
    if (!kept_open_ && !settled_) resolve(env, value);
  } catch (const Napi::Error& error) {
    reject_with(env, error.Value());
  } catch (const WalFailure& failure) {
    reject(env, failure);
  } catch (const std::bad_alloc&) {
    reject_with(env, no_memory(env).Value());
  } catch (const std::exception& error) {
    reject_with(env, Napi::Error::New(env, error.what()).Value());
  }
  if (after) after(env, good_);
}

void Settlement::keep_open(Napi::Env env) {
  kept_open_ = true;
  bridge_->hold(env);
}

void Settlement::resolve(Napi::Env env, Napi::Value value) {
  if (settled_) return;
  settle(env);
  good_ = true;
  deferred_.Resolve(value);
}

void Settlement::reject(Napi::Env env, const WalFailure& failure) {
  try {
    reject_with(env, to_error(env, failure).Value());
  } catch (const std::bad_alloc&) {
    reject_with(env, no_memory(env).Value());
  }
}

void Settlement::reject_with(Napi::Env env, Napi::Value error) {
  if (settled_) return;
  settle(env);
  deferred_.Reject(error);
}

void Settlement::settle(Napi::Env env) {
  settled_ = true;
  if (kept_open_) bridge_->let_go(env);
}

void Settlement::abandon(Napi::Env env) {
  note_.reset();  // which holds this
  before_ = nullptr;
  after_ = nullptr;
  bridge_->let_go(env);
}

}  // namespace walmirror
