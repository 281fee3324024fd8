// What a log is opened with, from JavaScript.
#pragma once

#include <napi.h>

#include "log.h"

namespace walmirror {

/// `NativeOpenOptions` in src/native/native_log.ts. Throws TypeError.
LogOptions to_options(const Napi::Object& object);

}  // namespace walmirror
