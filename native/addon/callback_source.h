// Bytes for a repair, from JavaScript: a function that fetches them from a peer.
#pragma once

#include <condition_variable>

#include "bridge.h"
#include "repair.h"

namespace walmirror {

class CallbackSource : public BatchSource, public std::enable_shared_from_this<CallbackSource> {
 public:
  /// `fetch(from, need)` returns a promise of a Uint8Array. JavaScript's thread.
  static std::shared_ptr<CallbackSource> create(std::shared_ptr<Bridge> bridge, std::string name,
                                                const Napi::Function& fetch);
  ~CallbackSource() override;

  std::string name() const override { return name_; }
  const uint8_t* view(uint64_t from, uint64_t need, uint64_t& available) override;
  void cancel() override;

 private:
  CallbackSource(std::shared_ptr<Bridge> bridge, std::string name, const Napi::Function& fetch);
  void call(Napi::Env env, uint64_t from, uint64_t need);
  void answer(const Napi::Value& bytes);
  void fail(const Napi::Value& error);

  std::shared_ptr<Bridge> bridge_;
  std::string name_;
  Napi::FunctionReference* fetch_;  // deleted on JavaScript's thread
  std::mutex mutex_;
  std::condition_variable answered_;
  bool waiting_ = false;
  bool cancelled_ = false;
  std::optional<WalFailure> failure_;
  std::vector<uint8_t> answer_;
  // The repairing thread's.
  std::vector<uint8_t> bytes_;
  uint64_t from_ = 0;
};

}  // namespace walmirror
