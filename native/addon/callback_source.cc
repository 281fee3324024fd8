#include "callback_source.h"

#include <utility>

#include "convert.h"

namespace walmirror {

std::shared_ptr<CallbackSource> CallbackSource::create(std::shared_ptr<Bridge> bridge,
                                                       std::string name,
                                                       const Napi::Function& fetch, bool others) {
  return std::shared_ptr<CallbackSource>(
      new CallbackSource(std::move(bridge), std::move(name), fetch, others));
}

CallbackSource::CallbackSource(std::shared_ptr<Bridge> bridge, std::string name,
                               const Napi::Function& fetch, bool others)
    : bridge_(std::move(bridge)),
      name_(std::move(name)),
      others_(others),
      fetch_(new Napi::FunctionReference(Napi::Persistent(fetch))),
      forget_(Bridge::note([this_fetch = fetch_](Napi::Env) { delete this_fetch; })) {}

CallbackSource::~CallbackSource() {
  if (forget_ != nullptr) bridge_->complete(std::move(forget_));
}

void CallbackSource::let_go() {
  forget_.reset();
  delete std::exchange(fetch_, nullptr);
}

const uint8_t* CallbackSource::view(uint64_t from, uint64_t need, uint64_t& available) {
  if (from < from_ || from + need > from_ + bytes_.size()) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (cancelled_) throw WalFailure("WAL_CLOSED", "the log is closed");
    waiting_ = true;
    failure_.reset();
    // Of an answer that fails nothing is left to refuse.
    bytes_.clear();
    const char* refused = std::exchange(refused_, kNotRefused);
    lock.unlock();
    auto call = Bridge::note([self = shared_from_this(), from, need, refused](Napi::Env env) {
      self->call(env, from, need, refused);
    });
    bridge_->complete(std::move(call));
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

bool CallbackSource::refuse(bool wrong) {
  if (!others_ || bytes_.empty()) return false;
  refused_ = wrong ? "wrong" : "unfit";
  bytes_.clear();
  return true;
}

void CallbackSource::cancel() {
  std::lock_guard<std::mutex> guard(mutex_);
  cancelled_ = true;
  answered_.notify_all();
}

void CallbackSource::call(Napi::Env env, uint64_t from, uint64_t need, const char* refused) {
  if (fetch_ == nullptr) return;  // it was cancelled: nobody waits
  auto self = shared_from_this();
  try {
    Napi::Object promise =
        fetch_->Call({number(env, from), number(env, need), Napi::String::New(env, refused)})
            .ToObject();
    auto taken =
        Napi::Function::New(env, [self](const Napi::CallbackInfo& info) { self->answer(info[0]); });
    auto failed =
        Napi::Function::New(env, [self](const Napi::CallbackInfo& info) { self->fail(info[0]); });
    promise.Get("then").As<Napi::Function>().Call(promise, {taken, failed});
  } catch (const Napi::Error& error) {
    fail(error.Value());
  } catch (const std::bad_alloc&) {
    answered_without_memory();
  }
}

void CallbackSource::answer(const Napi::Value& bytes) {
  try {
    if (!bytes.IsTypedArray()) return answered(WalFailure("WAL_IO", "no bytes were fetched"));
    Napi::TypedArray array = bytes.As<Napi::TypedArray>();
    auto* data = static_cast<const uint8_t*>(array.ArrayBuffer().Data()) + array.ByteOffset();
    std::lock_guard<std::mutex> guard(mutex_);
    answer_.assign(data, data + array.ByteLength());
    waiting_ = false;
    answered_.notify_all();
  } catch (const std::bad_alloc&) {
    answered_without_memory();
  }
}

void CallbackSource::fail(const Napi::Value& error) {
  try {
    std::string code = "WAL_IO";
    std::string message = "fetching failed";
    if (error.IsObject()) {
      Napi::Value said = error.As<Napi::Object>().Get("code");
      if (said.IsString()) code = said.As<Napi::String>().Utf8Value();
      message = error.As<Napi::Object>().Get("message").ToString().Utf8Value();
    }
    answered(WalFailure(std::move(code), std::move(message)));
  } catch (const std::bad_alloc&) {
    answered_without_memory();
  }
}

void CallbackSource::answered_without_memory() { answered(std::move(out_of_memory_)); }

void CallbackSource::answered(WalFailure failure) {
  std::lock_guard<std::mutex> guard(mutex_);
  failure_ = std::move(failure);
  waiting_ = false;
  answered_.notify_all();
}

}  // namespace walmirror
