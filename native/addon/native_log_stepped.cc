// A log without threads, for JavaScript: what it would do is stepped, and what it has to say is
// told in the steps (src/testing/simulated_log.ts).
#include "convert.h"
#include "log_options.h"
#include "native_log.h"

namespace walmirror {
namespace {

/// Bits of `due`: `Due` in src/testing/simulated_log.ts.
enum DueBit : uint32_t {
  kFlushBegins = 1,
  kFlushEnds = 2,
  kHousekeeping = 4,
  kTask = 8,
  kWatermark = 16,
  kNews = 32,
  kClosed = 64,
};

Log::Work to_work(Napi::Env env, uint32_t bit) {
  switch (bit) {
    case kFlushBegins:
      return Log::Work::kFlushBegins;
    case kFlushEnds:
      return Log::Work::kFlushEnds;
    case kHousekeeping:
      return Log::Work::kHousekeeping;
    case kTask:
      return Log::Work::kTask;
    default:
      throw Napi::RangeError::New(env, "no such step");
  }
}

}  // namespace

Napi::Value NativeLog::open_stepped(Napi::Env env, const Napi::Object& object,
                                    std::shared_ptr<FileSystem> files,
                                    std::shared_ptr<Surroundings> surroundings) {
  LogOptions options = to_options(object);
  std::shared_ptr<Bridge> bridge = Bridge::create(env, false);
  std::shared_ptr<Log> log;
  try {
    log = Log::open(
        options, std::move(files), [bridge] { bridge->signal(); }, std::move(surroundings));
    auto* constructor = env.GetInstanceData<Napi::FunctionReference>();
    Napi::Object instance = new_instance(env, *constructor);
    NativeLog* self = Unwrap(instance);
    self->stepped_ = true;
    self->attach(env, log, bridge, get_bool(object, "sharedRing"));
    return instance;
  } catch (...) {
    bridge->detach();
    throw;
  }
}

Napi::Value NativeLog::due(const Napi::CallbackInfo& info) {
  uint32_t bits = bridge_->has_news() ? kNews : 0u;
  if (closed_) bits |= kClosed;
  if (!closed_) {
    Log::Due due = log_->due();
    if (due.flush_begins) bits |= kFlushBegins;
    if (due.flush_ends) bits |= kFlushEnds;
    if (due.housekeeping) bits |= kHousekeeping;
    if (due.task) bits |= kTask;
    if (due.watermark) bits |= kWatermark;
  }
  return Napi::Number::New(info.Env(), bits);
}

Napi::Value NativeLog::step(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!stepped_) throw Napi::TypeError::New(env, "this log has threads of its own");
  uint32_t bit = info[0].ToNumber().Uint32Value();
  bool more = false;
  if (bit == kNews) {
    bridge_->deliver(env);
  } else if (!closed_) {
    more = log_->step(to_work(env, bit));
  }
  return Napi::Boolean::New(env, more);
}

/// The machine has gone off: nothing is flushed or told any more but that it is over.
void NativeLog::abandon(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!stepped_ || closed_) return;
  callback_.Reset();
  log_->close();
  bridge_->abandon();
  bridge_->deliver(env);
  if (!closed_) finish(env);
}

}  // namespace walmirror
