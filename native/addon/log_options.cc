#include "log_options.h"

#include "convert.h"

namespace walmirror {

LogOptions to_options(const Napi::Object& object) {
  LogOptions options;
  options.directory = get_text(object, "dir");
  options.mirrors = get_texts(object, "mirrors");
  options.accept_missing = get_texts(object, "acceptMissing");
  if (object.Has("copyLagMs"))
    options.copy_lag_ms = static_cast<uint32_t>(get_uint(object, "copyLagMs"));
  if (object.Has("mirrorQuorum"))
    options.mirror_quorum = static_cast<uint32_t>(get_uint(object, "mirrorQuorum"));
  if (object.Has("copyFillRate")) options.copy_fill_rate = get_uint(object, "copyFillRate");
  options.create = get_bool(object, "create");
  options.role = to_role(object.Get("role"));
  options.name = get_text(object, "name");
  options.segment_bytes = get_uint(object, "segmentBytes");
  options.padded = get_bool(object, "padded");
  options.max_record_bytes = get_uint(object, "maxRecordBytes");
  options.ring_bytes = get_uint(object, "ringBytes");
  options.max_batch_bytes = get_uint(object, "maxBatchBytes");
  options.max_batch_delay_ms = static_cast<uint32_t>(get_uint(object, "maxBatchDelayMs"));
  if (object.Get("logId").IsString()) {
    Id id;
    if (!from_hex(get_text(object, "logId"), id.data(), id.size())) {
      throw Napi::TypeError::New(object.Env(), "logId takes 32 hexadecimal digits");
    }
    options.log_id = id;
  }
  if (object.Get("salt").IsString()) {
    uint64_t salt;
    if (!from_hex(get_text(object, "salt"), reinterpret_cast<uint8_t*>(&salt), sizeof salt)) {
      throw Napi::TypeError::New(object.Env(), "salt takes 16 hexadecimal digits");
    }
    options.salt = __builtin_bswap64(salt);
  }
  return options;
}

}  // namespace walmirror
