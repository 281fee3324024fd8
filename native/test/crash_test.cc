// Power loss at every instant of a workload, over every kind of loss; and then again during the
// recovery.
#include <algorithm>
#include <semaphore>

#include "log_fixture.h"
#include "recorder.h"

namespace walmirror::test::crash_test {
namespace {

/// What an application knows: which records it appended, and up to where it was promised that they
/// last. Records that a crash took are appended anew with other content under the same LSNs.
struct Knowledge {
  uint64_t seed = 0;
  uint64_t largest = 0;
  uint64_t acknowledged = 0;
  uint64_t appended = 0;
  uint64_t trimmed = 0;  // records up to here may be gone at the front; nobody gave up more
  std::vector<uint64_t> first_of_life{};  // first LSN appended in each life of the process

  std::string record(uint64_t lsn) const {
    uint64_t life = 0;
    for (uint64_t i = 0; i < first_of_life.size(); i++) {
      if (first_of_life[i] <= lsn) life = i;
    }
    return record_of(seed * 100 + life, lsn, largest);
  }

  void check(const Found& found) const {
    CHECK(found.history_is_that_of_its_batches);
    if (found.last_lsn() < acknowledged)
      check_failed(__FILE__, __LINE__,
                   "records " + std::to_string(found.first_lsn) + " to " +
                       std::to_string(found.last_lsn()) + " are there; acknowledged " +
                       std::to_string(acknowledged) + ", appended " + std::to_string(appended));
    CHECK(found.last_lsn() <= appended);
    CHECK(found.first_lsn <= trimmed + 1);
    for (size_t i = 0; i < found.records.size(); i++)
      CHECK(found.records[i] == record(found.first_lsn + i));
  }
};

using Instant = InstantOf<Knowledge>;
using Recorder = RecorderOf<Knowledge>;

struct Workload {
  uint64_t seed;
  bool padded = false;
  int lives = 3;
  int batches = 40;
  uint64_t largest = 300;
  bool trims = false;

