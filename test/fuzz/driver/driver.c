// libFuzzer for JavaScript: an addon that hands each input that libFuzzer makes to a function, and
// shows it a block of counters that instrumented JavaScript raises. Linux, clang; only for tests.
#include <node_api.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerRunDriver(int* argc, char*** argv, int (*callback)(const uint8_t*, size_t));
void __sanitizer_cov_8bit_counters_init(uint8_t* start, uint8_t* stop);
void __sanitizer_cov_pcs_init(const uintptr_t* start, const uintptr_t* end);

enum { kMaxArguments = 64, kMaxInput = 65536 };

static napi_env env_;
static napi_ref target_;
static napi_ref input_;
static uint8_t* input_bytes_;

static void check(napi_status status, const char* what) {
  if (status == napi_ok) return;
  fprintf(stderr, "driver: %s failed\n", what);
  abort();
}

// An exception is a finding: abort() makes libFuzzer keep the input.
static int call_target(const uint8_t* data, size_t size) {
  if (size > kMaxInput) return -1;
  napi_handle_scope scope;
  check(napi_open_handle_scope(env_, &scope), "open_handle_scope");
  napi_value target, receiver, arguments[2], result;
  check(napi_get_reference_value(env_, target_, &target), "target");
  check(napi_get_reference_value(env_, input_, &arguments[0]), "input");
  check(napi_get_undefined(env_, &receiver), "undefined");
  if (size > 0) memcpy(input_bytes_, data, size);
  check(napi_create_uint32(env_, (uint32_t)size, &arguments[1]), "size");
  if (napi_call_function(env_, receiver, target, 2, arguments, &result) != napi_ok) {
    napi_value error, text;
    char message[4096] = "unknown";
    if (napi_get_and_clear_last_exception(env_, &error) == napi_ok) {
      napi_value stack;
      if (napi_get_named_property(env_, error, "stack", &stack) == napi_ok) error = stack;
      if (napi_coerce_to_string(env_, error, &text) == napi_ok)
        napi_get_value_string_utf8(env_, text, message, sizeof(message), NULL);
    }
    fprintf(stderr, "finding: %s\n", message);
    abort();
  }
  check(napi_close_handle_scope(env_, scope), "close_handle_scope");
  return 0;
}

// run(target(bytes, size), counters: Uint8Array, input: Uint8Array, arguments: string[]): no
// return.
static napi_value run(napi_env env, napi_callback_info info) {
  size_t count = 4, counters_length, input_length;
  napi_value given[4];
  uint8_t* counters;
  uint32_t length;
  env_ = env;
  check(napi_get_cb_info(env, info, &count, given, NULL, NULL), "arguments");
  check(napi_create_reference(env, given[0], 1, &target_), "reference");
  check(napi_get_typedarray_info(env, given[1], NULL, &counters_length, (void**)&counters, NULL,
                                 NULL),
        "counters");
  check(napi_create_reference(env, given[2], 1, &input_), "reference");
  check(napi_get_typedarray_info(env, given[2], NULL, &input_length, (void**)&input_bytes_, NULL,
                                 NULL),
        "input");
  if (input_length < kMaxInput) abort();
  // A place in the program for each counter; libFuzzer only compares them.
  uintptr_t* places = calloc(2 * counters_length, sizeof(uintptr_t));
  if (places == NULL) abort();
  for (size_t i = 0; i < counters_length; i++) places[2 * i] = (uintptr_t)(counters + i);
  __sanitizer_cov_8bit_counters_init(counters, counters + counters_length);
  __sanitizer_cov_pcs_init(places, places + 2 * counters_length);

  static char* arguments[kMaxArguments];
  check(napi_get_array_length(env, given[3], &length), "length");
  if (length >= kMaxArguments) abort();
  for (uint32_t i = 0; i < length; i++) {
    napi_value text;
    size_t bytes;
    check(napi_get_element(env, given[3], i, &text), "element");
    check(napi_get_value_string_utf8(env, text, NULL, 0, &bytes), "text");
    if ((arguments[i] = malloc(bytes + 1)) == NULL) abort();
    check(napi_get_value_string_utf8(env, text, arguments[i], bytes + 1, &bytes), "text");
  }
  int argument_count = (int)length;
  char** argument_values = arguments;
  exit(LLVMFuzzerRunDriver(&argument_count, &argument_values, call_target));
}

NAPI_MODULE_INIT() {
  napi_value function;
  check(napi_create_function(env, "run", NAPI_AUTO_LENGTH, run, NULL, &function), "function");
  check(napi_set_named_property(env, exports, "run", function), "export");
  return exports;
}
