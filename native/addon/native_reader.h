// NativeReader: a log directory, looked at from outside.
#pragma once

#include <napi.h>

#include <memory>
#include <mutex>

#include "log_reader.h"

namespace walmirror {

class NativeReader : public Napi::ObjectWrap<NativeReader> {
 public:
  static void define(Napi::Env env, Napi::Object exports);
  explicit NativeReader(const Napi::CallbackInfo& info);

 private:
  /// The reader takes one call at a time, and may outlive the object that made it.
  struct Shared {
    std::mutex mutex;
    std::shared_ptr<LogReader> reader;
  };

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
