// Scrub and repair of closed logs for JavaScript, and how damage is told to it.
#pragma once

#include "bridge.h"
#include "repair.h"
#include "scrubber.h"

namespace walmirror {

void define_scrub(Napi::Env env, Napi::Object exports);

Napi::Array damage_array(Napi::Env env, const LogIdentity& identity,
                         const std::vector<DamagedRange>& ranges);
Napi::Object scrub_status_object(Napi::Env env, const LogIdentity& identity,
                                 const ScrubStatus& status);

}  // namespace walmirror
