#include "shared_log.h"

#include <utility>

#include "random.h"

namespace walmirror {
namespace {

struct Registry {
  std::mutex mutex;
  std::map<std::string, std::weak_ptr<SharedLog>> by_handle;
};

/// Never freed: threads may end after the process began to.
Registry& registry() {
  static auto& all = *new Registry;
  return all;
}

std::string new_handle() {
  Id id;
  random_bytes(id.data(), id.size());
  return hex(id.data(), id.size());
}

}  // namespace

SharedLog::SharedLog(std::shared_ptr<Log> log, std::shared_ptr<Bridge> owner, Heard heard)
    : handle_(new_handle()),
      log_(std::move(log)),
      heard_(std::move(heard)),
      owner_(std::move(owner)) {}

std::shared_ptr<SharedLog> SharedLog::create(std::shared_ptr<Log> log,
                                             std::shared_ptr<Bridge> owner, Heard heard) {
  std::shared_ptr<SharedLog> made(
      new SharedLog(std::move(log), std::move(owner), std::move(heard)));
  std::lock_guard<std::mutex> guard(registry().mutex);
  registry().by_handle[made->handle_] = made;
  return made;
}

std::shared_ptr<SharedLog> SharedLog::find(const std::string& handle) {
  std::lock_guard<std::mutex> guard(registry().mutex);
  auto at = registry().by_handle.find(handle);
  return at == registry().by_handle.end() ? nullptr : at->second.lock();
}

uint64_t SharedLog::join(std::shared_ptr<Bridge> bridge, Heard told) {
  std::lock_guard<std::mutex> guard(mutex_);
  if (owner_ == nullptr) throw WalFailure("WAL_CLOSED", "the owner of the log has closed it");
  uint64_t member = next_++;
  auto owner_ended = Bridge::note([told](Napi::Env env) { told(env, 0, nullptr); });
  auto has_left = Bridge::note(
      [self = shared_from_this(), member](Napi::Env env) { self->heard_(env, member, nullptr); });
  members_[member] = {std::move(bridge), std::move(told), std::move(owner_ended),
                      std::move(has_left)};
  return member;
}

bool SharedLog::ask(uint64_t from, std::string text) {
  auto note = Bridge::note([self = shared_from_this(), from, text = std::move(text)](
                               Napi::Env env) { self->heard_(env, from, &text); });
  std::lock_guard<std::mutex> guard(mutex_);
  if (owner_ == nullptr) return false;
  owner_->complete(std::move(note));
  return true;
}

void SharedLog::tell(uint64_t to, std::string text) {
  std::lock_guard<std::mutex> guard(mutex_);
  auto member = members_.find(to);
  if (member == members_.end()) return;
  member->second.bridge->complete(
      [told = member->second.told, text = std::move(text)](Napi::Env env) { told(env, 0, &text); });
}

void SharedLog::batch_closed() {
  std::lock_guard<std::mutex> guard(mutex_);
  if (owner_ != nullptr) owner_->signal();
}

void SharedLog::leave(uint64_t member) {
  std::map<uint64_t, Member>::node_type left;  // freed outside of the lock
  std::lock_guard<std::mutex> guard(mutex_);
  left = members_.extract(member);
  if (!left.empty() && owner_ != nullptr) owner_->complete(std::move(left.mapped().has_left));
}

void SharedLog::end() {
  std::map<uint64_t, Member> members;
  {
    std::lock_guard<std::mutex> guard(registry().mutex);
    registry().by_handle.erase(handle_);
  }
  {
    std::lock_guard<std::mutex> guard(mutex_);
    if (owner_ == nullptr) return;
    owner_ = nullptr;
    members.swap(members_);
  }
  for (auto& [number, member] : members) member.bridge->complete(std::move(member.owner_ended));
}

}  // namespace walmirror
