// Scrubs the sealed segments of a log that is open, slowly, and repairs what it finds from a peer.
//
// It has a thread of its own, which reads the files and takes no lock for longer than a look-up
// does: no flush, read or control change waits for it. It holds a segment only while it reads a
// piece of it. While a range is repaired, the segments from there on are kept (a claim), and only
// what is committed is repaired. A cut that may go below that holds up repairs (`hold_repairs`).
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "repair.h"
#include "segments.h"

namespace walmirror {

struct ScrubSettings {
  uint64_t bytes_per_second = 0;  // 0: as fast as the disk gives them
  bool repeat = false;
  /// Before the first one, and after each.
  std::chrono::milliseconds first{0};
  std::chrono::milliseconds every{0};
};

struct ScrubStatus {
  bool running = false;
  /// Bytes of log that are verified, of how many.
  uint64_t done = 0;
  uint64_t of = 0;
  uint64_t passes = 0;
  /// Wall clock, of the last one that ended; 0: none yet.
  uint64_t finished_ms = 0;
  /// What is known to be damaged now; at most kMostListed of them.
  std::vector<DamagedRange> damage;
  uint64_t damaged_ranges = 0;  // of these how many there are
  uint64_t found = 0;           // ranges that were ever found, by this process
  uint64_t repaired = 0;
  /// Why what is damaged was not repaired, or why the last one did not end; empty otherwise.
  std::string reason;
};

class Scrubber {
 public:
  static constexpr size_t kMostListed = 1000;

  /// What the log says of itself, at one instant.
  struct Facts {
    Place start;  // its first batch
    Place commit;
    Place flushed;
    uint64_t cuts = 0;  // how often it was cut
  };

  struct Host {
    /// What the disks hold, each directory by itself.
    std::shared_ptr<FileSystem> files;
    /// The directories that hold a copy now, by number, and where they are.
    std::function<std::vector<size_t>()> copies;
    std::function<std::string(size_t copy)> directory;
    /// Another one each time that the copy was filled anew.
    std::function<Id(size_t copy)> id;
    /// Another directory, to repair from.
    std::function<std::shared_ptr<BatchSource>(size_t copy)> source;
    /// The log goes on without this copy, until it was filled anew. False: it is the last one.
    std::function<bool(size_t copy, const std::string& why)> give_up;
    LogIdentity identity;
    Segments* segments = nullptr;
    std::function<Facts()> facts;
    /// Keeps the log from a position on; returns how to let go.
    std::function<std::function<void()>(uint64_t position)> claim;
    /// There is news of the status. Must not block.
    std::function<void()> news;
  };

  explicit Scrubber(Host host) : host_(std::move(host)) {}
  ~Scrubber() { stop(); }
  Scrubber(const Scrubber&) = delete;
  Scrubber& operator=(const Scrubber&) = delete;

  // Any thread.
  void configure(const ScrubSettings& settings);
  /// From now on what is damaged is fetched from there; nullptr: from nowhere.
  void repair_from(std::shared_ptr<BatchSource> source);
  /// Asks for one now, at full speed unless `gentle`. Returns the number of the pass to wait for.
  uint64_t run_now(bool gentle = false);
  /// None begins from now on, until `resume_repairs`. False: one is under way, and none is held up.
  bool hold_repairs();
  void resume_repairs();
  ScrubStatus status() const;
  /// Goes up with each range that is found or repaired and each pass that ends.
  uint64_t news_count() const { return news_.load(std::memory_order_relaxed); }
  /// Ends the thread. Nothing runs afterwards.
  void stop();

 private:
  class LiveSegments;

  void start_thread();
  void main();
  bool wait_for_work();
  void pass();
  void walk(Scrub& scrub, LiveSegments& segments);
  enum class Mended { kNot, kRepaired, kFilledAnew };
  Mended repair_copy(const Damage& damage, LiveSegments& segments, std::string& why);
  bool pace(uint64_t position, uint64_t bytes);
  void found(std::vector<Damage>& damage, LiveSegments& segments);
  bool repair(const Damage& damage, LiveSegments& segments);
  bool begin_repair();
  void end_repair();
  void tell();

  Host host_;
  mutable std::mutex mutex_;
  std::condition_variable wakes_;
  ScrubSettings settings_;
  std::shared_ptr<BatchSource> source_;
  ScrubStatus status_;
  std::vector<DamagedRange> this_pass_;
  size_t copies_ = 1;  // that this pass goes over, and which of them it is at
  size_t nth_ = 0;
  bool asked_ = false;
  bool full_speed_ = false;
  bool stopping_ = false;
  bool repairing_ = false;
  bool held_ = false;
  std::chrono::steady_clock::time_point next_{};
  std::chrono::steady_clock::time_point paced_to_{};
  std::atomic<uint64_t> news_{0};
  std::thread thread_;
};

}  // namespace walmirror
