// NativeLog: the open log, for JavaScript (src/native/native_log.ts has the contract).
#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "callback_source.h"
#include "convert.h"
#include "log.h"
#include "settlement.h"
#include "shared_log.h"

namespace walmirror {

/// Indices of the state array: `State` in src/native/native_log.ts.
enum StateIndex {
  kCursor,
  kCapacity,
  kClosedPosition,
  kClosedLsn,
  kFlushPosition,
  kFlushLsn,
  kRingFloor,
  kRingFree,
  kLastCrc,
  kFailed,
  kStartPosition,
  kStartLsn,
  kSegmentFree,
  kSlowFlushes,
  kScrubNews,
  kCopyNews,
  kFlushes,
  kFlushMs,
  kOpenBytes,
  kShared,
  kStateLength = 20,
};

class NativeLog : public Napi::ObjectWrap<NativeLog> {
 public:
  static void define(Napi::Env env, Napi::Object exports);
  static Napi::Value open(const Napi::CallbackInfo& info);
  /// Without threads, at once.
  static Napi::Value open_stepped(Napi::Env env, const Napi::Object& object,
                                  std::shared_ptr<FileSystem> files,
                                  std::shared_ptr<Surroundings> surroundings);

  explicit NativeLog(const Napi::CallbackInfo& info);
  ~NativeLog() override;

 private:
  /// Methods as the base has them, guarded.
  template <auto method>
  auto safely_call(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return (this->*method)(info); });
  }
  template <auto method>
  static auto InstanceMethod(const char* name) {
    return ObjectWrap::InstanceMethod<&NativeLog::safely_call<method>>(name);
  }
  template <auto getter>
  static auto InstanceAccessor(const char* name) {
    return ObjectWrap::InstanceAccessor<&NativeLog::safely_call<getter>>(name);
  }

  using Task = std::function<Settlement::Result()>;

  void attach(Napi::Env env, std::shared_ptr<Log> log, std::shared_ptr<Bridge> bridge,
              bool shared_ring);
  Log& log(Napi::Env env) const;
  void refresh();
  void progressed(Napi::Env env);
  Napi::Value run_task(Napi::Env env, Task task, Bridge::Completion before = nullptr);
  Napi::Value post(Napi::Env env, const std::shared_ptr<Settlement>& settlement, Task task);
  void pins_moved();
  void retry_opening(Napi::Env env);
  void finish(Napi::Env env);

  Napi::Value get_ring(const Napi::CallbackInfo& info);
  Napi::Value get_state(const Napi::CallbackInfo& info);
  Napi::Value get_words(const Napi::CallbackInfo& info);
  // native_log_facts.cc
  Napi::Value get_info(const Napi::CallbackInfo& info);
  Napi::Value flush_times(const Napi::CallbackInfo& info);
  Napi::Value failure(const Napi::CallbackInfo& info);
  // native_log.cc
  void on_progress(const Napi::CallbackInfo& info);
  void ref(const Napi::CallbackInfo& info);
  void unref(const Napi::CallbackInfo& info);
  Napi::Value promise(const Napi::CallbackInfo& info);
  Napi::Value reserve(const Napi::CallbackInfo& info);
  void close_batch(const Napi::CallbackInfo& info);
  void wake_ticker(const Napi::CallbackInfo& info);
  void put(const Napi::CallbackInfo& info);
  Napi::Value open_term(const Napi::CallbackInfo& info);
  Napi::Value mark_forced(const Napi::CallbackInfo& info);
  void begin_ingest(const Napi::CallbackInfo& info);
  Napi::Value ingest(const Napi::CallbackInfo& info);
  Napi::Value received(const Napi::CallbackInfo& info);
  Napi::Value truncate(const Napi::CallbackInfo& info);
  Napi::Value place_at(const Napi::CallbackInfo& info);
  Napi::Value begin_at(const Napi::CallbackInfo& info);
  Napi::Value store_role(const Napi::CallbackInfo& info);
  Napi::Value store_rebuilt(const Napi::CallbackInfo& info);
  Napi::Value store_rule(const Napi::CallbackInfo& info);
  Napi::Value undercut(const Napi::CallbackInfo& info);
  void end_commits(const Napi::CallbackInfo& info);
  Napi::Value store_contact(const Napi::CallbackInfo& info);
  void set_commit(const Napi::CallbackInfo& info);
  Napi::Value read_into(const Napi::CallbackInfo& info);
  Napi::Value read_ring(const Napi::CallbackInfo& info);
  Napi::Value locate(const Napi::CallbackInfo& info);
  Napi::Value checksum_at(const Napi::CallbackInfo& info);
  Napi::Value pin(const Napi::CallbackInfo& info);
  void move_pin(const Napi::CallbackInfo& info);
  void unpin(const Napi::CallbackInfo& info);
  Napi::Value retain(const Napi::CallbackInfo& info);
  void move_retain(const Napi::CallbackInfo& info);
  void release(const Napi::CallbackInfo& info);
  Napi::Value trim(const Napi::CallbackInfo& info);
  // native_scrub.cc
  void set_scrub(const Napi::CallbackInfo& info);
  Napi::Value scrub_now(const Napi::CallbackInfo& info);
  Napi::Value scrub_status(const Napi::CallbackInfo& info);
  void repair_from(const Napi::CallbackInfo& info);
  // native_log_shared.cc
  Napi::Value get_handle(const Napi::CallbackInfo& info);
  void heard(Napi::Env env, uint64_t from, const std::string* text);
  void on_heard(const Napi::CallbackInfo& info);
  void tell(const Napi::CallbackInfo& info);
  void share(const Napi::CallbackInfo& info);
  void refuse_appends(const Napi::CallbackInfo& info);
  template <typename Append>
  Napi::Value appended(Napi::Env env, Append append);
  Napi::Value append(const Napi::CallbackInfo& info);
  Napi::Value append_group(const Napi::CallbackInfo& info);
  Napi::Value last_appended(const Napi::CallbackInfo& info);
  // native_log_stepped.cc
  Napi::Value due(const Napi::CallbackInfo& info);
  Napi::Value step(const Napi::CallbackInfo& info);
  void abandon(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  void close_sync(const Napi::CallbackInfo& info);

  struct Opening {
    std::shared_ptr<Settlement> settlement;
    uint64_t position;  // 0: not framed yet
  };

  /// What is on its way to this thread may come after the object has ended.
  struct Ear {
    NativeLog* log;
  };

  std::shared_ptr<Log> log_;
  std::shared_ptr<Bridge> bridge_;
  std::shared_ptr<SharedLog> shared_;  // once the handle was asked for
  std::shared_ptr<Ear> ear_;
  Napi::FunctionReference heard_;
  std::weak_ptr<CallbackSource> repairs_from_;
  Napi::ObjectReference ring_;
  Napi::ObjectReference state_;
  Napi::ObjectReference words_;
  double* state_values_ = nullptr;
  int32_t* words_copy_ = nullptr;  // where memory cannot be shared
  Napi::FunctionReference callback_;
  std::vector<Opening> openings_;
  napi_env env_ = nullptr;
  int user_holds_ = 0;
  bool stepped_ = false;
  bool closing_ = false;
  bool closed_ = false;
  bool cutting_ = false;  // a task is changing the owner's fields
};

}  // namespace walmirror
