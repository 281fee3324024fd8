#include "native_scrub.h"

#include <chrono>
#include <thread>
#include <utility>

#include "callback_source.h"
#include "convert.h"
#include "native_log.h"

namespace walmirror {
namespace {

/// How often a listener hears of progress, at most.
constexpr auto kTellEvery = std::chrono::milliseconds(100);

Napi::Object range_object(Napi::Env env, const LogIdentity& identity, const DamagedRange& range) {
  static const char* const kParts[] = {"header", "batches", "zeros", "segment", "length"};
  Napi::Object object = Napi::Object::New(env);
  object.Set("part", kParts[static_cast<size_t>(range.part)]);
  object.Set("file", range.file);
  uint64_t start = identity.segment_start(range.to - 1);
  object.Set("offset", number(env, range.from - start));
  object.Set("bytes", number(env, range.to - range.from));
  object.Set("position", number(env, range.from));
  object.Set("firstLsn", number(env, range.first_lsn));
  object.Set("lastLsn", number(env, range.last_lsn));
  object.Set("reason", range.reason);
  return object;
}

std::vector<DamagedRange> ranges_of(const std::vector<Damage>& damage) {
  std::vector<DamagedRange> ranges;
  for (const Damage& each : damage)
    ranges.insert(ranges.end(), each.ranges.begin(), each.ranges.end());
  return ranges;
}

Napi::Object report_object(Napi::Env env, const LogIdentity& identity, const ScrubReport& report) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("start", place_object(env, report.start.position, report.start.lsn));
  object.Set("end", place_object(env, report.end.position, report.end.lsn));
  object.Set("batches", number(env, report.batches));
  object.Set("records", number(env, report.records));
  object.Set("damage", damage_array(env, identity, ranges_of(report.damage)));
  return object;
}

/// A job on a thread of its own, which tells a listener how far it is and settles a promise.
class Job : public std::enable_shared_from_this<Job> {
 public:
  using Settle = Settlement::Result;
  using Progress = std::function<bool(uint64_t position, uint64_t of)>;
  using Work = std::function<Settle(const Progress& progress)>;

  static std::shared_ptr<Job> create(Napi::Env env, const Napi::Value& listener) {
    std::shared_ptr<Job> job(new Job(env));
    if (listener.IsFunction())
      job->listener_ = new Napi::FunctionReference(Napi::Persistent(listener.As<Napi::Function>()));
    return job;
  }

  const std::shared_ptr<Bridge>& bridge() const { return bridge_; }

  Napi::Value run(Napi::Env env, Work work) {
    auto self = shared_from_this();
    std::shared_ptr<Settlement> settlement;
    try {
      settlement = Settlement::create(env, bridge_);
      settlement->after([self](Napi::Env, bool) { self->end(); });
      std::function<Settlement::Result()> body = [self, work] {
        return work([self](uint64_t position, uint64_t of) { return self->tell(position, of); });
      };
      std::thread([settlement, body] { settlement->run(body); }).detach();
    } catch (...) {
      if (settlement != nullptr) settlement->abandon(env);
      end();
      throw;
    }
    return settlement->promise();
  }

 private:
  explicit Job(Napi::Env env) : bridge_(Bridge::create(env)) {}

  void end() {
    delete std::exchange(listener_, nullptr);
    bridge_->detach();
  }

  bool tell(uint64_t position, uint64_t of) {
    auto now = std::chrono::steady_clock::now();
    if (listener_ == nullptr || now - told_ < kTellEvery) return true;
    told_ = now;
    bridge_->complete([self = shared_from_this(), position, of](Napi::Env env) {
      if (self->listener_ != nullptr)
        self->listener_->Call({number(env, position), number(env, of)});
    });
    return true;
  }

  std::shared_ptr<Bridge> bridge_;
  Napi::FunctionReference* listener_ = nullptr;
  std::chrono::steady_clock::time_point told_{};
};

Napi::Value identify(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsString()) throw Napi::TypeError::New(env, "dir takes a string");
  std::string directory = info[0].As<Napi::String>().Utf8Value();
  Control control = guarded(env, [&] { return read_control(*posix_file_system(), directory); });
  return info_object(env, control, control.term, control.history);
}

Napi::Value scrub(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsString()) throw Napi::TypeError::New(env, "dir takes a string");
  std::string directory = info[0].As<Napi::String>().Utf8Value();
  return Job::create(env, info[1])
      ->run(env, [directory](const Job::Progress& progress) -> Job::Settle {
        LogIdentity identity = identity_of(read_control(*posix_file_system(), directory));
        ScrubReport report = scrub_directory(posix_file_system(), directory, progress);
        return [identity, report](Napi::Env settled) -> Napi::Value {
          return report_object(settled, identity, report);
        };
      });
}