  LogOptions options() const {
    LogOptions small = small_options();
    small.padded = padded;
    return small;
  }
};

/// One life of a process: opens, appends, flushes, trims, and ends: cleanly or not.
void live(const Workload& work, const std::shared_ptr<MemoryFileSystem>& files, Recorder& recorder,
          std::mt19937_64& random) {
  Owner owner(work.options(), files);
  recorder.known().check(read_all(owner.log()));
  uint64_t found = owner->closed().lsn;
  recorder.learn([&](Knowledge& known) {
    known.appended = found;
    known.first_of_life.push_back(known.appended + 1);
  });
  owner.open_term();
  for (int batch = 0; batch < work.batches; batch++) {
    for (uint64_t n = random() % 5; n > 0; n--) {
      uint64_t lsn = recorder.known().appended + 1;
      // Known before it is there: an instant may fall between the two.
      recorder.learn([&](Knowledge& known) { known.appended = lsn; });
      CHECK_EQ(owner.append(recorder.known().record(lsn)), lsn);
    }
    owner.close_batch();
    if (random() % 3 == 0) {
      owner.settle();
      Place flushed = owner->flushed();
      recorder.learn([&](Knowledge& known) { known.acknowledged = flushed.lsn; });
      owner->set_commit(flushed.position, flushed.lsn);
    }
    if (work.trims && random() % 8 == 0) {
      Place flushed = owner->flushed();
      // Known before it is done: an instant may fall between the two.
      recorder.learn([&](Knowledge& known) { known.trimmed = flushed.lsn; });
      owner->trim(flushed.position);
    }
  }
  if (random() % 2 == 0) {
    owner->close();
    recorder.learn([&](Knowledge& known) { known.acknowledged = known.appended; });
  }
  owner.drop();
}

/// Lives, each but the first on what the end of the one before left: the process killed or the
/// power lost.
std::vector<Instant> run(const Workload& work) {
  std::mt19937_64 random(work.seed);
  std::vector<Instant> all;
  auto files = std::make_shared<MemoryFileSystem>();
  Knowledge known{.seed = work.seed, .largest = work.largest};
  for (int i = 0; i < work.lives; i++) {
    Recorder recorder(known);
    recorder.watch(*files);
    live(work, files, recorder, random);
    files->watch(nullptr);
    const Instant& last = recorder.instants()[random() % recorder.instants().size()];
    DiskState left =
        random() % 2 == 0 ? last.disk : after_power_loss(last.disk, Loss::kSomeSectors, random);
    files = std::make_shared<MemoryFileSystem>(std::move(left));
    known = last.known;
    all.insert(all.end(), recorder.instants().begin(), recorder.instants().end());
  }
  return all;
}

/// Opens what is found and checks its records.
Found check_disk(const Workload& work, const std::shared_ptr<MemoryFileSystem>& files,
                 const Knowledge& known, std::unique_ptr<Owner>& owner) {
  DiskState found = files->state();
  try {
    owner = std::make_unique<Owner>(work.options(), files);
    Found records = read_all(owner->log());
    known.check(records);
    return records;
  } catch (const std::exception& error) {
    throw CheckFailed(std::string(error.what()) + "; found was" + describe(found));
  }
}

/// Recovers from the image, checks what is there, goes on, and checks again after one more opening.
void check_image(const Workload& work, DiskState image, Knowledge known, bool goes_on) {
  auto files = std::make_shared<MemoryFileSystem>(std::move(image));
  std::unique_ptr<Owner> owner;
  uint64_t last = check_disk(work, files, known, owner).last_lsn();
  if (!goes_on) return;
  known.first_of_life.push_back(last + 1);
  known.appended = known.acknowledged = last + 20;
  owner->open_term();
  for (uint64_t lsn = last + 1; lsn <= last + 20; lsn++) owner->append(known.record(lsn));
  owner->close_batch();
  owner->settle();
  DiskState state = files->state();
  owner.reset();
  std::mt19937_64 random(1);
  // Flushed is flushed: all the rest may go.
  auto after =
      std::make_shared<MemoryFileSystem>(after_power_loss(state, Loss::kAllUnflushed, random));
  try {
    check_disk(work, after, known, owner);
  } catch (const std::exception& error) {
    throw CheckFailed(std::string("after going on: ") + error.what() + "; before" +
                      describe(state));
  }
}

void check_every_instant(const Workload& work, int images_an_instant) {
  std::vector<Instant> instants = run(work);
  CHECK(instants.size() > 50);
  std::mt19937_64 random(work.seed);
  for (size_t number = 0; number < instants.size(); number += kSlow ? 7 : 1) {
    for (int i = 0; i < images_an_instant; i++) {
      Loss loss = i == 0 ? Loss::kAllUnflushed : i == 1 ? Loss::kNothing : Loss::kSomeSectors;
      try {
        DiskState image = after_power_loss(instants[number].disk, loss, random);
        check_image(work, std::move(image), instants[number].known, random() % 4 == 0);
      } catch (const std::exception& error) {
        throw CheckFailed("seed " + std::to_string(work.seed) + ", instant " +
                          std::to_string(number) + " of " + std::to_string(instants.size()) +
                          ", image " + std::to_string(i) + ": " + error.what() +
                          describe(instants[number].disk));
      }
    }
  }
}

TEST(PowerLossAtAnyInstantLosesNothingAcknowledged) {
  for (uint64_t seed = 1; seed <= 4; seed++) check_every_instant({.seed = seed}, 4);
}

TEST(PowerLossAtAnyInstantOfAPaddedLogLosesNothingAcknowledged) {
  check_every_instant({.seed = 11, .padded = true}, 4);
}

TEST(PowerLossAtAnyInstantAroundRollsLosesNothingAcknowledged) {
  for (uint64_t seed = 21; seed <= 22; seed++) {
    check_every_instant({.seed = seed, .lives = 2, .batches = 60, .largest = 4000}, 4);
  }
}

TEST(PowerLossAtAnyInstantWhileSegmentsAreRecycledLosesNothingAcknowledged) {
  for (uint64_t seed = 31; seed <= 33; seed++) {
    check_every_instant({.seed = seed, .lives = 3, .batches = 60, .largest = 4000, .trims = true},
                        4);
  }
}

TEST(PowerLossAtAnyInstantOfATrimThatRemovesSegmentsLeavesALogThatOpens) {
  // More segments than spares are kept: some of them are removed. Until it is durable that the log
  // begins after them, each must be there (SAFETY 8): else the log has lost its beginning.
  Workload work{.seed = 51, .largest = 4000};
  auto files = std::make_shared<MemoryFileSystem>();
  Recorder recorder({.seed = work.seed, .largest = work.largest, .first_of_life = {1}});
  {
    Owner owner(work.options(), files);
    owner.open_term();
    while (owner->segment_count() < 16) {
      uint64_t lsn = recorder.known().appended + 1;
      recorder.learn([&](Knowledge& known) { known.appended = known.acknowledged = lsn; });
      owner.append(recorder.known().record(lsn));
      owner.close_batch();
      owner.settle();
    }
    Place flushed = owner->flushed();
    owner->set_commit(flushed.position, flushed.lsn);
    recorder.learn([&](Knowledge& known) { known.trimmed = flushed.lsn; });
    recorder.watch(*files);
    owner->trim(flushed.position);
    files->watch(nullptr);
    CHECK_EQ(owner->segment_count(), uint64_t{1});
  }
  // Two copies of the control file, and 15 segments that are renamed or removed.
  CHECK(recorder.instants().size() > 15);
  std::mt19937_64 random(6);
  for (const Instant& instant : recorder.instants()) {
    for (Loss loss : {Loss::kAllUnflushed, Loss::kNothing, Loss::kSomeSectors}) {
      check_image(work, after_power_loss(instant.disk, loss, random), instant.known, true);
    }
  }
}

/// Lets each flush through by itself.
class Gate {
 public:
  explicit Gate(MemoryFileSystem& files) {
    files.on_write = [this](const std::string& path, bool) {
      if (!closed_ || path.find("/control") != std::string::npos) return;
      arrived_.release();
      passed_.acquire();
    };
  }
  void close() { closed_ = true; }
  void open() {
    closed_ = false;
    passed_.release(8);
  }
  void wait_for_a_flush() { CHECK(arrived_.try_acquire_for(std::chrono::seconds(30))); }
  void let_one_through() { passed_.release(); }

