#include "lanes.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

namespace walmirror {

struct Lanes::Lane {
  std::mutex mutex;
  std::condition_variable wakes;
  std::function<void()> task;
  bool ending = false;
  std::thread thread;
};

/// Outlives the set for as long as a thread is in a call.
struct Lanes::Idle {
  std::mutex mutex;
  std::vector<std::shared_ptr<Lane>> lanes;
  size_t made = 0;
  std::atomic<size_t> under_way{0};
  bool ending = false;

  /// False: nobody will ask for it again.
  bool keep(const std::shared_ptr<Lane>& lane) {
    std::lock_guard<std::mutex> guard(mutex);
    if (ending) return false;
    lanes.push_back(lane);
    return true;
  }
};

std::shared_ptr<Lanes::Idle> Lanes::make_idle() { return std::make_shared<Idle>(); }

Lanes::~Lanes() { end(); }

bool Lanes::quiet() const { return idle_->under_way == 0; }

void Lanes::run(std::function<void()> task) {
  std::shared_ptr<Lane> lane;
  {
    std::lock_guard<std::mutex> guard(idle_->mutex);
    if (!idle_->lanes.empty()) {
      lane = std::move(idle_->lanes.back());
      idle_->lanes.pop_back();
    } else {
      idle_->lanes.reserve(++idle_->made);  // where a thread comes back there must be room for it
    }
  }
  if (lane != nullptr) {
    idle_->under_way++;
    {
      std::lock_guard<std::mutex> guard(lane->mutex);
      lane->task = std::move(task);
    }
    lane->wakes.notify_one();
    return;
  }
  lane = std::make_shared<Lane>();
  lane->task = std::move(task);
  std::lock_guard<std::mutex> guard(lane->mutex);
  lane->thread = std::thread([lane, idle = idle_] {
    std::unique_lock<std::mutex> lock(lane->mutex);
    for (;;) {
      lane->wakes.wait(lock, [&] { return lane->task || lane->ending; });
      if (!lane->task) return;
      std::function<void()> next = std::exchange(lane->task, nullptr);
      lock.unlock();
      next();
      next = nullptr;
      idle->under_way--;
      lock.lock();
      if (!idle->keep(lane)) {
        lane->thread.detach();  // the set has ended, and did not wait
        return;
      }
    }
  });
  idle_->under_way++;  // it waits for the lane's mutex, which is held here
}

void Lanes::end() {
  std::vector<std::shared_ptr<Lane>> ending;
  {
    std::lock_guard<std::mutex> guard(idle_->mutex);
    idle_->ending = true;
    ending.swap(idle_->lanes);
  }
  for (const std::shared_ptr<Lane>& lane : ending) {
    {
      std::lock_guard<std::mutex> guard(lane->mutex);
      lane->ending = true;
    }
    lane->wakes.notify_one();
    lane->thread.join();
  }
}

}  // namespace walmirror