Napi::Value repair(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsObject()) throw Napi::TypeError::New(env, "repair takes options");
  Napi::Object object = info[0].As<Napi::Object>();
  std::string directory = get_text(object, "dir");
  std::string other;
  if (object.Get("fromDir").IsString()) other = get_text(object, "fromDir");
  bool dry_run = get_bool(object, "dryRun");
  std::shared_ptr<Job> job = Job::create(env, info[1]);
  std::shared_ptr<BatchSource> peer;
  if (object.Get("fetch").IsFunction()) {
    peer = CallbackSource::create(job->bridge(), get_text(object, "peer"),
                                  object.Get("fetch").As<Napi::Function>());
  }
  return job->run(env, [=](const Job::Progress& progress) -> Job::Settle {
    auto files = posix_file_system();
    Control control = read_control(*files, directory);
    std::shared_ptr<BatchSource> source = peer;
    if (!other.empty()) source = std::make_shared<DirectorySource>(files, other, control);
    RepairOptions options{directory, dry_run, source.get(), progress};
    RepairReport report = repair_directory(files, options);
    LogIdentity identity = identity_of(control);
    return [identity, report](Napi::Env settled) -> Napi::Value {
      Napi::Object result = report_object(settled, identity, report.before);
      Napi::Array ranges = Napi::Array::New(settled);
      for (uint32_t i = 0; i < report.ranges.size(); i++) {
        Napi::Object range = range_object(settled, identity, report.ranges[i].range);
        range.Set("repaired", Napi::Boolean::New(settled, report.ranges[i].repaired));
        range.Set("why", report.ranges[i].reason);
        ranges.Set(i, range);
      }
      result.Set("damage", ranges);
      result.Set("writtenBytes", number(settled, report.written_bytes));
      return result;
    };
  });
}

}  // namespace

Napi::Array damage_array(Napi::Env env, const LogIdentity& identity,
                         const std::vector<DamagedRange>& ranges) {
  Napi::Array array = Napi::Array::New(env, ranges.size());
  for (uint32_t i = 0; i < ranges.size(); i++) array.Set(i, range_object(env, identity, ranges[i]));
  return array;
}

Napi::Object scrub_status_object(Napi::Env env, const LogIdentity& identity,
                                 const ScrubStatus& status) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("running", Napi::Boolean::New(env, status.running));
  object.Set("done", number(env, status.done));
  object.Set("of", number(env, status.of));
  object.Set("passes", number(env, status.passes));
  object.Set("finished", status.finished_ms == 0 ? env.Null() : number(env, status.finished_ms));
  object.Set("damage", damage_array(env, identity, status.damage));
  object.Set("damagedRanges", number(env, status.damaged_ranges));
  object.Set("found", number(env, status.found));
  object.Set("repaired", number(env, status.repaired));
  object.Set("reason", status.reason);
  return object;
}

void NativeLog::set_scrub(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (!info[0].IsObject()) throw Napi::TypeError::New(env, "setScrub takes settings");
  Napi::Object object = info[0].As<Napi::Object>();
  ScrubSettings settings;
  settings.bytes_per_second = get_uint(object, "bytesPerSecond");
  settings.repeat = true;
  settings.first = std::chrono::milliseconds(get_uint(object, "firstMs"));
  settings.every = std::chrono::milliseconds(get_uint(object, "everyMs"));
  log(env).scrubber().configure(settings);
}

Napi::Value NativeLog::scrub_now(const Napi::CallbackInfo& info) {
  return number(info.Env(), log(info.Env()).scrubber().run_now(info[0].ToBoolean().Value()));
}

Napi::Value NativeLog::scrub_status(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (log_ == nullptr) throw to_error(env, WalFailure("WAL_CLOSED", "the log is closed"));
  return scrub_status_object(env, log_->identity(), log_->scrubber().status());
}

void NativeLog::repair_from(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  std::shared_ptr<CallbackSource> source;
  if (info[1].IsFunction()) {
    std::string name = info[0].ToString().Utf8Value();
    bool others = info[2].ToBoolean().Value();
    source = CallbackSource::create(bridge_, name, info[1].As<Napi::Function>(), others);
  }
  log(env).scrubber().repair_from(source);
  repairs_from_ = source;
}

void define_scrub(Napi::Env env, Napi::Object exports) {
  exports.Set("identify", Napi::Function::New(env, safely<identify>, "identify"));
  exports.Set("scrub", Napi::Function::New(env, safely<scrub>, "scrub"));
  exports.Set("repair", Napi::Function::New(env, safely<repair>, "repair"));
}

}  // namespace walmirror
