#include "simulated_disk.h"

#include <random>

#include "convert.h"
#include "durable_log.h"
#include "log_options.h"
#include "memory_file_system.h"
#include "native_log.h"

namespace walmirror {
namespace {

using simulated::Loss;
using simulated::MemoryFileSystem;

/// Clocks that JavaScript sets, and numbers that follow from a seed.
class SimulatedSurroundings : public Surroundings {
 public:
  SimulatedSurroundings(std::shared_ptr<double[]> clock, uint64_t seed)
      : clock_(std::move(clock)), random_(seed) {}

  Time now() override {
    return Time(std::chrono::nanoseconds(static_cast<int64_t>(clock_[0] * 1e6)));
  }
  uint64_t wall_clock_us() override { return static_cast<uint64_t>(clock_[1] * 1e3); }
  void random(void* out, size_t size) override {
    for (auto* at = static_cast<uint8_t*>(out); size > 0; size--)
      *at++ = static_cast<uint8_t>(random_());
  }
  bool has_threads() const override { return false; }

 private:
  std::shared_ptr<double[]> clock_;
  std::mt19937_64 random_;
};

class SimulatedDisk : public Napi::ObjectWrap<SimulatedDisk> {
 public:
  static void define(Napi::Env env, Napi::Object exports);

  explicit SimulatedDisk(const Napi::CallbackInfo& info) : Napi::ObjectWrap<SimulatedDisk>(info) {
    uint64_t seed = to_uint(info[0], "seed");
    clock_ = std::shared_ptr<double[]>(new double[2]{0, 0});
    auto* kept = new std::shared_ptr<double[]>(clock_);
    auto finalize = [](Napi::Env, void*, std::shared_ptr<double[]>* hint) { delete hint; };
    Napi::ArrayBuffer memory =
        Napi::ArrayBuffer::New(info.Env(), clock_.get(), 2 * sizeof(double), finalize, kept);
    view_ = Napi::Persistent(Napi::Float64Array::New(info.Env(), 2, memory, 0).As<Napi::Object>());
    surroundings_ = std::make_shared<SimulatedSurroundings>(clock_, seed);
    files_ = std::make_shared<MemoryFileSystem>();
  }

 private:
  template <auto method>
  Napi::Value guard(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&] { return (this->*method)(info); });
  }
  template <auto method>
  static auto InstanceMethod(const char* name) {
    return ObjectWrap::InstanceMethod<&SimulatedDisk::guard<method>>(name);
  }
  template <auto method>
  static auto InstanceAccessor(const char* name) {
    return ObjectWrap::InstanceAccessor<&SimulatedDisk::guard<method>>(name);
  }

  Napi::Value get_clock(const Napi::CallbackInfo&) { return view_.Value(); }
  Napi::Value get_dead(const Napi::CallbackInfo& info) {
    return Napi::Boolean::New(info.Env(), files_->dead);
  }

  Napi::Value open(const Napi::CallbackInfo& info) {
    if (!info[0].IsObject()) throw Napi::TypeError::New(info.Env(), "open takes options");
    return NativeLog::open_stepped(info.Env(), info[0].As<Napi::Object>(), files_, surroundings_);
  }

  Napi::Value go_off(const Napi::CallbackInfo& info) {
    files_->dead = true;
    return info.Env().Undefined();
  }

  /// What was on the disk, and of the rest what `loss` says.
  Napi::Value come_back(const Napi::CallbackInfo& info) {
    std::mt19937_64 random(to_uint(info[1], "seed"));
    files_->dead = true;
    files_ = std::make_shared<MemoryFileSystem>(
        simulated::after_power_loss(files_->state(), to_loss(info[0]), random));
    return info.Env().Undefined();
  }

  Napi::Value die_in(const Napi::CallbackInfo& info) {
    files_->dies_after = info[1].ToBoolean().Value();
    files_->die_in = static_cast<int>(to_uint(info[0], "changes"));
    return info.Env().Undefined();
  }

