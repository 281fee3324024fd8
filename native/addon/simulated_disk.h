// A machine's disk in memory, and the logs on it, whose owner steps what their threads would do:
// for simulations (src/testing).
#pragma once

#include <napi.h>

namespace walmirror {

void define_simulated_disk(Napi::Env env, Napi::Object exports);

}  // namespace walmirror
