// What of the host the TypeScript side cannot reach by itself: a clock, and locks on files.
#pragma once

#include <napi.h>

namespace walmirror {

/// Adds `bootTime` and `lockFile` to the exports.
void define_host(Napi::Env env, Napi::Object exports);

}  // namespace walmirror
