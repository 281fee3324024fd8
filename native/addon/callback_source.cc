#include "callback_source.h"

#include "convert.h"

namespace walmirror {

std::shared_ptr<CallbackSource> CallbackSource::create(std::shared_ptr<Bridge> bridge,
                                                       std::string name,
                                                       const Napi::Function& fetch) {
  return std::shared_ptr<CallbackSource>(
      new CallbackSource(std::move(bridge), std::move(name), fetch));
}

CallbackSource::CallbackSource(std::shared_ptr<Bridge> bridge, std::string name,
                               const Napi::Function& fetch)
    : bridge_(std::move(bridge)),
      name_(std::move(name)),
      fetch_(new Napi::FunctionReference(Napi::Persistent(fetch))) {}

CallbackSource::~CallbackSource() {
  bridge_->complete([fetch = fetch_](Napi::Env) { delete fetch; });
}

const uint8_t* CallbackSource::view(uint64_t from, uint64_t need, uint64_t& available) {
  if (from < from_ || from + need > from_ + bytes_.size()) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (cancelled_) throw WalFailure("WAL_CLOSED", "the log is closed");
    waiting_ = true;
    failure_.reset();
    lock.unlock();
    bridge_->complete(
        [self = shared_from_this(), from, need](Napi::Env env) { self->call(env, from, need); });
    lock.lock();
    answered_.wait(lock, [this] { return !waiting_ || cancelled_; });
    if (cancelled_) throw WalFailure("WAL_CLOSED", "the log is closed");
    if (failure_) throw *failure_;
    bytes_.swap(answer_);
    answer_.clear();
    from_ = from;
  }
  available = from_ + bytes_.size() - from;
  return bytes_.data() + (from - from_);
}

void CallbackSource::cancel() {
  std::lock_guard<std::mutex> guard(mutex_);
  cancelled_ = true;
  answered_.notify_all();
}

void CallbackSource::call(Napi::Env env, uint64_t from, uint64_t need) {
  auto self = shared_from_this();
  try {
    Napi::Object promise = fetch_->Call({number(env, from), number(env, need)}).ToObject();
    auto taken =
        Napi::Function::New(env, [self](const Napi::CallbackInfo& info) { self->answer(info[0]); });
    auto failed =
        Napi::Function::New(env, [self](const Napi::CallbackInfo& info) { self->fail(info[0]); });
    promise.Get("then").As<Napi::Function>().Call(promise, {taken, failed});
  } catch (const Napi::Error& error) {
    fail(error.Value());
  }
}

void CallbackSource::answer(const Napi::Value& bytes) {
  std::lock_guard<std::mutex> guard(mutex_);
  if (bytes.IsTypedArray()) {
    Napi::TypedArray array = bytes.As<Napi::TypedArray>();
    auto* data = static_cast<const uint8_t*>(array.ArrayBuffer().Data()) + array.ByteOffset();
    answer_.assign(data, data + array.ByteLength());
  } else {
    failure_ = WalFailure("WAL_IO", "no bytes were fetched");
  }
  waiting_ = false;
  answered_.notify_all();
}

void CallbackSource::fail(const Napi::Value& error) {
  std::string code = "WAL_IO";
  std::string message = "fetching failed";
  if (error.IsObject()) {
    Napi::Value said = error.As<Napi::Object>().Get("code");
    if (said.IsString()) code = said.As<Napi::String>().Utf8Value();
    message = error.As<Napi::Object>().Get("message").ToString().Utf8Value();
  }
  std::lock_guard<std::mutex> guard(mutex_);
  failure_ = WalFailure(code, message);
  waiting_ = false;
  answered_.notify_all();
}

}  // namespace walmirror
