// The log: appends or ingests into the ring, one writer thread that flushes it, housekeeping,
// reading, trimming.
//
// Threads. The *owner* is the one thread that opened the log (JavaScript's): it alone appends,
// ingests and reads the ring, until it shares the log: then other threads append too, and whoever
// calls what is the owner's holds `own()`. The *writer* takes closed batches from the ring and
// flushes them. The *housekeeper* prepares segments and stores watermarks. The *task* thread runs
// reads and control changes, one after the other. With several directories, the *keeper* looks
// after their copies, and each has threads of its own for calls (lanes.h). The owner's fields are
// touched by a task only while the owner waits for that task, the closed end with `own()` held; no
// append of another thread is taken meanwhile.
//
// Durability. `closed` is framed in memory and may be sent; `flushed` is on stable storage here. A
// failed write or flush is final: `failure` is set, `flushed` never moves again (SAFETY 5.4).
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "control_file.h"
#include "duration_histogram.h"
#include "mirror.h"
#include "recovery.h"
#include "ring.h"
#include "scrubber.h"
#include "surroundings.h"

namespace walmirror {

struct LogOptions {
  std::string directory;
  std::vector<std::string> mirrors;         // further directories, each with a copy of the log
  std::vector<std::string> accept_missing;  // copies that may be gone
  uint32_t copy_lag_ms = 10'000;            // a copy that takes so much longer is dropped
  uint32_t copy_look_ms = 1'000;            // how often they are looked after
  std::optional<uint32_t> mirror_quorum;    // 0: all; nothing: as it is recorded
  uint64_t copy_behind_bytes = 64u << 20;   // a copy that is behind by more holds up the others
  uint64_t copy_fill_rate = 64u << 20;      // bytes a second, while a copy is filled beside appends
  bool create = true;
  Role role = Role::kPrimary;
  std::string name;
  uint64_t segment_bytes = 64u << 20;
  bool padded = false;
  uint64_t max_record_bytes = kMaxRecordBytes;
  std::optional<Id> log_id;
  std::optional<uint64_t> salt;
  uint64_t ring_bytes = 64u << 20;
  uint64_t max_batch_bytes = 256u << 10;
  uint32_t max_batch_delay_ms = 1;
};

struct RecoveryReport {
  bool created = false;
  bool clean = false;
  uint64_t scanned_bytes = 0;
  uint64_t cut_bytes = 0;
  uint64_t rewritten_bytes = 0;
  double milliseconds = 0;
};

/// Whether a cut may put its tail into a file of this name: a plain one that ends in `.diverged`.
bool is_side_file_name(const std::string& name);

/// Of the flushes since the log was opened.
struct LogStatistics {
  uint64_t flushes = 0;
  uint64_t flushed_bytes = 0;
  double slowest_flush_ms = 0;
  /// Of a second or more, and how long the last of them took.
  uint64_t slow_flushes = 0;
  double last_slow_flush_ms = 0;
  double total_ms = 0;
  DurationHistogram durations;
};

class Log {
 public:
  static constexpr size_t kPins = 64;
  static constexpr size_t kMaxForcedBytes = 1024;
  enum TickWord : int32_t { kAsleep = 0, kRunning = 1, kDue = 2 };

  /// `progress` is called from the engine's threads whenever there is news for the owner: a flush,
  /// a failure, room for a segment. It must not block. Throws WalFailure.
  static std::unique_ptr<Log> open(
      const LogOptions& options, std::shared_ptr<FileSystem> files, std::function<void()> progress,
      std::shared_ptr<Surroundings> surroundings = real_surroundings());
  /// Ends the threads; what is closed and not flushed is flushed first. `close` is the orderly way.
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // -- facts (any thread) --
  const LogIdentity& identity() const { return identity_; }
  const std::shared_ptr<Ring>& ring() const { return ring_; }
  Control control() const { return control_->current(); }
  const RecoveryReport& recovery() const { return recovery_; }
  LogStatistics statistics() const;
  /// How many there were, and how long they took in all.
  uint64_t flush_count() const { return flush_count_.load(std::memory_order_acquire); }
  uint64_t flush_nanoseconds() const { return flush_nanoseconds_.load(std::memory_order_acquire); }
  uint64_t slow_flushes() const { return slow_flushes_.load(std::memory_order_acquire); }
  bool direct() const { return segments_->direct(); }
  /// A row for each directory; none where there is only one.
  std::vector<CopyStatus> copies() const;
  /// Copies that a batch is flushed on when it is acknowledged; 0 where there is one directory.
  size_t copies_acknowledging() const;
  uint64_t copy_news() const { return copies_ == nullptr ? 0 : copies_->news(); }
  size_t segment_count() const { return segments_->count(); }
  size_t spare_count() const { return segments_->spare_count(); }
  uint64_t max_batch_bytes() const { return max_batch_bytes_; }
  std::optional<WalFailure> failure() const;
  bool has_failed() const;
  Place flushed() const;
  Place start() const;
  Term term() const;
  History history() const;
  std::atomic<int32_t>* tick_word() { return &tick_; }

