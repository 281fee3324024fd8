#include "native_reader.h"

#include "convert.h"

namespace walmirror {
namespace {

/// Runs `Work` on libuv's pool (these are tools, not the log's own threads) and settles a promise
/// with what `Settle` makes of the result.
template <typename Result>
class ReaderWork : public Napi::AsyncWorker {
 public:
  using Work = std::function<Result()>;
  using Settle = std::function<Napi::Value(Napi::Env, Result&)>;

  static Napi::Value run(Napi::Env env, Work work, Settle settle, Napi::Value keep) {
    std::unique_ptr<ReaderWork> worker(new ReaderWork(env, std::move(work), std::move(settle)));
    if (keep.IsObject()) worker->keep_ = Napi::Persistent(keep.As<Napi::Object>());
    Napi::Value promise = worker->deferred_.Promise();
    worker->Queue();
    worker.release();  // deletes itself when it is done
    return promise;
  }

 private:
  ReaderWork(Napi::Env env, Work work, Settle settle)
      : Napi::AsyncWorker(env),
        deferred_(Napi::Promise::Deferred::New(env)),
        work_(std::move(work)),
        settle_(std::move(settle)) {}

  void Execute() override {
    try {
      result_ = work_();
    } catch (...) {
      failure_ = std::current_exception();
    }
  }

  void OnOK() override {
    try {
      if (failure_) std::rethrow_exception(failure_);
      deferred_.Resolve(settle_(Env(), result_));
    } catch (const Napi::Error& error) {
      deferred_.Reject(error.Value());
    } catch (const WalFailure& failure) {
      reject(failure);
    } catch (const std::bad_alloc&) {
      deferred_.Reject(no_memory(Env()).Value());
    } catch (const std::exception& error) {
      deferred_.Reject(Napi::Error::New(Env(), error.what()).Value());
    }
  }

  void reject(const WalFailure& failure) {
    try {
      deferred_.Reject(to_error(Env(), failure).Value());
    } catch (const std::bad_alloc&) {
      deferred_.Reject(no_memory(Env()).Value());
    }
  }

  Napi::Promise::Deferred deferred_;
  Work work_;
  Settle settle_;
  Napi::ObjectReference keep_;
  Result result_{};
  std::exception_ptr failure_;
};

}  // namespace

void NativeReader::define(Napi::Env env, Napi::Object exports) {
  Napi::Function constructor = DefineClass(env, "NativeReader",
                                           {
                                               InstanceMethod<&NativeReader::get_info>("info"),
                                               InstanceMethod<&NativeReader::refresh>("refresh"),
                                               InstanceMethod<&NativeReader::read_into>("readInto"),
                                               InstanceMethod<&NativeReader::locate>("locate"),
                                               InstanceMethod<&NativeReader::verify>("verify"),
                                               InstanceMethod<&NativeReader::close>("close"),
                                           });
  auto kept = std::make_shared<Napi::FunctionReference>(Napi::Persistent(constructor));
  kept->SuppressDestruct();
  auto open_guarded = [kept](const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return open(info, kept); });
  };
  exports.Set("openReader", Napi::Function::New(env, open_guarded, "openReader"));
}

Napi::Value NativeReader::open(const Napi::CallbackInfo& info,
                               const std::shared_ptr<Napi::FunctionReference>& constructor) {
  Napi::Env env = info.Env();
  if (!info[0].IsString()) throw Napi::TypeError::New(env, "dir takes a string");
  std::string directory = info[0].As<Napi::String>().Utf8Value();
  using Opened = std::shared_ptr<LogReader>;
  auto open = [directory] { return Opened(LogReader::open(directory, posix_file_system())); };
  auto settle = [constructor](Napi::Env env, Opened& reader) -> Napi::Value {
    Napi::Object instance = new_instance(env, *constructor);
    auto shared = std::make_shared<Shared>();
    shared->reader = reader;
    Unwrap(instance)->shared_ = shared;
    return instance;
  };
  return ReaderWork<Opened>::run(env, open, settle, env.Undefined());
}

