// Every workload of up to four operations, every instant of it, every disk image that a power loss
// may leave then: recovered from, gone on with, and recovered again after a second loss.
#include <atomic>
#include <unordered_map>

#include "disk_images.h"
#include "workers.h"
#include "workload.h"

namespace walmirror::test::enumerate_test {
namespace {

struct Limits {
  size_t operations;
  /// Of the workloads with as many operations, one in so many.
  uint64_t longest;
  ImageLimits images;
  /// One image in so many goes on after its recovery, chosen by its hash.
  uint64_t goes_on;
  /// Of the instants, one in so many is that of a kill too.
  uint64_t kills;
  int workers;
};

Limits limits() {
  if (kSlow) return {3, 20, {3, 12}, 16, 4, 1};
  if (exhaustive()) return {4, 1, {12, 128}, 8, 1, 2};
  return {4, 48, {8, 16}, 10, 4, 2};
}

/// Shared by the workers.
struct Counts {
  std::atomic<uint64_t> workloads{0};
  std::atomic<uint64_t> instants{0};
  std::atomic<uint64_t> kills{0};
  std::atomic<uint64_t> images{0};
  std::atomic<uint64_t> recoveries{0};
  std::atomic<uint64_t> second_images{0};
  std::atomic<uint64_t> second_recoveries{0};
};

uint64_t number_of(const Ops& ops) {
  uint64_t number = 0;
  for (Op op : ops) number = number * kOps + static_cast<uint64_t>(op);
  return number;
}

unsigned long long count(const std::atomic<uint64_t>& counter) { return counter.load(); }

class Enumerator {
 public:
  explicit Enumerator(Counts& counts) : counts_(counts) {}

  /// The instants of the last operation: those before are those of shorter workloads. False: the
  /// workload is not legal.
  bool check(const Start& start, const Ops& ops) {
    std::vector<InstantOf<Known>> instants;
    try {
      Run run(start);
      for (size_t i = 0; i < ops.size(); i++) {
        if (i + 1 == ops.size()) run.record();
        if (!run.apply(ops[i])) return false;
      }
      run.stop_recording();
      instants = std::move(run.instants());
    } catch (const std::exception& error) {
      throw CheckFailed("start " + start.name + "; " + text_of(ops) + ": " + error.what());
    }
    counts_.workloads++;
    for (size_t i = 0; i < instants.size(); i++) {
      try {
        check_instant(start, instants[i], i);
      } catch (const std::exception& error) {
        throw CheckFailed("start " + start.name + "; " + text_of(ops) + "; instant " +
                          std::to_string(i) + " of " + std::to_string(instants.size()) + ": " +
                          error.what() + "; at the instant" + describe(instants[i].disk));
      }
    }
    return true;
  }

  void check_all_longer(const Start& start, Ops ops, size_t most) {
    if (!check(start, ops) || ops.size() == most) return;
    for (size_t op = 0; op < kOps; op++) {
      ops.push_back(static_cast<Op>(op));
      if (ops.size() < limits_.operations || number_of(ops) % limits_.longest == 0)
        check_all_longer(start, ops, most);
      ops.pop_back();
    }
  }

 private:
  struct Entry {
    Holding found;
    bool went_on;
  };

  void check_instant(const Start& start, const InstantOf<Known>& instant, uint64_t seed) {
    counts_.instants++;
    if (seed % limits_.kills == 0) check_kill(instant, seed);
    for (const DiskModel& disk : start.disks) {
      ImageLimits limits = limits_.images;
      limits.disk = disk;
      for_each_image(instant.disk, limits, seed,
                     [&](ImageHash hash, const std::function<DiskState()>& build) {
                       counts_.images++;
                       check_image(hash, build, instant.known);
                     });
    }
  }

