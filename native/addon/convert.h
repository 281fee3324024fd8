// Between JavaScript's values and the core's.
#pragma once

#include <napi.h>

#include "control_file.h"
#include "log.h"
#include "walker.h"

namespace walmirror {

struct ByteView {
  uint8_t* data;
  size_t size;
};

/// What a Uint8Array shows; throws a TypeError for anything else.
ByteView to_bytes(const Napi::Value& value);
/// Of its first so many bytes.
ByteView to_bytes(const Napi::Value& value, const Napi::Value& size);

/// A safe integer >= 0; throws a TypeError that names the argument.
uint64_t to_uint(const Napi::Value& value, const char* name);
uint64_t get_uint(const Napi::Object& object, const char* key);
bool get_bool(const Napi::Object& object, const char* key);
std::string get_text(const Napi::Object& object, const char* key);
std::vector<std::string> get_texts(const Napi::Object& object, const char* key);

Napi::Value number(Napi::Env env, uint64_t value);
Napi::Object place_object(Napi::Env env, uint64_t position, uint64_t lsn);
Napi::Object term_object(Napi::Env env, const Term& term);
Term to_term(const Napi::Value& value);
Rule to_rule(const Napi::Value& value);
History to_history(const Napi::Value& value);
Napi::Value read_object(Napi::Env env, const ReadOutcome& outcome);

Napi::Array copies_array(Napi::Env env, const std::vector<CopyStatus>& copies);

/// What the log, open or merely looked at, says of itself (NativeInfo).
Napi::Object info_object(Napi::Env env, const Control& control, const Term& term,
                         const History& history);

/// What the opening found (NativeInfo's `recovery`).
Napi::Object recovery_object(Napi::Env env, const RecoveryReport& report);

const char* role_name(Role role);
Role to_role(const Napi::Value& value);
Cut to_cut(const Napi::Value& value);

/// An Error with `code`, `file`, `offset`, `lsn`, `errno`.
Napi::Error to_error(Napi::Env env, const WalFailure& failure);

/// WAL_NO_MEMORY. Takes none of the addon's own.
Napi::Error no_memory(Napi::Env env);

/// WAL_FAILED, outcome unknown. Takes no memory of the addon's own.
Napi::Error part_taken(Napi::Env env, const PartTaken& failure);

/// A new object of a class of the addon, whose constructor allocates outside of what can be
/// guarded.
Napi::Object new_instance(Napi::Env env, const Napi::FunctionReference& constructor);

/// Runs `body`, turning the core's exceptions into JavaScript's, which takes memory.
template <typename Body>
auto translated(Napi::Env env, Body& body) {
  try {
    return body();
  } catch (const WalFailure& failure) {
    throw to_error(env, failure);
  } catch (const PartTaken& failure) {
    throw part_taken(env, failure);
  } catch (const std::out_of_range& error) {
    throw Napi::RangeError::New(env, error.what());
  } catch (const std::invalid_argument& error) {
    throw Napi::TypeError::New(env, error.what());
  }
}

/// The same, also where there is no memory for either.
template <typename Body>
auto guarded(Napi::Env env, Body body) {
  try {
    return translated(env, body);
  } catch (const std::bad_alloc&) {
    throw no_memory(env);
  }
}

/// An exported function, guarded. What is not would be an Error without a `code`.
template <Napi::Value (*function)(const Napi::CallbackInfo&)>
Napi::Value safely(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return function(info); });
}

}  // namespace walmirror