  // -- the owner: appending --
  const Chain& closed() const { return chain_; }
  uint64_t cursor() const { return (chain_.position + kBatchHeaderBytes) & (ring_->size() - 1); }
  uint64_t capacity() const { return capacity_; }
  uint64_t ring_floor() const;
  uint64_t ring_free() const;
  /// Bytes up to the end of the last segment that is ready.
  uint64_t segment_free() const;
  /// Promises that appends which take `bytes` of the log from here on find them in the ring and in
  /// segments that are ready. False: not yet; missing segments are asked for, and `progress` tells
  /// of news. Throws WAL_NO_SPACE.
  bool promise(uint64_t bytes);
  /// Closes the open batch, then makes room for `need` payload bytes. False: the ring is full, or
  /// no segment is ready to roll into. Throws WAL_NO_SPACE, std::out_of_range for what can never
  /// fit.
  bool reserve(uint64_t payload, uint32_t count, uint64_t need);
  /// Frames and publishes the open batch. Throws std::invalid_argument on lengths that do not add
  /// up.
  void close_batch(uint64_t payload, uint32_t count);
  void wake_ticker();
  /// Writes a record into the open batch at payload offset `at`.
  void put(uint64_t at, const uint8_t* data, uint64_t size);
  /// Frames the opening of the current term. False: no room yet, call again after progress.
  bool frame_opening();
  /// Frames, with no batch open, the record that the promotion of this term was forced, and why.
  /// False as above.
  bool frame_forced(const std::string& why);
  bool appending() const { return appending_; }
  /// Where the opening that was framed here ends; 0 before there is one.
  uint64_t opened() const { return opened_; }

  // -- several threads append (log_shared.cc) --
  /// For who calls what is the owner's, where others than the owner may. Never held over a call of
  /// the operating system that may wait.
  [[nodiscard]] std::unique_lock<std::mutex> own() const { return std::unique_lock(own_); }
  /// The open batch, which has no records, is the engine's from here on: whoever holds `own()` may
  /// `append`, and `reserve` and `close_batch` are called with no records of the caller's.
  void share();
  bool shared() const { return shared_; }
  /// From here on appends are taken. Before the first call: WAL_CLOSED.
  void take_appends() { taking_ = true; }
  /// From here on none is, and each throws this; nothing: WAL_CLOSED. Takes no memory.
  void refuse_appends(std::optional<WalFailure> why = {}) {
    taking_ = false;
    refusal_ = std::move(why);
  }
  /// Puts a record into the open batch, closing and rolling as needed, and returns its LSN. 0: no
  /// room, nothing was taken. Throws as `reserve` does, and what refuses appends.
  uint64_t append(const uint8_t* data, uint64_t size);
  /// All or none of `count` records, framed as in a payload. Returns the first LSN, or 0. Throws
  /// PartTaken where the log fails, or memory runs out, behind the first batch.
  uint64_t append_group(const uint8_t* records, uint64_t bytes, uint32_t count);
  /// Publishes the open batch, if it has records that may still be published.
  void close_shared();
  /// LSN of the last record, of the open batch too.
  uint64_t appended() const { return chain_.lsn + open_count_; }
  /// Bytes of the log that the open batch takes as it is.
  uint64_t open_bytes() const;
  /// Whether the ring is nearly full, or the next record might not be taken.
  bool nearly_full() const;

