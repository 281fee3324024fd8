// Bytes for a repair, from JavaScript: a function that fetches them from a peer.
#pragma once

#include <condition_variable>

#include "bridge.h"
#include "repair.h"

namespace walmirror {

class CallbackSource : public BatchSource, public std::enable_shared_from_this<CallbackSource> {
 public:
  /// `fetch(from, need, refused)` returns a promise of a Uint8Array; `refused`: what it gave last
  /// was 'wrong' or 'unfit' (BatchSource::refuse), told only where there are `others` to ask, or
  /// 'no'. JavaScript's thread.
  static std::shared_ptr<CallbackSource> create(std::shared_ptr<Bridge> bridge, std::string name,
                                                const Napi::Function& fetch, bool others = false);
  ~CallbackSource() override;
  /// Fetches nothing any more, and holds nothing of JavaScript's: before the bridge is detached,
  /// which runs nothing afterwards, so that what the function refers to can be collected.
  /// JavaScript's thread.
  void let_go();

  std::string name() const override { return name_; }
  const uint8_t* view(uint64_t from, uint64_t need, uint64_t& available) override;
  bool refuse(bool wrong) override;
  void cancel() override;

  static constexpr const char* kNotRefused = "no";

 private:
  CallbackSource(std::shared_ptr<Bridge> bridge, std::string name, const Napi::Function& fetch,
                 bool others);
  void call(Napi::Env env, uint64_t from, uint64_t need, const char* refused);
  void answer(const Napi::Value& bytes);
  void fail(const Napi::Value& error);
  void answered(WalFailure failure);
  void answered_without_memory();

  std::shared_ptr<Bridge> bridge_;
  std::string name_;
  bool others_;
  Napi::FunctionReference* fetch_;  // deleted on JavaScript's thread
  std::shared_ptr<Bridge::Note> forget_;
  std::mutex mutex_;
  std::condition_variable answered_;
  bool waiting_ = false;
  bool cancelled_ = false;
  std::optional<WalFailure> failure_;
  /// Made ahead: when it is needed, there is no memory to make it.
  WalFailure out_of_memory_{"WAL_IO", "out of memory"};
  std::vector<uint8_t> answer_;
  // The repairing thread's.
  const char* refused_ = kNotRefused;
  std::vector<uint8_t> bytes_;
  uint64_t from_ = 0;
};

}  // namespace walmirror
