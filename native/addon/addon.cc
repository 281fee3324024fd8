// The addon's exports: src/native/native_log.ts has the contract.
#include <napi.h>

#include "attached_log.h"
#include "convert.h"
#include "crc32c.h"
#include "memory.h"
#include "native_host.h"
#include "native_log.h"
#include "native_reader.h"
#include "native_scrub.h"
#include "simulated_disk.h"

namespace walmirror {
namespace {

Napi::Value checksum(const Napi::CallbackInfo& info) {
  ByteView bytes = to_bytes(info[0]);
  auto seed = info[1].IsNumber() ? info[1].As<Napi::Number>().Uint32Value() : 0;
  return Napi::Number::New(info.Env(), crc32c(seed, bytes.data, bytes.size));
}

Napi::Value checksum_with(const Napi::CallbackInfo& info) {
  std::string name = info[0].ToString().Utf8Value();
  ByteView bytes = to_bytes(info[1]);
  for (const Crc32cImplementation& implementation : crc32c_implementations()) {
    if (name == implementation.name) {
      return Napi::Number::New(info.Env(), implementation.run(0, bytes.data, bytes.size));
    }
  }
  throw Napi::RangeError::New(info.Env(),
                              "this processor has no crc32c implementation named " + name);
}

Napi::Value implementations(const Napi::CallbackInfo& info) {
  Napi::Array names = Napi::Array::New(info.Env());
  uint32_t next = 0;
  for (const Crc32cImplementation& implementation : crc32c_implementations())
    names.Set(next++, implementation.name);
  return names;
}

Napi::Value allocate_aligned(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  uint64_t size = to_uint(info[0], "bytes");
  if (size == 0 || size > (1u << 30)) throw Napi::RangeError::New(env, "bytes takes 1 to 2^30");
  using Memory = std::shared_ptr<AlignedBuffer>;
  auto* memory = new Memory(guarded(env, [&] { return make_aligned_memory(size); }));
  auto finalize = [](napi_env, void*, void* hint) { delete static_cast<Memory*>(hint); };
  napi_value buffer;
  if (napi_create_external_buffer(env, size, (*memory)->data(), finalize, memory, &buffer) ==
      napi_ok) {
    return Napi::Value(env, buffer);
  }
  delete memory;  // no external memory in this build: a part of an ordinary buffer that is aligned
  Napi::ArrayBuffer plain = Napi::ArrayBuffer::New(env, size + kBlock);
  auto address = reinterpret_cast<uintptr_t>(plain.Data());
  return Napi::Uint8Array::New(env, size, plain, align_up(address, kBlock) - address);
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  NativeLog::define(env, exports);
  NativeReader::define(env, exports);
  AttachedLog::define(env, exports);
  define_scrub(env, exports);
  define_host(env, exports);
  define_simulated_disk(env, exports);
  exports.Set("crc32c", Napi::Function::New(env, safely<checksum>, "crc32c"));
  exports.Set("crc32cWith", Napi::Function::New(env, safely<checksum_with>, "crc32cWith"));
  exports.Set("crc32cImplementations",
              Napi::Function::New(env, safely<implementations>, "crc32cImplementations"));
  exports.Set("allocateAligned",
              Napi::Function::New(env, safely<allocate_aligned>, "allocateAligned"));
  return exports;
}

}  // namespace
}  // namespace walmirror

static Napi::Object init_addon(Napi::Env env, Napi::Object exports) {
  return walmirror::init(env, exports);
}

NODE_API_MODULE(walmirror, init_addon)