NativeReader::NativeReader(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NativeReader>(info) {}

std::shared_ptr<NativeReader::Shared> NativeReader::shared(Napi::Env env) const {
  if (shared_ == nullptr) throw to_error(env, WalFailure("WAL_CLOSED", "the reader is closed"));
  return shared_;
}

Napi::Value NativeReader::get_info(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::shared_ptr<Shared> shared = this->shared(env);
  std::lock_guard<std::mutex> guard(shared->mutex);
  Control control = shared->reader->control();
  Napi::Object object = info_object(env, control, control.term, control.history);
  object.Set("created", Napi::Boolean::New(env, false));
  object.Set("ringBytes", Napi::Number::New(env, 0));
  object.Set("maxBatchBytes", Napi::Number::New(env, 0));
  object.Set("io", shared->reader->direct() ? "direct" : "buffered");
  Napi::Object recovery = Napi::Object::New(env);
  recovery.Set("clean", Napi::Boolean::New(env, control.clean));
  for (const char* key : {"scannedBytes", "cutBytes", "rewrittenBytes", "milliseconds"}) {
    recovery.Set(key, Napi::Number::New(env, 0));
  }
  object.Set("recovery", recovery);
  for (const char* key : {"flushes", "flushedBytes", "slowestFlushMs", "slowFlushes",
                          "lastSlowFlushMs", "spareSegments"}) {
    object.Set(key, Napi::Number::New(env, 0));
  }
  object.Set("segments", number(env, shared->reader->segment_count()));
  object.Set("generation", number(env, control.membership.generation));
  std::vector<CopyStatus> copies;
  for (const CopyRecord& record : control.membership.copies) {
    copies.push_back({record.path, record.state == CopyState::kIn, false, describe(record),
                      record.since_us, 0, 0, 0});
  }
  object.Set("copies", copies_array(env, copies));
  const Membership& membership = control.membership;
  size_t acknowledging = copies_to_acknowledge(membership.count_in(), membership.quorum);
  object.Set("copiesAcknowledging", number(env, copies.empty() ? 0 : acknowledging));
  return object;
}

Napi::Value NativeReader::refresh(const Napi::CallbackInfo& info) {
  std::shared_ptr<Shared> shared = this->shared(info.Env());
  return ReaderWork<Place>::run(
      info.Env(),
      [shared] {
        std::lock_guard<std::mutex> guard(shared->mutex);
        return shared->reader->refresh();
      },
      [](Napi::Env env, Place& place) -> Napi::Value {
        return place_object(env, place.position, place.lsn);
      },
      info.This());
}

Napi::Value NativeReader::read_into(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::shared_ptr<Shared> shared = this->shared(env);
  if (!info[0].IsTypedArray()) throw Napi::TypeError::New(env, "a Uint8Array is needed");
  Napi::TypedArray array = info[0].As<Napi::TypedArray>();
  uint8_t* data = static_cast<uint8_t*>(array.ArrayBuffer().Data()) + array.ByteOffset();
  uint64_t size = array.ByteLength();
  uint64_t from = to_uint(info[1], "from");
  uint64_t up_to = to_uint(info[2], "upTo");
  if (reinterpret_cast<uintptr_t>(data) % kBlock != 0 || size < 2 * kBlock) {
    throw Napi::TypeError::New(
        env, "the buffer must come from allocateAligned and hold 8192 bytes or more");
  }
  return ReaderWork<ReadOutcome>::run(
      env,
      [shared, data, size, from, up_to] {
        std::lock_guard<std::mutex> guard(shared->mutex);
        return shared->reader->read_into(data, size, from, up_to);
      },
      [](Napi::Env env, ReadOutcome& outcome) -> Napi::Value { return read_object(env, outcome); },
      array);
}

Napi::Value NativeReader::locate(const Napi::CallbackInfo& info) {
  std::shared_ptr<Shared> shared = this->shared(info.Env());
  uint64_t lsn = to_uint(info[0], "lsn");
  return ReaderWork<uint64_t>::run(
      info.Env(),
      [shared, lsn] {
        std::lock_guard<std::mutex> guard(shared->mutex);
        return shared->reader->locate(lsn);
      },
      [](Napi::Env env, uint64_t& position) -> Napi::Value { return number(env, position); },
      info.This());
}

Napi::Value NativeReader::verify(const Napi::CallbackInfo& info) {
  std::shared_ptr<Shared> shared = this->shared(info.Env());
  return ReaderWork<VerifyReport>::run(
      info.Env(),
      [shared] {
        std::lock_guard<std::mutex> guard(shared->mutex);
        return shared->reader->verify();
      },
      [](Napi::Env env, VerifyReport& report) -> Napi::Value {
        Napi::Object object = Napi::Object::New(env);
        object.Set("start", place_object(env, report.start.position, report.start.lsn));
        object.Set("end", place_object(env, report.end.position, report.end.lsn));
        object.Set("batches", number(env, report.batches));
        object.Set("records", number(env, report.records));
        object.Set("bytes", number(env, report.bytes));
        object.Set("term", term_object(env, report.term));
        if (report.damage) {
          Napi::Object damage = Napi::Object::New(env);
          damage.Set("file", report.damage->file);
          damage.Set("offset", Napi::Number::New(env, static_cast<double>(report.damage->offset)));
          damage.Set("lsn", Napi::Number::New(env, static_cast<double>(report.damage->lsn)));
          damage.Set("reason", report.damage->what());
          object.Set("damage", damage);
        }
        return object;
      },
      info.This());
}

void NativeReader::close(const Napi::CallbackInfo&) { shared_.reset(); }

}  // namespace walmirror
