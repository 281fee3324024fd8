#include "attached_log.h"

#include <utility>

namespace walmirror {

void AttachedLog::define(Napi::Env env, Napi::Object exports) {
  using Self = AttachedLog;
  Napi::Function constructor = DefineClass(env, "AttachedLog",
                                           {
                                               InstanceMethod<&Self::append>("append"),
                                               InstanceMethod<&Self::append_group>("appendGroup"),
                                               InstanceMethod<&Self::close_batch>("closeBatch"),
                                               InstanceMethod<&Self::needs_drain>("needsDrain"),
                                               InstanceMethod<&Self::ask>("ask"),
                                               InstanceMethod<&Self::on_told>("onTold"),
                                               InstanceMethod<&Self::ref>("ref"),
                                               InstanceMethod<&Self::unref>("unref"),
                                               InstanceMethod<&Self::close>("close"),
                                           });
  auto kept = std::make_shared<Napi::FunctionReference>(Napi::Persistent(constructor));
  kept->SuppressDestruct();
  auto attach_guarded = [kept](const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return attach(info, kept); });
  };
  exports.Set("attach", Napi::Function::New(env, attach_guarded, "attach"));
}

AttachedLog::AttachedLog(const Napi::CallbackInfo& info) : Napi::ObjectWrap<AttachedLog>(info) {}

AttachedLog::~AttachedLog() {
  if (ear_ != nullptr) ear_->attached = nullptr;
}

Napi::Value AttachedLog::attach(const Napi::CallbackInfo& info,
                                const std::shared_ptr<Napi::FunctionReference>& constructor) {
  Napi::Env env = info.Env();
  if (!info[0].IsString()) throw Napi::TypeError::New(env, "attach takes a handle");
  std::shared_ptr<SharedLog> shared = SharedLog::find(info[0].As<Napi::String>().Utf8Value());
  if (shared == nullptr)
    throw WalFailure("WAL_CLOSED", "no open log of this process has this handle");
  Napi::Object instance = new_instance(env, *constructor);
  Unwrap(instance)->join(env, std::move(shared));
  return instance;
}

void AttachedLog::join(Napi::Env env, std::shared_ptr<SharedLog> shared) {
  std::shared_ptr<Bridge> bridge = Bridge::create(env);
  try {
    ear_ = std::make_shared<Ear>(Ear{this});
    member_ = shared->join(bridge, [ear = ear_](Napi::Env now, uint64_t, const std::string* text) {
      if (ear->attached != nullptr) ear->attached->told(now, text);
    });
    // The thread ends: what it has appended is whole, and is published.
    bridge->on_teardown([shared, member = member_] {
      try {
        auto owning = shared->log().own();
        shared->log().close_shared();
      } catch (...) {
        // The log has failed, or memory is short: the batch stays open, for whoever closes it next.
      }
      shared->batch_closed();
      shared->leave(member);
    });
  } catch (...) {
    if (member_ != 0) shared->leave(member_);
    bridge->detach();
    throw;
  }
  shared_ = std::move(shared);
  bridge_ = std::move(bridge);
  Ref();  // not collected while it is attached
}

SharedLog& AttachedLog::shared() const {
  if (shared_ == nullptr) throw WalFailure("WAL_CLOSED", "the log is detached from");
  return *shared_;
}

void AttachedLog::told(Napi::Env env, const std::string* text) {
  if (callback_.IsEmpty()) return;
  Napi::Value said = env.Undefined();
  if (text != nullptr) said = Napi::String::New(env, *text);
  callback_.MakeCallback(env.Global(), {said});
}

/// Runs an append; where that closed a batch, the owner hears of it, whatever became of the append.
template <typename Append>
Napi::Value AttachedLog::appended(Napi::Env env, Append append) {
  Log& log = shared().log();
  uint64_t lsn = 0;
  std::exception_ptr failure;
  bool closed;
  {
    auto owning = log.own();
    uint64_t before = log.closed().position;
    try {
      lsn = append(log);
    } catch (...) {
      failure = std::current_exception();
    }
    closed = log.closed().position != before;
  }
  if (closed) shared_->batch_closed();
  if (failure) std::rethrow_exception(failure);
  return number(env, lsn);
}

Napi::Value AttachedLog::append(const Napi::CallbackInfo& info) {
  ByteView bytes = to_bytes(info[0], info[1]);
  return appended(info.Env(), [&](Log& log) { return log.append(bytes.data, bytes.size); });
}

Napi::Value AttachedLog::append_group(const Napi::CallbackInfo& info) {
  ByteView bytes = to_bytes(info[0], info[1]);
  auto count = static_cast<uint32_t>(to_uint(info[2], "count"));
  return appended(info.Env(),
                  [&](Log& log) { return log.append_group(bytes.data, bytes.size, count); });
}

void AttachedLog::close_batch(const Napi::CallbackInfo& info) {
  appended(info.Env(), [](Log& log) {
    log.close_shared();
    return uint64_t{0};
  });
}

Napi::Value AttachedLog::needs_drain(const Napi::CallbackInfo& info) {
  Log& log = shared().log();
  auto owning = log.own();
  return Napi::Boolean::New(info.Env(), log.nearly_full());
}

Napi::Value AttachedLog::ask(const Napi::CallbackInfo& info) {
  std::string text = info[0].ToString().Utf8Value();
  return Napi::Boolean::New(info.Env(), shared().ask(member_, std::move(text)));
}

void AttachedLog::on_told(const Napi::CallbackInfo& info) {
  if (!info[0].IsFunction()) throw Napi::TypeError::New(info.Env(), "onTold takes a function");
  callback_ = Napi::Persistent(info[0].As<Napi::Function>());
}

void AttachedLog::ref(const Napi::CallbackInfo& info) {
  if (shared_ != nullptr && holds_++ == 0) bridge_->hold(info.Env());
}

void AttachedLog::unref(const Napi::CallbackInfo& info) {
  if (shared_ != nullptr && holds_ > 0 && --holds_ == 0) bridge_->let_go(info.Env());
}

void AttachedLog::close(const Napi::CallbackInfo&) {
  if (shared_ == nullptr) return;
  ear_->attached = nullptr;
  callback_.Reset();
  shared_->leave(member_);
  bridge_->detach();
  bridge_->on_teardown(nullptr);
  shared_ = nullptr;
  Unref();
}

}  // namespace walmirror
