// The owner's side of a log that several threads append to.
#include "native_log.h"

namespace walmirror {

Napi::Value NativeLog::get_handle(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  log(env);
  if (shared_ == nullptr) {
    auto ear = std::make_shared<Ear>(Ear{this});
    auto shared = SharedLog::create(log_, bridge_,
                                    [ear](Napi::Env now, uint64_t from, const std::string* text) {
                                      if (ear->log != nullptr) ear->log->heard(now, from, text);
                                    });
    // Told first: the disk may be long in coming, and the end of a thread waits for it.
    bridge_->on_teardown([log = log_, shared] {
      shared->end();
      log->close();
    });
    ear_ = std::move(ear);
    shared_ = std::move(shared);
  }
  return Napi::String::New(env, shared_->handle());
}

void NativeLog::heard(Napi::Env env, uint64_t from, const std::string* text) {
  if (closed_ || heard_.IsEmpty()) return;
  Napi::Value said = env.Undefined();
  if (text != nullptr) said = Napi::String::New(env, *text);
  heard_.MakeCallback(env.Global(), {number(env, from), said});
}

void NativeLog::on_heard(const Napi::CallbackInfo& info) {
  if (!info[0].IsFunction()) throw Napi::TypeError::New(info.Env(), "onHeard takes a function");
  heard_ = Napi::Persistent(info[0].As<Napi::Function>());
}

void NativeLog::tell(const Napi::CallbackInfo& info) {
  if (shared_ != nullptr) {
    shared_->tell(to_uint(info[0], "to"), info[1].ToString().Utf8Value());
  }
}

void NativeLog::share(const Napi::CallbackInfo& info) {
  Log& log = this->log(info.Env());
  {
    auto owning = log.own();
    log.share();
  }
  refresh();
}

void NativeLog::refuse_appends(const Napi::CallbackInfo& info) {
  if (log_ == nullptr) return;
  bool takes = !info[0].IsString();
  std::optional<WalFailure> why;
  try {
    if (!takes) {
      why.emplace(info[0].As<Napi::String>().Utf8Value(), info[1].ToString().Utf8Value());
      why->advise(info[2].ToString().Utf8Value());
    }
  } catch (const std::bad_alloc&) {
    why.reset();  // refused all the same, in fewer words
  }
  auto owning = log_->own();
  if (takes) {
    log_->take_appends();
  } else {
    log_->refuse_appends(std::move(why));
  }
}

template <typename Append>
Napi::Value NativeLog::appended(Napi::Env env, Append append) {
  Log& log = this->log(env);
  uint64_t lsn = 0;
  std::exception_ptr failure;
  bool closed;
  {
    auto owning = log.own();
    try {
      lsn = append(log);
    } catch (...) {
      failure = std::current_exception();
    }
    closed = static_cast<double>(log.closed().position) != state_values_[kClosedPosition];
    state_values_[kOpenBytes] = static_cast<double>(log.open_bytes());
  }
  if (closed || failure || lsn == 0) refresh();
  if (failure) std::rethrow_exception(failure);
  return number(env, lsn);
}

Napi::Value NativeLog::append(const Napi::CallbackInfo& info) {
  ByteView bytes = to_bytes(info[0], info[1]);
  return appended(info.Env(), [&](Log& log) { return log.append(bytes.data, bytes.size); });
}

Napi::Value NativeLog::append_group(const Napi::CallbackInfo& info) {
  ByteView bytes = to_bytes(info[0], info[1]);
  auto count = static_cast<uint32_t>(to_uint(info[2], "count"));
  return appended(info.Env(),
                  [&](Log& log) { return log.append_group(bytes.data, bytes.size, count); });
}

Napi::Value NativeLog::last_appended(const Napi::CallbackInfo& info) {
  if (log_ == nullptr) throw WalFailure("WAL_CLOSED", "the log is closed");
  uint64_t lsn;
  bool closed;
  {
    auto owning = log_->own();
    lsn = log_->appended();
    closed = static_cast<double>(log_->closed().position) != state_values_[kClosedPosition];
  }
  if (closed && !closing_ && !closed_) refresh();
  return number(info.Env(), lsn);
}

}  // namespace walmirror
