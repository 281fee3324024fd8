#include "native_host.h"

#include <memory>

#include "boot_clock.h"
#include "convert.h"
#include "file_system.h"

namespace walmirror {
namespace {

Napi::Value boot_time(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), boot_milliseconds());
}

/// Returns a function that releases the lock; it is released, too, when that is collected.
Napi::Value lock_file(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsString()) throw Napi::TypeError::New(env, "lockFile takes a path");
  std::string path = info[0].As<Napi::String>().Utf8Value();
  std::shared_ptr<DirectoryLock> lock = posix_file_system()->lock(path);
  auto release = [lock = std::move(lock)](const Napi::CallbackInfo&) mutable { lock.reset(); };
  return Napi::Function::New(env, std::move(release), "release");
}

}  // namespace

void define_host(Napi::Env env, Napi::Object exports) {
  exports.Set("bootTime", Napi::Function::New(env, safely<boot_time>, "bootTime"));
  exports.Set("lockFile", Napi::Function::New(env, safely<lock_file>, "lockFile"));
}

}  // namespace walmirror
