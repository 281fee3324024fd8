// What an open log stores of its role, beside the log itself.
#include "convert.h"
#include "native_log.h"

namespace walmirror {

Napi::Value NativeLog::mark_forced(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::string why = info[0].ToString().Utf8Value();
  Log& log = this->log(env);
  bool framed = guarded(env, [&] {
    auto owning = log.own();
    return log.frame_forced(why);
  });
  refresh();
  return Napi::Boolean::New(env, framed);
}

Napi::Value NativeLog::store_role(const Napi::CallbackInfo& info) {
  Role role = to_role(info[0]);
  Term term = to_term(info[1]);
  std::string primary = info[2].ToString().Utf8Value();
  std::string address = info[3].ToString().Utf8Value();
  return run_task(info.Env(), [this, role, term, primary, address] {
    log_->store_role(role, term, primary, address);
    return [](Napi::Env env) { return env.Undefined(); };
  });
}

Napi::Value NativeLog::begin_at(const Napi::CallbackInfo& info) {
  Chain start;
  start.position = to_uint(info[0], "position");
  start.lsn = to_uint(info[1], "lsn");
  start.crc = static_cast<uint32_t>(to_uint(info[2], "crc"));
  History history = to_history(info[3]);
  // Whatever happens, the owner's fields are the owner's again.
  auto over = [this](Napi::Env) {
    cutting_ = false;
    if (!closed_) refresh();
  };
  cutting_ = true;
  try {
    return run_task(
        info.Env(),
        [this, start, history] {
          log_->begin_at(start, history);
          return [](Napi::Env env) { return env.Undefined(); };
        },
        over);
  } catch (...) {
    cutting_ = false;
    throw;
  }
}

Napi::Value NativeLog::place_at(const Napi::CallbackInfo& info) {
  uint64_t position = to_uint(info[0], "position");
  return run_task(info.Env(), [this, position] {
    Place place = log_->place_at(position);
    return [place](Napi::Env env) -> Napi::Value {
      Napi::Object result = Napi::Object::New(env);
      result.Set("position", number(env, place.position));
      result.Set("lsn", number(env, place.lsn));
      result.Set("crc", number(env, place.crc));
      return result;
    };
  });
}

Napi::Value NativeLog::store_rebuilt(const Napi::CallbackInfo& info) {
  return run_task(info.Env(), [this] {
    log_->store_rebuilt();
    return [](Napi::Env env) { return env.Undefined(); };
  });
}

Napi::Value NativeLog::store_rule(const Napi::CallbackInfo& info) {
  Rule rule = to_rule(info[0]);
  return run_task(info.Env(), [this, rule] {
    log_->store_rule(rule);
    return [](Napi::Env env) { return env.Undefined(); };
  });
}

Napi::Value NativeLog::undercut(const Napi::CallbackInfo& info) {
  return run_task(info.Env(), [this] {
    log_->store_undercut();
    return [](Napi::Env env) { return env.Undefined(); };
  });
}

Napi::Value NativeLog::store_contact(const Napi::CallbackInfo& info) {
  uint64_t wall_clock_us = to_uint(info[0], "wallClockMs") * 1000;
  return run_task(info.Env(), [this, wall_clock_us] {
    log_->store_contact(wall_clock_us);
    return [](Napi::Env env) { return env.Undefined(); };
  });
}

void NativeLog::end_commits(const Napi::CallbackInfo& info) { log(info.Env()).end_commits(); }

}  // namespace walmirror