  Napi::Value fail_in(const Napi::CallbackInfo& info) {
    std::string what = info[0].ToString().Utf8Value();
    int nth = static_cast<int>(to_uint(info[1], "nth"));
    if (!info[2].IsUndefined()) files_->fail_errno = static_cast<int>(to_uint(info[2], "errno"));
    if (what == "write") {
      files_->fail_write_in = nth;
    } else if (what == "sync") {
      files_->fail_sync_in = nth;
    } else if (what == "lose") {
      files_->write_fault = simulated::WriteFault::kLost;
      files_->fault_write_in = nth;
    } else {
      throw Napi::TypeError::New(info.Env(), "a disk fails to write or sync, or loses");
    }
    return info.Env().Undefined();
  }

  Napi::Value set_full(const Napi::CallbackInfo& info) {
    files_->full = info[0].ToBoolean().Value();
    return info.Env().Undefined();
  }

  Napi::Value list(const Napi::CallbackInfo& info) {
    Napi::Array names = Napi::Array::New(info.Env());
    uint32_t next = 0;
    for (const std::string& name : files_->list(info[0].ToString().Utf8Value()))
      names.Set(next++, name);
    return names;
  }

  Napi::Value flip(const Napi::CallbackInfo& info) {
    files_->flip(info[0].ToString().Utf8Value(), to_uint(info[1], "bit"));
    return info.Env().Undefined();
  }

  /// What an opening would find after a power loss now that takes all that is not on the disk: the
  /// checksum of the batch that holds a record; undefined where it is not there; without one, the
  /// last LSN.
  Napi::Value durable(const Napi::CallbackInfo& info) {
    std::string directory = info[0].ToString().Utf8Value();
    durable_.look(files_, directory);
    if (info[1].IsUndefined()) return number(info.Env(), durable_.last_lsn());
    std::optional<uint32_t> found = durable_.checksum_of(to_uint(info[1], "lsn"));
    return found ? number(info.Env(), *found) : info.Env().Undefined();
  }

  Napi::Value forget(const Napi::CallbackInfo& info) {
    durable_.forget();
    return info.Env().Undefined();
  }

  static Loss to_loss(const Napi::Value& value) {
    std::string text = value.ToString().Utf8Value();
    if (text == "nothing") return Loss::kNothing;
    if (text == "some") return Loss::kSomeSectors;
    if (text == "all") return Loss::kAllUnflushed;
    throw Napi::TypeError::New(value.Env(), "a power loss takes nothing, some or all");
  }

  std::shared_ptr<double[]> clock_;
  Napi::ObjectReference view_;
  std::shared_ptr<SimulatedSurroundings> surroundings_;
  std::shared_ptr<MemoryFileSystem> files_;
  simulated::DurableLog durable_;
};

void SimulatedDisk::define(Napi::Env env, Napi::Object exports) {
  Napi::Function constructor =
      DefineClass(env, "SimulatedDisk",
                  {
                      InstanceAccessor<&SimulatedDisk::get_clock>("clock"),
                      InstanceAccessor<&SimulatedDisk::get_dead>("dead"),
                      InstanceMethod<&SimulatedDisk::open>("open"),
                      InstanceMethod<&SimulatedDisk::go_off>("goOff"),
                      InstanceMethod<&SimulatedDisk::come_back>("comeBack"),
                      InstanceMethod<&SimulatedDisk::die_in>("dieIn"),
                      InstanceMethod<&SimulatedDisk::fail_in>("failIn"),
                      InstanceMethod<&SimulatedDisk::set_full>("setFull"),
                      InstanceMethod<&SimulatedDisk::list>("list"),
                      InstanceMethod<&SimulatedDisk::flip>("flip"),
                      InstanceMethod<&SimulatedDisk::durable>("durable"),
                      InstanceMethod<&SimulatedDisk::forget>("forget"),
                  });
  exports.Set("SimulatedDisk", constructor);
}

}  // namespace

void define_simulated_disk(Napi::Env env, Napi::Object exports) {
  SimulatedDisk::define(env, exports);
}

}  // namespace walmirror
