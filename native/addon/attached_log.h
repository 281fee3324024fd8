// AttachedLog: an open log, for another thread than its owner's (src/native/native_log.ts).
#pragma once

#include <napi.h>

#include <memory>

#include "convert.h"
#include "shared_log.h"

namespace walmirror {

class AttachedLog : public Napi::ObjectWrap<AttachedLog> {
 public:
  static void define(Napi::Env env, Napi::Object exports);
  explicit AttachedLog(const Napi::CallbackInfo& info);
  ~AttachedLog() override;

 private:
  template <auto method>
  auto safely_call(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return (this->*method)(info); });
  }
  template <auto method>
  static auto InstanceMethod(const char* name) {
    return ObjectWrap::InstanceMethod<&AttachedLog::safely_call<method>>(name);
  }

  static Napi::Value attach(const Napi::CallbackInfo& info,
                            const std::shared_ptr<Napi::FunctionReference>& constructor);
  void join(Napi::Env env, std::shared_ptr<SharedLog> shared);
  SharedLog& shared() const;
  void told(Napi::Env env, const std::string* text);
  template <typename Append>
  Napi::Value appended(Napi::Env env, Append append);

  Napi::Value append(const Napi::CallbackInfo& info);
  Napi::Value append_group(const Napi::CallbackInfo& info);
  void close_batch(const Napi::CallbackInfo& info);
  Napi::Value needs_drain(const Napi::CallbackInfo& info);
  Napi::Value ask(const Napi::CallbackInfo& info);
  void on_told(const Napi::CallbackInfo& info);
  void ref(const Napi::CallbackInfo& info);
  void unref(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  /// What is on its way to this thread may come after the object has ended.
  struct Ear {
    AttachedLog* attached;
  };

  std::shared_ptr<SharedLog> shared_;  // nullptr: closed
  std::shared_ptr<Bridge> bridge_;
  std::shared_ptr<Ear> ear_;
  uint64_t member_ = 0;
  Napi::FunctionReference callback_;
  int holds_ = 0;
};

}  // namespace walmirror
