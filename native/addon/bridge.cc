#include "bridge.h"

namespace walmirror {

std::shared_ptr<Bridge> Bridge::create(Napi::Env env) {
  std::shared_ptr<Bridge> bridge(new Bridge());
  Napi::String name = Napi::String::New(env, "walmirror");
  // The function's context keeps the bridge until the environment has finished with it.
  auto* context = new std::shared_ptr<Bridge>(bridge);
  auto finalize = [](napi_env, void* data, void*) {
    delete static_cast<std::shared_ptr<Bridge>*>(data);
  };
  napi_status status = napi_create_threadsafe_function(
      env, nullptr, nullptr, name, 0, 1, context, finalize, context, call_js, &bridge->function_);
  if (status != napi_ok) {
    delete context;
    throw Napi::Error::New(env, "cannot create a thread-safe function");
  }
  napi_unref_threadsafe_function(env, bridge->function_);
  bridge->attached_ = true;
  bridge->env_ = env;
  napi_add_env_cleanup_hook(env, clean_up, bridge.get());
  return bridge;
}

Bridge::~Bridge() = default;

/// The environment ends, maybe while a log is being opened. What the threads say from here on goes
/// nowhere.
void Bridge::clean_up(void* data) {
  std::shared_ptr<Bridge> bridge = static_cast<Bridge*>(data)->shared_from_this();
  bridge->detach();
  if (bridge->teardown_) bridge->teardown_();
  bridge->teardown_ = nullptr;
}

void Bridge::wake() {  // with mutex_ held
  if (!attached_ || woken_) return;
  woken_ = true;
  napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking);
}

void Bridge::signal() {
  std::lock_guard<std::mutex> guard(mutex_);
  progressed_ = true;
  wake();
}

void Bridge::complete(Completion completion) {
  std::lock_guard<std::mutex> guard(mutex_);
  if (!attached_) return;
  completions_.push_back(std::move(completion));
  wake();
}

void Bridge::call_js(napi_env env, napi_value, void* context, void*) {
  // Called for what is still queued when the environment has ended too: the context is gone then.
  if (env == nullptr) return;
  std::shared_ptr<Bridge> bridge = *static_cast<std::shared_ptr<Bridge>*>(context);
  bridge->drain(Napi::Env(env));
}

void Bridge::drain(Napi::Env env) {
  std::vector<Completion> completions;
  bool progressed;
  {
    std::lock_guard<std::mutex> guard(mutex_);
    woken_ = false;
    progressed = progressed_;
    progressed_ = false;
    completions.swap(completions_);
  }
  Napi::HandleScope scope(env);
  if (progressed && progress_) run(env, progress_);
  for (const Completion& completion : completions) run(env, completion);
}

/// What a callback throws is the application's uncaught exception; the other completions still run.
void Bridge::run(Napi::Env env, const Completion& completion) {
  try {
    completion(env);
  } catch (const Napi::Error& error) {
    try {
      napi_fatal_exception(env, error.Value());
    } catch (const Napi::Error&) {
      // A worker is being terminated: no call into JavaScript works, and nobody is left to be told.
    }
  }
}

void Bridge::hold(Napi::Env env) {
  if (holds_++ == 0 && attached_) napi_ref_threadsafe_function(env, function_);
}

void Bridge::let_go(Napi::Env env) {
  if (--holds_ == 0 && attached_) napi_unref_threadsafe_function(env, function_);
}

void Bridge::detach() {
  // Destroyed outside of the lock: a completion may hold the last reference to a log, whose end
  // signals.
  std::vector<Completion> dropped;
  std::lock_guard<std::mutex> guard(mutex_);
  if (!attached_) return;
  attached_ = false;
  dropped.swap(completions_);
  napi_remove_env_cleanup_hook(env_, clean_up, this);
  napi_release_threadsafe_function(function_, napi_tsfn_release);
}

}  // namespace walmirror