  // -- the owner: receiving --
  void begin_ingest(History history);
  uint64_t ingest(const uint8_t* bytes, uint64_t size);
  uint64_t received() const { return received_; }

  // -- the owner: reading the ring --
  /// False: `from` is no longer in the ring.
  bool read_ring(uint8_t* buffer, uint64_t size, uint64_t from, uint64_t up_to,
                 ReadOutcome& outcome) const;
  /// Batch that holds `lsn`, or the end for the next one, if the ring knows it.
  std::optional<uint64_t> locate_in_ring(uint64_t lsn) const;
  std::optional<uint32_t> checksum_in_ring(uint64_t position) const;

  // -- tasks: run on the task thread, in order; each may block and throw --
  /// False: the log is closing, the task will not run.
  bool post(std::function<void()> task);
  /// `rule`: what this primary's acknowledgements will mean; stored with the term, so before any.
  /// Throws WAL_NO_SPACE, and stores nothing, where there is no room for the opening.
  void store_term(const Term& term, const std::optional<Rule>& rule = {});
  /// The rule of the log's last term is kept until another is stored, or the log is cut.
  void store_role(Role role, const Term& term, const std::string& primary,
                  const std::string& address);
  void store_rule(const Rule& rule);
  /// Before a commit is acknowledged at a level below the rule of this term.
  void store_undercut();
  /// No commit is acknowledged from now on: the place that `set_commit` told last is all there is.
  void end_commits();
  /// Standby: when its primary was last heard of.
  void store_contact(uint64_t wall_clock_us);
  /// Cuts the log where a batch ends. What goes is first set aside, flushed, in a file of this name
  /// or, where that is taken, of one like it. Returns its path; empty where nothing goes. Throws
  /// WAL_COMMITTED_LOST where it would go below the commit position, unless it is `kReturning`, and
  /// always below what a quorum is known to have committed.
  std::string truncate(uint64_t position, const std::string& side_file, Cut how = Cut::kUnseen);
  /// A standby's log begins anew at the first batch of a segment, past all that it has: what came
  /// before is somewhere else. `history`: of that, not empty. All that is there is recycled.
  void begin_at(Chain start, const History& history);
  /// The application was told what it has to rebuild.
  void store_rebuilt();
  void trim(uint64_t position);
  ReadOutcome read_into(uint8_t* buffer, uint64_t size, uint64_t from, uint64_t up_to);
  uint64_t locate(uint64_t lsn);
  uint32_t checksum_at(uint64_t position);
  /// Where a batch ends, the last LSN before that, and its checksum.
  Place place_at(uint64_t position);

  // -- without threads (Surroundings), the owner: what they would do (log_step.cc) --
  enum class Work { kFlushBegins, kFlushEnds, kHousekeeping, kTask };
  /// What there is to do, as of now.
  struct Due {
    bool flush_begins = false;
    bool flush_ends = false;
    bool housekeeping = false;
    bool task = false;
    bool watermark = false;  // housekeeping is due once the log was idle
  };
  Due due();
  /// A flush takes what is closed when it begins, and is on disk when it ends. False: there was
  /// nothing to do, or of housekeeping: there is no more.
  bool step(Work which);

  void set_commit(uint64_t position, uint64_t lsn);
  int pin(uint64_t position);
  void move_pin(int pin, uint64_t position);
  void unpin(int pin);
  int retain(uint64_t position);
  void move_retain(int claim, uint64_t position);
  void release(int claim);

  /// Reads the sealed segments in the background, once it is told to.
  Scrubber& scrubber() { return *scrubber_; }

  /// Flushes all that is closed, stores a clean control file, ends the threads. Blocks; idempotent;
  /// any thread.
  void close();

 private:
  Log() = default;

