// NativeReader: a log directory, looked at from outside.
#pragma once

#include <napi.h>

#include <memory>
#include <mutex>

#include "convert.h"
#include "log_reader.h"

namespace walmirror {

class NativeReader : public Napi::ObjectWrap<NativeReader> {
 public:
  static void define(Napi::Env env, Napi::Object exports);
  explicit NativeReader(const Napi::CallbackInfo& info);

 private:
  /// Methods as the base has them, guarded.
  template <auto method>
  auto safely_call(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return (this->*method)(info); });
  }
  template <auto method>
  static auto InstanceMethod(const char* name) {
    return ObjectWrap::InstanceMethod<&NativeReader::safely_call<method>>(name);
  }

  /// The reader takes one call at a time, and may outlive the object that made it.
  struct Shared {
    std::mutex mutex;
    std::shared_ptr<LogReader> reader;
  };

  static Napi::Value open(const Napi::CallbackInfo& info,
                          const std::shared_ptr<Napi::FunctionReference>& constructor);
  std::shared_ptr<Shared> shared(Napi::Env env) const;

  Napi::Value get_info(const Napi::CallbackInfo& info);
  Napi::Value refresh(const Napi::CallbackInfo& info);
  Napi::Value read_into(const Napi::CallbackInfo& info);
  Napi::Value locate(const Napi::CallbackInfo& info);
  Napi::Value verify(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  std::shared_ptr<Shared> shared_;
};

}  // namespace walmirror