 private:
  std::atomic<bool> closed_{false};
  std::counting_semaphore<16> arrived_{0};
  std::counting_semaphore<16> passed_{0};
};

TEST(TheWatermarkThatIsStoredDuringAFlushIsTheEndOfTheFlushBefore) {
  Workload work{.seed = 61};
  auto files = std::make_shared<MemoryFileSystem>();
  Gate gate(*files);
  Owner owner(work.options(), files);
  struct AtTheEnd {
    Gate& gate;
    ~AtTheEnd() { gate.open(); }
  } at_the_end{gate};
  owner.open_term();
  uint64_t opened = owner->flushed().lsn;
  auto watermark = [&] { return owner->control().watermark.position; };
  while (watermark() != owner->flushed().position) owner.wait_for_progress();
  gate.close();
  Knowledge known{.seed = work.seed, .largest = work.largest, .first_of_life = {1}};
  auto append = [&] {
    owner.append(known.record(++known.appended));
    owner.close_batch();
  };
  known.appended = opened;
  append();
  gate.wait_for_a_flush();
  append();  // not a part of that flush any more
  gate.let_one_through();
  while (owner->flushed().lsn == opened) owner.wait_for_progress();
  known.acknowledged = opened + 1;
  CHECK_EQ(owner->flushed().lsn, known.acknowledged);
  gate.wait_for_a_flush();
  while (watermark() < owner->flushed().position) owner.wait_for_progress();
  std::mt19937_64 random(work.seed);
  check_image(work, after_power_loss(files->state(), Loss::kAllUnflushed, random), known, true);
}

/// Appends until the log has so many segments.
void roll_until(Owner& owner, uint64_t segments, Knowledge& known) {
  known.appended = owner->closed().lsn;
  while (owner->segment_count() < segments) {
    uint64_t lsn = ++known.appended;
    CHECK_EQ(owner.append(known.record(lsn)), lsn);
    owner.close_batch();
    owner.settle();
  }
}

bool is_spare(const std::string& path) { return path.ends_with(".spare"); }

TEST(ASpareWhoseMakerWasKilledIsWholeBeforeItIsASegment) {
  Workload work{.seed = 62, .largest = 4000};
  uint64_t whole = work.options().segment_bytes;
  auto files = std::make_shared<MemoryFileSystem>();
  Recorder recorder({.seed = work.seed, .largest = work.largest, .first_of_life = {1}});
  recorder.watch(*files);
  {
    Owner owner(work.options(), files);
    owner.open_term();
    Knowledge known = recorder.known();
    roll_until(owner, 3, known);
  }
  files->watch(nullptr);
  auto is_half_made = [&](const Instant& instant) {
    const Directory& names = instant.disk.directories.back();
    return std::any_of(names.begin(), names.end(), [&](const auto& name) {
      const Inode& file = instant.disk.inodes.at(name.second);
      return is_spare(name.first) && file.cache_size == whole && file.disk_size == 0;
    });
  };
  const auto& first_life = recorder.instants();
  auto killed = std::find_if(first_life.rbegin(), first_life.rend(), is_half_made);
  CHECK(killed != first_life.rend());

  files = std::make_shared<MemoryFileSystem>(killed->disk);
  // Filling a spare would flush it too; without room for that it is used as it is.
  files->on_write = [](const std::string&, bool durable) {
    if (!durable) throw WalFailure("WAL_NO_SPACE", "the disk is full");
  };
  Recorder second_life({.seed = work.seed});
  second_life.watch(*files);
  {
    Owner owner(work.options(), files);
    owner.open_term();
    Knowledge known{.seed = work.seed, .largest = work.largest, .first_of_life = {1}};
    roll_until(owner, owner->segment_count() + 2, known);
  }
  files->watch(nullptr);
  for (const Instant& instant : second_life.instants()) {
    for (const Directory& names : instant.disk.directories) {
      for (const auto& [path, number] : names) {
        if (path.ends_with(".wal")) {
          CHECK_EQ(instant.disk.inodes.at(number).disk_size, whole);
        }
      }
    }
  }
}

TEST(PowerLossDuringRecoveryLosesNothingAcknowledged) {
  Workload work{.seed = 41, .lives = 2, .batches = 40, .largest = 2000, .trims = true};
  std::vector<Instant> instants = run(work);
  std::mt19937_64 random(5);
  for (size_t i = 0; i < instants.size(); i += 5) {
    auto files = std::make_shared<MemoryFileSystem>(
        after_power_loss(instants[i].disk, Loss::kSomeSectors, random));
    Recorder recorder(instants[i].known);
    recorder.watch(*files);
    {
      Owner owner(work.options(), files);
      owner.open_term();
    }
    files->watch(nullptr);
    for (const Instant& during : recorder.instants()) {
      DiskState image = after_power_loss(during.disk, Loss::kSomeSectors, random);
      check_image(work, std::move(image), during.known, random() % 8 == 0);
    }
  }
}

}  // namespace
}  // namespace walmirror::test::crash_test