  // log_open.cc
  static uint64_t ring_size(uint64_t asked, uint64_t max_record_bytes);
  static uint64_t recovery_reach(uint64_t ring_bytes, uint64_t segment_bytes);
  void create_or_open(const LogOptions& options);
  void create_log(const LogOptions& options);
  void recover(const LogOptions& options);
  void forget_torn_batch();
  void load_tail(uint64_t from, uint64_t to, bool rewrite);
  void start_threads();
  void make_scrubber();
  // log_copies.cc
  void open_several(const LogOptions& options);
  void open_alone(const LogOptions& options);
  // log_keeper.cc
  struct Retry {
    std::chrono::milliseconds wait{0};
    std::chrono::steady_clock::time_point next{};
  };
  struct Pace {
    std::chrono::steady_clock::time_point began;
    uint64_t bytes;
    uint64_t rate;  // bytes a second; 0: as fast as it goes
  };
  void fill_new_copies();
  void keeper_main();
  void drop_what_is_gone();
  void keep(size_t copy, Retry& retry);
  bool give_up(size_t copy, const std::string& why);
  void try_fill(size_t copy);
  void fill_copy(size_t copy);
  void between_flushes(const std::function<void()>& job);
  void pace_fill(size_t copy, uint64_t begin, uint64_t bytes, Pace& pace);
  // log_append.cc
  uint64_t room(uint64_t position) const;
  void set_capacity(uint64_t need);
  void touch(uint64_t until) { ring_touched_ = std::max(ring_touched_, until); }
  void frame(Kind kind, uint64_t payload, uint32_t count, std::optional<History> history = {});
  void frame_filler();
  bool roll(uint64_t need);
  void publish(const Place& end, std::optional<History> history);
  void note_index(uint64_t position, uint64_t lsn);
  uint64_t clock_us();
  void check_usable() const;
  void write_record(uint64_t at, const uint8_t* data, uint64_t size);
  // log_shared.cc
  void check_taken();
  bool batch_due() const;
  void begin_shared_batch();
  void publish_at_the_end();
  uint64_t space_of(const uint8_t* records, uint64_t bytes) const;
  // log_ingest.cc
  void parse_received();
  void parse_or_drop();
  bool promise_segment();
  std::optional<History> history_with(const BatchHeader& header, const uint8_t* batch) const;
  void refuse_if_never_fits(uint64_t size) const;
  void finish_filler(uint64_t end);
  // log_writer.cc
  void writer_main();
  Place take_target() const;
  bool flush_to(Place target, std::unique_lock<std::mutex>& lock);
  bool flush(const Place& from, const Place& target);
  void write_range(uint64_t from, uint64_t to);
  void write_part(const std::shared_ptr<Segment>& segment, uint64_t from, uint64_t to);
  void tick(std::chrono::steady_clock::time_point now);
  void housekeeper_main();
  enum class House { kMore, kDone, kFailed };
  House keep_house(std::unique_lock<std::mutex>& lock);
  size_t spares_due() const;
  void wake_housekeeper();
  /// Fill of a segment from which on the next ones are prepared.
  uint64_t spares_from() const { return identity_.segment_bytes / 8; }
  bool watermark_due(std::chrono::steady_clock::time_point now) const;
  void store_watermark(bool clean);
  void task_main();
  bool run_task(std::unique_lock<std::mutex>& lock);
  void fail(const WalFailure& failure);
  void fail_as_caught();
  void wait_until_flushed();
  void refresh_control(Control& control) const;
  // log_step.cc
  void step_to_the_end();
  void step_flushes();
  // log_set_aside.cc
  std::string set_aside(const Chain& from, const std::string& side_file);
  void reserve_aside(const std::string& path, uint64_t size);
  void write_tail(File& file, const Chain& from);
  // log_control.cc
  void require_storable(const Term& term) const;
  void store(const std::function<void(Control&)>& change,
             ControlFile::Copies copies = ControlFile::Copies::kBoth);
  void forget_exact();
  void make_room_to_open();
  uint64_t quorum_committed() const;
  void cut(const Chain& end, Cut how);
  void finish_cut(const Chain& end);
  Scrubber::Facts facts() const;
  // log_begin.cc
  void require_may_begin(const Chain& start, const History& history) const;
  void store_beginning(const Chain& start, const History& history);
  void take_beginning(const Chain& start);
  void write_first_header(const Chain& start);
  Chain chain_at(uint64_t position);
  void name_lsn(uint64_t position, WalFailure& failure);

