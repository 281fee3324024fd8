#include "native_log.h"

#include <cstring>
#include <thread>

#include "convert.h"
#include "log_options.h"
#include "memory.h"

namespace walmirror {
namespace {

/// An ArrayBuffer over memory that `keeper` keeps; empty where this build of Node allows none.
Napi::Value external_buffer(Napi::Env env, void* data, size_t size, std::shared_ptr<Log> keeper) {
  auto* kept = new std::shared_ptr<Log>(std::move(keeper));
  auto finalize = [](napi_env, void*, void* hint) {
    delete static_cast<std::shared_ptr<Log>*>(hint);
  };
  napi_value value;
  if (napi_create_external_arraybuffer(env, data, size, finalize, kept, &value) != napi_ok) {
    delete kept;
    return env.Undefined();
  }
  return Napi::Value(env, value);
}

}  // namespace

void NativeLog::define(Napi::Env env, Napi::Object exports) {
  using Self = NativeLog;
  Napi::Function constructor =
      DefineClass(env, "NativeLog",
                  {
                      InstanceAccessor<&Self::get_ring>("ring"),
                      InstanceAccessor<&Self::get_state>("state"),
                      InstanceAccessor<&Self::get_words>("words"),
                      InstanceMethod<&Self::get_info>("info"),
                      InstanceMethod<&Self::flush_times>("flushTimes"),
                      InstanceMethod<&Self::failure>("failure"),
                      InstanceMethod<&Self::on_progress>("onProgress"),
                      InstanceMethod<&Self::ref>("ref"),
                      InstanceMethod<&Self::unref>("unref"),
                      InstanceMethod<&Self::promise>("promise"),
                      InstanceMethod<&Self::reserve>("reserve"),
                      InstanceMethod<&Self::close_batch>("closeBatch"),
                      InstanceMethod<&Self::wake_ticker>("wakeTicker"),
                      InstanceMethod<&Self::put>("put"),
                      InstanceMethod<&Self::open_term>("openTerm"),
                      InstanceMethod<&Self::mark_forced>("markForced"),
                      InstanceMethod<&Self::begin_ingest>("beginIngest"),
                      InstanceMethod<&Self::ingest>("ingest"),
                      InstanceMethod<&Self::received>("received"),
                      InstanceMethod<&Self::truncate>("truncate"),
                      InstanceMethod<&Self::begin_at>("beginAt"),
                      InstanceMethod<&Self::place_at>("placeAt"),
                      InstanceMethod<&Self::store_role>("storeRole"),
                      InstanceMethod<&Self::store_rebuilt>("storeRebuilt"),
                      InstanceMethod<&Self::store_rule>("storeRule"),
                      InstanceMethod<&Self::undercut>("storeUndercut"),
                      InstanceMethod<&Self::end_commits>("endCommits"),
                      InstanceMethod<&Self::store_contact>("storeContact"),
                      InstanceMethod<&Self::set_commit>("setCommit"),
                      InstanceMethod<&Self::read_into>("readInto"),
                      InstanceMethod<&Self::read_ring>("readRing"),
                      InstanceMethod<&Self::locate>("locate"),
                      InstanceMethod<&Self::checksum_at>("checksumAt"),
                      InstanceMethod<&Self::pin>("pin"),
                      InstanceMethod<&Self::move_pin>("movePin"),
                      InstanceMethod<&Self::unpin>("unpin"),
                      InstanceMethod<&Self::retain>("retain"),
                      InstanceMethod<&Self::move_retain>("moveRetain"),
                      InstanceMethod<&Self::release>("release"),
                      InstanceMethod<&Self::trim>("trim"),
                      InstanceMethod<&Self::set_scrub>("setScrub"),
                      InstanceMethod<&Self::scrub_now>("scrubNow"),
                      InstanceMethod<&Self::scrub_status>("scrubStatus"),
                      InstanceMethod<&Self::repair_from>("repairFrom"),
                      InstanceMethod<&Self::get_handle>("handle"),
                      InstanceMethod<&Self::on_heard>("onHeard"),
                      InstanceMethod<&Self::tell>("tell"),
                      InstanceMethod<&Self::share>("share"),
                      InstanceMethod<&Self::refuse_appends>("refuseAppends"),
                      InstanceMethod<&Self::append>("append"),
                      InstanceMethod<&Self::append_group>("appendGroup"),
                      InstanceMethod<&Self::last_appended>("lastAppended"),
                      InstanceMethod<&Self::due>("due"),
                      InstanceMethod<&Self::step>("step"),
                      InstanceMethod<&Self::abandon>("abandon"),
                      InstanceMethod<&Self::close>("close"),
                      InstanceMethod<&Self::close_sync>("closeSync"),
                  });
  auto* reference = new Napi::FunctionReference(Napi::Persistent(constructor));
  env.SetInstanceData(reference);
  exports.Set("open", Napi::Function::New(env, safely<open>, "open"));
}

NativeLog::NativeLog(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<NativeLog>(info), env_(info.Env()) {}

NativeLog::~NativeLog() {
  if (ear_ != nullptr) ear_->log = nullptr;
}

Napi::Value NativeLog::open(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsObject()) throw Napi::TypeError::New(env, "open takes options");
  Napi::Object object = info[0].As<Napi::Object>();
  LogOptions options = to_options(object);
  bool shared_ring = get_bool(object, "sharedRing");
  std::shared_ptr<Bridge> bridge = Bridge::create(env);
  std::shared_ptr<Settlement> settlement;
  try {
    settlement = Settlement::create(env, bridge);
    settlement->after([bridge](Napi::Env, bool good) {
      if (good) return;
      // It may be attached in part.
      bridge->on_progress(nullptr);
      bridge->on_teardown(nullptr);
      bridge->detach();
    });
    auto open_log = [options, bridge, shared_ring]() -> Settlement::Result {
      std::shared_ptr<Log> log =
          Log::open(options, posix_file_system(), [bridge] { bridge->signal(); });
      return [log, bridge, shared_ring](Napi::Env settled) -> Napi::Value {
        try {
          auto* constructor = settled.GetInstanceData<Napi::FunctionReference>();
          Napi::Object instance = new_instance(settled, *constructor);
          Unwrap(instance)->attach(settled, log, bridge, shared_ring);
          return instance;
        } catch (...) {
          log->close();
          throw;
        }
      };
    };
    // Recovery reads and writes for a while: a thread of its own, never one of libuv's few.
    std::thread([settlement, body = Task(std::move(open_log))] { settlement->run(body); }).detach();
  } catch (...) {
    if (settlement != nullptr) settlement->abandon(env);
    bridge->detach();
    throw;
  }
  return settlement->promise();
}

void NativeLog::attach(Napi::Env env, std::shared_ptr<Log> log, std::shared_ptr<Bridge> bridge,
                       bool shared_ring) {
  log_ = std::move(log);
  bridge_ = std::move(bridge);
  Napi::Float64Array state = Napi::Float64Array::New(env, kStateLength);
  state_values_ = state.Data();
  state_ = Napi::Persistent(state.As<Napi::Object>());
  Napi::Value ring = env.Undefined();
  Napi::Value words = env.Undefined();
  if (shared_ring) {
    ring = external_buffer(env, log_->ring()->base(), 2 * log_->ring()->size(), log_);
    if (!ring.IsUndefined()) words = external_buffer(env, log_->tick_word(), sizeof(int32_t), log_);
  }
  if (!ring.IsUndefined()) ring_ = Napi::Persistent(ring.As<Napi::Object>());
  if (words.IsUndefined()) {
    Napi::Int32Array copy = Napi::Int32Array::New(env, 1);
    words_copy_ = copy.Data();
    words_ = Napi::Persistent(copy.As<Napi::Object>());
  } else {
    Napi::Int32Array view = Napi::Int32Array::New(env, 1, words.As<Napi::ArrayBuffer>(), 0);
    words_ = Napi::Persistent(view.As<Napi::Object>());
  }
  // worker.terminate: what was closed is flushed, the open batch is dropped.
  bridge_->on_teardown([log = log_] { log->close(); });
  bridge_->on_progress([this](Napi::Env env) { progressed(env); });
  refresh();
  Ref();  // an open log is not collected
}

Log& NativeLog::log(Napi::Env env) const {
  if (log_ == nullptr || closing_ || closed_)
    throw to_error(env, WalFailure("WAL_CLOSED", "the log is closed"));
  return *log_;
}

void NativeLog::refresh() {
  if (cutting_) return;
  auto owning = log_->own();
  const Chain& closed = log_->closed();
  Place flushed = log_->flushed();
  Place start = log_->start();
  double* state = state_values_;
  state[kCursor] = static_cast<double>(log_->cursor());
  state[kCapacity] = static_cast<double>(log_->capacity());
  state[kClosedPosition] = static_cast<double>(closed.position);
  state[kClosedLsn] = static_cast<double>(closed.lsn);
  state[kFlushPosition] = static_cast<double>(flushed.position);
  state[kFlushLsn] = static_cast<double>(flushed.lsn);
  state[kRingFloor] = static_cast<double>(log_->ring_floor());
  state[kRingFree] = static_cast<double>(log_->ring_free());
  state[kLastCrc] = closed.crc;
  state[kFailed] = log_->has_failed() ? 1 : 0;
  state[kStartPosition] = static_cast<double>(start.position);
  state[kStartLsn] = static_cast<double>(start.lsn);
  state[kSegmentFree] = static_cast<double>(log_->segment_free());
  state[kSlowFlushes] = static_cast<double>(log_->slow_flushes());
  state[kFlushes] = static_cast<double>(log_->flush_count());
  state[kFlushMs] = static_cast<double>(log_->flush_nanoseconds()) / 1e6;
  state[kScrubNews] = static_cast<double>(log_->scrubber().news_count());
  state[kCopyNews] = static_cast<double>(log_->copy_news());
  state[kOpenBytes] = static_cast<double>(log_->open_bytes());
  state[kShared] = log_->shared() ? 1 : 0;
  if (words_copy_ != nullptr) *words_copy_ = log_->tick_word()->load(std::memory_order_relaxed);
}

void NativeLog::progressed(Napi::Env env) {
  if (closed_) return;
  refresh();
  retry_opening(env);
  if (!callback_.IsEmpty()) callback_.MakeCallback(env.Global(), {});
}

/// Openings wait for room, then for their flush.
void NativeLog::retry_opening(Napi::Env env) {
  for (size_t i = 0; i < openings_.size();) {
    Opening& opening = openings_[i];
    std::optional<WalFailure> failed = log_->failure();
    try {
      auto owning = log_->own();
      if (!failed && opening.position == 0 && log_->frame_opening())
        opening.position = log_->closed().position;
    } catch (const WalFailure& failure) {
      failed = failure;
    }
    if (failed) {
      opening.settlement->reject(env, *failed);
    } else if (opening.position != 0 && log_->flushed().position >= opening.position) {
      opening.settlement->resolve(env, env.Undefined());
    } else {
      i++;
      continue;
    }
    openings_.erase(openings_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  refresh();
}

/// Runs `task` on the engine's task thread, and what it returns on this one, to settle the promise.
/// `before`: on this one too, whatever became of it.
Napi::Value NativeLog::run_task(Napi::Env env, Task task, Bridge::Completion before) {
  log(env);
  auto settlement = Settlement::create(env, bridge_);
  if (!before) {
    before = [this](Napi::Env) {
      if (!closed_) refresh();
    };
  }
  settlement->before(std::move(before));
  return post(env, settlement, std::move(task));
}

/// Where it throws, nothing of the settlement is run.
Napi::Value NativeLog::post(Napi::Env env, const std::shared_ptr<Settlement>& settlement,
                            Task task) {
  try {
    bool posted = log(env).post([settlement, task = std::move(task)] { settlement->run(task); });
    if (!posted)  // the log closes: the task will not run
      settlement->run(
          []() -> Settlement::Result { throw WalFailure("WAL_CLOSED", "the log is closed"); });
  } catch (...) {
    settlement->abandon(env);
    throw;
  }
  return settlement->promise();
}

Napi::Value NativeLog::get_ring(const Napi::CallbackInfo& info) {
  return ring_.IsEmpty() ? info.Env().Undefined() : Napi::Value(ring_.Value());
}

Napi::Value NativeLog::get_state(const Napi::CallbackInfo&) { return state_.Value(); }

Napi::Value NativeLog::get_words(const Napi::CallbackInfo&) { return words_.Value(); }

void NativeLog::on_progress(const Napi::CallbackInfo& info) {
  if (!info[0].IsFunction()) throw Napi::TypeError::New(info.Env(), "onProgress takes a function");
  callback_ = Napi::Persistent(info[0].As<Napi::Function>());
}

void NativeLog::ref(const Napi::CallbackInfo& info) {
  if (user_holds_++ == 0) bridge_->hold(info.Env());
}

void NativeLog::unref(const Napi::CallbackInfo& info) {
  if (user_holds_ > 0 && --user_holds_ == 0) bridge_->let_go(info.Env());
}

Napi::Value NativeLog::promise(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Log& log = this->log(env);
  uint64_t bytes = to_uint(info[0], "bytes");
  bool done = guarded(env, [&] {
    auto owning = log.own();
    return log.promise(bytes);
  });
  refresh();
  return Napi::Number::New(env, done ? 0 : 1);
}

Napi::Value NativeLog::reserve(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Log& log = this->log(env);
  uint64_t payload = to_uint(info[0], "payloadBytes");
  auto count = static_cast<uint32_t>(to_uint(info[1], "count"));
  uint64_t need = to_uint(info[2], "need");
  bool done = false;
  try {
    done = guarded(env, [&] {
      auto owning = log.own();
      return log.reserve(payload, count, need);
    });
  } catch (...) {
    refresh();  // the open batch may be closed all the same
    throw;
  }
  refresh();
  return Napi::Number::New(env, done ? 0 : 1);
}

void NativeLog::close_batch(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Log& log = this->log(env);
  uint64_t payload = to_uint(info[0], "payloadBytes");
  auto count = static_cast<uint32_t>(to_uint(info[1], "count"));
  guarded(env, [&] {
    auto owning = log.own();
    log.close_batch(payload, count);
  });
  refresh();
}

void NativeLog::wake_ticker(const Napi::CallbackInfo& info) {
  log(info.Env()).wake_ticker();
  refresh();
}

void NativeLog::put(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  ByteView bytes = to_bytes(info[1]);
  uint64_t at = to_uint(info[0], "at");
  Log& log = this->log(env);
  guarded(env, [&] {
    auto owning = log.own();
    log.put(at, bytes.data, bytes.size);
  });
  if (words_copy_ != nullptr) *words_copy_ = log_->tick_word()->load(std::memory_order_relaxed);
}

Napi::Value NativeLog::open_term(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Term term = to_term(info[0]);
  std::optional<Rule> rule;
  if (!info[1].IsUndefined()) rule = to_rule(info[1]);
  log(env);
  auto settlement = Settlement::create(env, bridge_);
  // Held by the settlement, which it therefore does not hold.
  auto* opening = settlement.get();
  return post(env, settlement, [this, opening, term, rule]() -> Settlement::Result {
    log_->store_term(term, rule);
    return [this, opening](Napi::Env settled) -> Napi::Value {
      openings_.push_back({opening->shared_from_this(), 0});
      opening->keep_open(settled);
      retry_opening(settled);
      return settled.Undefined();
    };
  });
}

void NativeLog::begin_ingest(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  History history = to_history(info[0]);
  Log& log = this->log(env);
  guarded(env, [&] {
    auto owning = log.own();
    log.begin_ingest(std::move(history));
  });
  refresh();
}

Napi::Value NativeLog::ingest(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  ByteView bytes = to_bytes(info[0]);
  uint64_t start = to_uint(info[1], "start");
  uint64_t end = to_uint(info[2], "end");
  if (start > end || end > bytes.size)
    throw Napi::RangeError::New(env, "the range lies outside of the bytes");
  Log& log = this->log(env);
  uint64_t taken = 0;
  try {
    taken = guarded(env, [&] {
      auto owning = log.own();
      return log.ingest(bytes.data + start, end - start);
    });
  } catch (...) {
    refresh();
    throw;
  }
  refresh();
  return number(env, taken);
}

Napi::Value NativeLog::received(const Napi::CallbackInfo& info) {
  Log& log = this->log(info.Env());
  auto owning = log.own();
  return number(info.Env(), log.received());
}

Napi::Value NativeLog::truncate(const Napi::CallbackInfo& info) {
  uint64_t position = to_uint(info[0], "position");
  if (!info[1].IsString()) throw Napi::TypeError::New(info.Env(), "sideFile takes a string");
  std::string side_file = info[1].As<Napi::String>().Utf8Value();
  if (!is_side_file_name(side_file))
    throw Napi::TypeError::New(info.Env(), "sideFile takes a plain name that ends in .diverged");
  Cut how = to_cut(info[2]);
  Napi::Env env = info.Env();
  // Whatever happens, the owner's fields are the owner's again.
  auto over = [this](Napi::Env) {
    cutting_ = false;
    if (!closed_) refresh();
  };
  cutting_ = true;
  try {
    return run_task(
        env,
        [this, position, side_file, how] {
          std::string aside = log_->truncate(position, side_file, how);
          return [aside](Napi::Env settled) -> Napi::Value {
            return Napi::String::New(settled, aside);
          };
        },
        over);
  } catch (...) {
    cutting_ = false;
    throw;
  }
}

void NativeLog::set_commit(const Napi::CallbackInfo& info) {
  log(info.Env()).set_commit(to_uint(info[0], "position"), to_uint(info[1], "lsn"));
}

Napi::Value NativeLog::read_into(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  ByteView bytes = to_bytes(info[0]);
  uint64_t from = to_uint(info[1], "from");
  uint64_t up_to = to_uint(info[2], "upTo");
  if (reinterpret_cast<uintptr_t>(bytes.data) % kBlock != 0 || bytes.size < 2 * kBlock) {
    throw Napi::TypeError::New(
        env, "the buffer must come from allocateAligned and hold 8192 bytes or more");
  }
  auto memory = aligned_memory_of(bytes.data);
  // Deleted on this thread, before it is settled: a reference must not be dropped on another.
  auto* keep = new Napi::ObjectReference(Napi::Persistent(info[0].As<Napi::Object>()));
  auto done = [this, keep](Napi::Env) {
    delete keep;
    if (!closed_) refresh();
  };
  try {
    return run_task(
        env,
        [this, bytes, from, up_to, memory]() -> Settlement::Result {
          ReadOutcome outcome = log_->read_into(bytes.data, bytes.size, from, up_to);
          return [outcome](Napi::Env settled) { return read_object(settled, outcome); };
        },
        done);
  } catch (...) {
    delete keep;
    throw;
  }
}

Napi::Value NativeLog::read_ring(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  ByteView bytes = to_bytes(info[0]);
  ReadOutcome outcome;
  uint64_t from = to_uint(info[1], "from");
  uint64_t up_to = to_uint(info[2], "upTo");
  Log& log = this->log(env);
  bool there = guarded(env, [&] {
    auto owning = log.own();
    return log.read_ring(bytes.data, bytes.size, from, up_to, outcome);
  });
  return there ? read_object(env, outcome) : env.Undefined();
}

Napi::Value NativeLog::locate(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  uint64_t lsn = to_uint(info[0], "lsn");
  Log& log = this->log(env);
  auto found = guarded(env, [&] {
    auto owning = log.own();
    return log.locate_in_ring(lsn);
  });
  if (found && log_->start().lsn < lsn) {
    auto deferred = Napi::Promise::Deferred::New(env);
    deferred.Resolve(number(env, *found));
    return deferred.Promise();
  }
  return run_task(env, [this, lsn] {
    uint64_t position = log_->locate(lsn);
    return [position](Napi::Env env) { return number(env, position); };
  });
}

Napi::Value NativeLog::checksum_at(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  uint64_t position = to_uint(info[0], "position");
  auto deferred = Napi::Promise::Deferred::New(env);
  try {
    Log& log = this->log(env);
    std::optional<uint32_t> found;
    {
      auto owning = log.own();
      found = log.checksum_in_ring(position);
    }
    if (found) {
      deferred.Resolve(number(env, *found));
      return deferred.Promise();
    }
  } catch (const WalFailure& failure) {
    deferred.Reject(to_error(env, failure).Value());
    return deferred.Promise();
  }
  return run_task(env, [this, position] {
    uint32_t crc = log_->checksum_at(position);
    return [crc](Napi::Env env) { return number(env, crc); };
  });
}

Napi::Value NativeLog::pin(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  uint64_t position = to_uint(info[0], "position");
  Log& log = this->log(env);
  int pin = guarded(env, [&] {
    auto owning = log.own();
    if (position < log.ring_floor())
      throw WalFailure("WAL_LSN_GONE", "these bytes are not in the log memory any more");
    return log.pin(position);
  });
  refresh();  // the ring may have less room now
  return Napi::Number::New(env, pin);
}

void NativeLog::move_pin(const Napi::CallbackInfo& info) {
  uint64_t pin = to_uint(info[0], "pin");
  if (pin >= Log::kPins) throw Napi::RangeError::New(info.Env(), "no such pin");
  if (log_ == nullptr || closed_) return;
  log_->move_pin(static_cast<int>(pin), to_uint(info[1], "position"));
  pins_moved();
}

void NativeLog::unpin(const Napi::CallbackInfo& info) {
  uint64_t pin = to_uint(info[0], "pin");
  if (pin >= Log::kPins) throw Napi::RangeError::New(info.Env(), "no such pin");
  if (log_ == nullptr || closed_) return;
  log_->unpin(static_cast<int>(pin));
  pins_moved();
}

/// Room in the ring may have come free without a flush: whoever waits for it is told as after one.
void NativeLog::pins_moved() {
  double before = state_values_[kRingFree];
  refresh();
  if (state_values_[kRingFree] > before) bridge_->signal();
}

Napi::Value NativeLog::retain(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), log(info.Env()).retain(to_uint(info[0], "position")));
}

void NativeLog::move_retain(const Napi::CallbackInfo& info) {
  if (log_ != nullptr)
    log_->move_retain(static_cast<int>(to_uint(info[0], "claim")), to_uint(info[1], "position"));
}

void NativeLog::release(const Napi::CallbackInfo& info) {
  if (log_ != nullptr) log_->release(static_cast<int>(to_uint(info[0], "claim")));
}

Napi::Value NativeLog::trim(const Napi::CallbackInfo& info) {
  uint64_t position = to_uint(info[0], "position");
  return run_task(info.Env(), [this, position] {
    log_->trim(position);
    return [](Napi::Env env) { return env.Undefined(); };
  });
}

/// After the last thread has ended, on JavaScript's thread.
void NativeLog::finish(Napi::Env env) {
  refresh();
  closed_ = true;
  callback_.Reset();
  std::vector<Opening> waiting;
  waiting.swap(openings_);
  if (shared_ != nullptr) shared_->end();
  heard_.Reset();
  if (auto source = repairs_from_.lock()) source->let_go();
  bridge_->detach();
  // JavaScript may keep the view for long; its memory goes back now.
  log_->ring()->discard();
  // The bridge keeps the log for these, and the log the bridge.
  bridge_->on_progress(nullptr);
  bridge_->on_teardown(nullptr);
  Unref();
  if (waiting.empty()) return;
  const WalFailure failure("WAL_CLOSED", "the log was closed");
  for (Opening& opening : waiting) opening.settlement->reject(env, failure);
}

Napi::Value NativeLog::close(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  log(env);
  std::shared_ptr<Settlement> settlement;
  try {
    settlement = Settlement::create(env, bridge_);
    Task close_log = [this, log = log_]() -> Settlement::Result {
      log->close();
      return [this](Napi::Env settled) -> Napi::Value {
        if (closed_) return settled.Undefined();  // closeSync came in between
        finish(settled);
        if (std::optional<WalFailure> failure = log_->failure()) throw *failure;
        return settled.Undefined();
      };
    };
    if (stepped_) {
      settlement->run(close_log);
    } else {
      std::thread([settlement, body = std::move(close_log)] { settlement->run(body); }).detach();
    }
  } catch (const std::exception&) {
    // No memory for a thread, or no thread: it is closed on this one, rather than never.
    if (settlement != nullptr) settlement->abandon(env);
    close_sync(info);
    auto deferred = Napi::Promise::Deferred::New(env);
    deferred.Resolve(env.Undefined());
    return deferred.Promise();
  }
  closing_ = true;
  return settlement->promise();
}

void NativeLog::close_sync(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (log_ == nullptr || closed_) return;
  log_->close();
  std::optional<WalFailure> failure = log_->failure();
  finish(env);
  if (failure) throw to_error(env, *failure);
}

}  // namespace walmirror
