// A log without threads: nothing happens but what its owner steps.
#include "log_fixture.h"

namespace walmirror::test::step_test {
namespace {

class Stepped : public Surroundings {
 public:
  Time now() override { return Time(std::chrono::milliseconds(now_ms)); }
  uint64_t wall_clock_us() override { return 1'000'000 + 1000 * now_ms; }
  void random(void* out, size_t size) override {
    for (auto* at = static_cast<uint8_t*>(out); size > 0; size--) *at++ = next_++;
  }
  bool has_threads() const override { return false; }

  uint64_t now_ms = 0;

 private:
  uint8_t next_ = 1;
};

struct Opened {
  std::shared_ptr<MemoryFileSystem> files = std::make_shared<MemoryFileSystem>();
  std::shared_ptr<Stepped> surroundings = std::make_shared<Stepped>();
  int told = 0;
  std::unique_ptr<Log> log;

  Opened() { open(); }

  void open() {
    log = Log::open(
        small_options(), files, [this] { told++; }, surroundings);
    log->store_term({log->term().epoch + 1, log->control().node_id, 1});
    while (!log->frame_opening()) log->step(Log::Work::kHousekeeping);
    flush();
  }

  void append(const std::string& data) {
    while (!log->reserve(0, 0, record_bytes(data.size()))) log->step(Log::Work::kHousekeeping);
    log->put(0, reinterpret_cast<const uint8_t*>(data.data()), data.size());
    log->close_batch(record_bytes(data.size()), 1);
  }

  void flush() {
    log->step(Log::Work::kFlushBegins);
    log->step(Log::Work::kFlushEnds);
  }
};

TEST(SteppingAFlushTakesWhatWasClosedWhenItBegan) {
  Opened opened;
  Log& log = *opened.log;
  opened.append("one");
  CHECK(log.due().flush_begins);
  CHECK(!log.due().flush_ends);
  CHECK(log.step(Log::Work::kFlushBegins));
  opened.append("two");
  CHECK(!log.step(Log::Work::kFlushBegins));
  CHECK_EQ(log.flushed().lsn, 0u);
  int told = opened.told;
  CHECK(log.step(Log::Work::kFlushEnds));
  CHECK(opened.told > told);
  CHECK_EQ(log.flushed().lsn, 1u);
  CHECK(log.due().flush_begins);
  CHECK(!log.step(Log::Work::kFlushEnds));
  opened.flush();
  CHECK_EQ(log.flushed().lsn, 2u);
  CHECK(!log.due().flush_begins);
}

TEST(SteppingWithoutAStepNothingIsOnDisk) {
  Opened opened;
  opened.append("one");
  std::mt19937_64 random(1);
  DiskState lost = after_power_loss(opened.files->state(), Loss::kAllUnflushed, random);
  opened.log.reset();
  opened.files = std::make_shared<MemoryFileSystem>(std::move(lost));
  opened.open();
  CHECK_EQ(opened.log->flushed().lsn, 0u);
}

TEST(SteppingATaskAndTheHousekeepingOfAnIdleLog) {
  Opened opened;
  Log& log = *opened.log;
  int ran = 0;
  CHECK(log.post([&] { ran++; }));
  CHECK_EQ(ran, 0);
  CHECK(log.due().task);
  CHECK(log.step(Log::Work::kTask));
  CHECK(!log.step(Log::Work::kTask));
  CHECK_EQ(ran, 1);
  opened.append("one");
  opened.flush();
  while (log.step(Log::Work::kHousekeeping)) {
  }
  CHECK(log.due().watermark);
  CHECK(!log.due().housekeeping);
  opened.surroundings->now_ms += 50;
  CHECK(log.due().housekeeping);
  CHECK(!log.step(Log::Work::kHousekeeping));
  CHECK(!log.due().watermark);
  CHECK_EQ(log.control().watermark.lsn, 1u);
}

TEST(SteppingCloseRunsWhatIsLeftAndFlushesIt) {
  Opened opened;
  int ran = 0;
  opened.append("one");
  opened.log->step(Log::Work::kFlushBegins);
  opened.append("two");
  opened.log->post([&] { ran++; });
  opened.log->close();
  CHECK_EQ(ran, 1);
  CHECK_EQ(opened.log->flushed().lsn, 2u);
  CHECK(opened.log->control().clean);
  CHECK(!opened.log->post([&] { ran++; }));
  opened.log.reset();
  opened.open();
  CHECK(opened.log->recovery().clean);
  CHECK_EQ(opened.log->flushed().lsn, 2u);
}

}  // namespace
}  // namespace walmirror::test::step_test