  std::shared_ptr<Surroundings> surroundings_;
  std::shared_ptr<FileSystem> files_;
  std::string directory_;
  std::function<void()> progress_;
  std::unique_ptr<DirectoryLock> lock_;
  std::shared_ptr<FileSystem> disks_;  // beneath the mirror
  std::shared_ptr<CopySet> copies_;    // nullptr: one directory
  std::shared_ptr<Mirror> mirror_;
  uint64_t fill_rate_ = 0;
  std::chrono::milliseconds copy_look_{0};
  std::unique_ptr<ControlFile> control_;
  std::unique_ptr<Segments> segments_;
  std::shared_ptr<Ring> ring_;
  LogIdentity identity_;
  Id node_id_{};
  uint64_t max_record_bytes_ = 0;
  uint64_t max_batch_bytes_ = 0;
  std::chrono::milliseconds batch_delay_{1};
  RecoveryReport recovery_;

  // The owner's.
  Chain chain_;            // the closed end
  uint64_t capacity_ = 0;  // payload bytes of the open batch
  bool opening_ = false;   // what is framed belongs to the term that is being opened
  uint64_t opened_ = 0;    // where the opening of the term ends
  uint64_t received_ = 0;  // standby: bytes received up to here
  uint64_t ring_valid_from_ = 0;
  uint64_t ring_touched_ = 0;    // the ring may hold bytes up to here, whatever became of them
  uint64_t promised_until_ = 0;  // nobody may newly hold on to what appends up to here overwrite
  uint64_t last_indexed_ = 0;
  std::atomic<bool> appending_{false};  // ended by the task that stores another role
  bool ingesting_ = false;
  History session_history_;
  uint64_t last_clock_us_ = 0;

  // The owner's too, where several threads append.
  mutable std::mutex own_;  // taken before mutex_
  bool shared_ = false;
  uint64_t open_payload_ = 0;  // of the open batch, which has
  uint32_t open_count_ = 0;    // so many records
  bool taking_ = false;
  std::optional<WalFailure> refusal_;  // where it takes none

  // Shared, under mutex_.
  mutable std::mutex mutex_;
  std::condition_variable writer_wakes_;
  std::condition_variable housekeeper_wakes_;
  std::condition_variable task_wakes_;
  std::condition_variable flush_moved_;
  std::deque<Place> pending_;  // ends of closed batches not yet flushed
  Place flushed_;
  std::optional<WalFailure> failure_;
  /// Made ahead: when it is needed, there is no memory to make it.
  WalFailure out_of_memory_{"WAL_FLUSH_FAILED",
                            "out of memory: the log has stopped, nothing more of it is flushed"};
  bool writer_waits_ = false;
  bool stopping_ = false;
  bool closed_down_ = false;
  bool all_ended_ = false;
  bool started_ = false;
  std::optional<Place> under_way_;  // without threads: what the flush under way takes
  Term term_;
  History history_;
  Place commit_;
  bool commit_exact_ = false;
  uint64_t start_position_ = kFirstBatch;
  uint64_t start_lsn_ = 0;
  std::atomic<uint64_t> cuts_{0};
  std::deque<std::function<void()>> tasks_;
  std::condition_variable keeper_wakes_;
  std::function<void()> between_;  // for the writer, when nothing is being flushed
  std::map<int, uint64_t> claims_;
  int next_claim_ = 1;
  Place stored_watermark_;
  std::chrono::steady_clock::time_point last_flush_{};
  LogStatistics statistics_;

  std::atomic<uint64_t> flush_position_{0};
  std::atomic<uint64_t> wall_clock_us_{0};
  std::atomic<uint64_t> slow_flushes_{0};
  std::atomic<uint64_t> flush_count_{0};
  std::atomic<uint64_t> flush_nanoseconds_{0};
  std::array<std::atomic<uint64_t>, kPins> pins_;
  // The housekeeper's.
  uint64_t lap_ends_ = 0;  // from there on all of the ring has been written
  uint64_t spares_told_ = 0;

  std::atomic<int32_t> tick_{kAsleep};
  std::chrono::steady_clock::time_point next_tick_{};
  int idle_ticks_ = 0;
  AlignedBuffer tail_block_;
  std::unique_ptr<Scrubber> scrubber_;

  std::thread writer_;
  std::thread housekeeper_;
  std::thread task_;
  std::thread keeper_;  // with several directories
};

}  // namespace walmirror
