// What an open log says of itself.
#include "native_log.h"

namespace walmirror {

Napi::Value NativeLog::get_info(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (log_ == nullptr) throw to_error(env, WalFailure("WAL_CLOSED", "the log is closed"));
  Napi::Object object = info_object(env, log_->control(), log_->term(), log_->history());
  const RecoveryReport& report = log_->recovery();
  LogStatistics statistics = log_->statistics();
  Place start = log_->start();
  object.Set("created", Napi::Boolean::New(env, report.created));
  object.Set("ringBytes", number(env, log_->ring()->size()));
  object.Set("maxBatchBytes", number(env, log_->max_batch_bytes()));
  object.Set("opened", number(env, log_->opened()));
  object.Set("start", place_object(env, start.position, start.lsn));
  object.Set("io", log_->direct() ? "direct" : "buffered");
  object.Set("recovery", recovery_object(env, report));
  object.Set("flushes", number(env, statistics.flushes));
  object.Set("flushedBytes", number(env, statistics.flushed_bytes));
  object.Set("slowestFlushMs", Napi::Number::New(env, statistics.slowest_flush_ms));
  object.Set("slowFlushes", number(env, statistics.slow_flushes));
  object.Set("lastSlowFlushMs", Napi::Number::New(env, statistics.last_slow_flush_ms));
  object.Set("segments", number(env, log_->segment_count()));
  object.Set("spareSegments", number(env, log_->spare_count()));
  object.Set("copies", copies_array(env, log_->copies()));
  object.Set("copiesAcknowledging", number(env, log_->copies_acknowledging()));
  return object;
}

Napi::Value NativeLog::flush_times(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const DurationHistogram durations = log(env).statistics().durations;
  Napi::Array pairs = Napi::Array::New(env);
  uint32_t length = 0;
  for (size_t bucket = 0; bucket < DurationHistogram::kBuckets; bucket++) {
    if (durations.count(bucket) == 0) continue;
    pairs.Set(length++, Napi::Number::New(env, DurationHistogram::limit_ms(bucket)));
    pairs.Set(length++, number(env, durations.count(bucket)));
  }
  return pairs;
}

Napi::Value NativeLog::failure(const Napi::CallbackInfo& info) {
  std::optional<WalFailure> failure = log_->failure();
  if (!failure) return info.Env().Undefined();
  return to_error(info.Env(), *failure).Value();
}

}  // namespace walmirror
