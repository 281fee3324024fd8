#include "bridge.h"

namespace walmirror {

std::shared_ptr<Bridge> Bridge::create(Napi::Env env, bool wakes) {
  std::shared_ptr<Bridge> bridge(new Bridge());
  if (wakes) bridge->make_function(env);
  bridge->attached_ = true;
  bridge->env_ = env;
  napi_add_env_cleanup_hook(env, clean_up, bridge.get());
  return bridge;
}

void Bridge::make_function(Napi::Env env) {
  Napi::String name = Napi::String::New(env, "walmirror");
  // The function's context keeps the bridge until the environment has finished with it.
  auto* context = new std::shared_ptr<Bridge>(shared_from_this());
  auto finalize = [](napi_env, void* data, void*) {
    delete static_cast<std::shared_ptr<Bridge>*>(data);
  };
  napi_status status = napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, context,
                                                       finalize, context, call_js, &function_);
  if (status != napi_ok) {
    delete context;
    throw Napi::Error::New(env, "cannot create a thread-safe function");
  }
  napi_unref_threadsafe_function(env, function_);
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
  if (function_ != nullptr)
    napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking);
}

bool Bridge::has_news() {
  std::lock_guard<std::mutex> guard(mutex_);
  return woken_;
}

void Bridge::signal() {
  std::lock_guard<std::mutex> guard(mutex_);
  progressed_ = true;
  wake();
}

std::shared_ptr<Bridge::Note> Bridge::note(Completion completion) {
  return std::make_shared<Note>(Note{std::move(completion), nullptr});
}

void Bridge::complete(std::shared_ptr<Note> note) {
  std::lock_guard<std::mutex> guard(mutex_);
  if (!attached_) return;
  Note* last = note.get();
  (first_ == nullptr ? first_ : last_->next) = std::move(note);
  last_ = last;
  wake();
}

void Bridge::call_js(napi_env env, napi_value, void* context, void*) {
  // Called for what is still queued when the environment has ended too: the context is gone then.
  if (env == nullptr) return;
  std::shared_ptr<Bridge> bridge = *static_cast<std::shared_ptr<Bridge>*>(context);
  bridge->drain(Napi::Env(env));
}

void Bridge::drain(Napi::Env env) {
  std::shared_ptr<Note> note;
  bool progressed;
  {
    std::lock_guard<std::mutex> guard(mutex_);
    woken_ = false;
    progressed = progressed_;
    progressed_ = false;
    note.swap(first_);
  }
  Napi::HandleScope scope(env);
  // Without the memory to look at what is new, it is looked at again.
  if (progressed && progress_ && !run(env, progress_)) signal();
  for (; note != nullptr; note = std::move(note->next)) run(env, note->completion);
}

/// What a callback throws is the application's uncaught exception; the other completions still run.
/// False: memory ran out.
bool Bridge::run(Napi::Env env, const Completion& completion) {
  try {
    completion(env);
  } catch (const Napi::Error& error) {
    try {
      napi_fatal_exception(env, error.Value());
    } catch (const Napi::Error&) {
      // A worker is being terminated: no call into JavaScript works, and nobody is left to be told.
    }
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

void Bridge::hold(Napi::Env env) {
  if (holds_++ == 0 && attached_ && function_ != nullptr)
    napi_ref_threadsafe_function(env, function_);
}

void Bridge::let_go(Napi::Env env) {
  if (--holds_ == 0 && attached_ && function_ != nullptr)
    napi_unref_threadsafe_function(env, function_);
}

void Bridge::detach() {
  // Destroyed outside of the lock: a completion may hold the last reference to a log, whose end
  // signals.
  std::shared_ptr<Note> dropped;
  {
    std::lock_guard<std::mutex> guard(mutex_);
    if (!attached_) return;
    attached_ = false;
    dropped.swap(first_);
  }
  while (dropped != nullptr) dropped = std::move(dropped->next);
  napi_remove_env_cleanup_hook(env_, clean_up, this);
  if (function_ != nullptr) napi_release_threadsafe_function(function_, napi_tsfn_release);
}

}  // namespace walmirror