  void check_image(ImageHash hash, const std::function<DiskState()>& build, const Known& known) {
    bool goes_on = hash / 64 % limits_.goes_on == 0;
    auto at = seen_.find(hash);
    if (at != seen_.end() && (at->second.went_on || !goes_on)) {
      known.check(at->second.found);
      return;
    }
    DiskState image = build();
    std::vector<InstantOf<Known>> instants;
    try {
      counts_.recoveries++;
      Holding found =
          recover(std::make_shared<MemoryFileSystem>(image), known, goes_on ? &instants : nullptr);
      seen_[hash] = {found, goes_on};
      if (goes_on) check_second_loss(hash, instants);
    } catch (const std::exception& error) {
      throw CheckFailed(std::string(error.what()) + "; the image was" + describe(image));
    }
  }

  /// The process dies and the disk does not: what is not flushed is still read by the next process,
  /// and the power may be lost then.
  void check_kill(const InstantOf<Known>& instant, uint64_t seed) {
    counts_.kills++;
    std::vector<InstantOf<Known>> instants;
    recover(std::make_shared<MemoryFileSystem>(instant.disk), instant.known, &instants);
    check_second_loss(seed, instants);
  }

  /// Right after the opening, which has told what there is; at one instant of it or of what
  /// followed; and at the end.
  void check_second_loss(ImageHash hash, const std::vector<InstantOf<Known>>& instants) {
    std::mt19937_64 random(hash);
    check_second(instants.front(), Loss::kAllUnflushed, random);
    const InstantOf<Known>& some = instants[random() % instants.size()];
    for (Loss loss : {Loss::kAllUnflushed, Loss::kNothing, Loss::kSomeSectors})
      check_second(some, loss, random);
    check_second(instants.back(), Loss::kAllUnflushed, random);
  }

  void check_second(const InstantOf<Known>& instant, Loss loss, std::mt19937_64& random) {
    DiskState image = after_power_loss(instant.disk, loss, random);
    counts_.second_images++;
    ImageHash hash = hash_of(image);
    auto at = seen_.find(hash);
    if (at == seen_.end()) {
      counts_.second_recoveries++;
      Holding found;
      try {
        found = recover(std::make_shared<MemoryFileSystem>(image), instant.known, nullptr);
      } catch (const std::exception& error) {
        throw CheckFailed(std::string("after a second loss: ") + error.what() + "; found was" +
                          describe(image) + "; of" + describe(instant.disk));
      }
      at = seen_.insert({hash, {found, false}}).first;
    }
    instant.known.check(at->second.found);
  }

  Counts& counts_;
  Limits limits_ = limits();
  std::unordered_map<ImageHash, Entry> seen_;
};

/// One for each pair of first operations, and before them one for each first operation alone.
struct Unit {
  size_t start;
  Ops ops;
};

std::vector<Unit> make_units(size_t starts) {
  std::vector<Unit> units;
  for (size_t start = 0; start < starts; start++) {
    for (size_t first = 0; first < kOps; first++) {
      units.push_back({start, {static_cast<Op>(first)}});
      for (size_t second = 0; second < kOps; second++)
        units.push_back({start, {static_cast<Op>(first), static_cast<Op>(second)}});
    }
  }
  return units;
}

TEST(EnumeratedPowerLossesLoseNothingAcknowledgedAndInventNothing) {
  Shared<Counts> counts;
  std::vector<Start> starts = make_starts();
  std::vector<Unit> units = make_units(starts.size());
  Enumerator enumerator(*counts);
  share_work(limits().workers, units.size(), [&](size_t i) {
    if (!in_part(i)) return;
    const Unit& unit = units[i];
    enumerator.check_all_longer(starts[unit.start], unit.ops,
                                unit.ops.size() == 1 ? 1 : limits().operations);
  });
  std::printf(
      "       %llu workloads, %llu instants, %llu images, %llu recoveries; %llu kills; "
      "second losses: %llu images, %llu recoveries\n",
      count(counts->workloads), count(counts->instants), count(counts->images),
      count(counts->recoveries), count(counts->kills), count(counts->second_images),
      count(counts->second_recoveries));
  CHECK(counts->workloads > 10);
}

}  // namespace
}  // namespace walmirror::test::enumerate_test
