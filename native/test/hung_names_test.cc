// A disk on which the name of a segment does not change: the owner of the log, which is the event
// loop, does not wait for it.
#include <thread>

#include "disks.h"

namespace walmirror::test::hung_names_test {
namespace {

using Clock = std::chrono::steady_clock;
const std::vector<std::string> kBoth{"a", "b"};

class Hung {
 public:
  explicit Hung(Disk& disk) : disk_(disk) { disk_.names_hang = true; }
  ~Hung() { release(); }
  Hung(const Hung&) = delete;
  Hung& operator=(const Hung&) = delete;

  void release() {
    disk_.names_hang = false;
    disk_.names_hang.notify_all();
  }
  bool holds_one() const { return disk_.names_waiting > 0; }
  void wait_until_it_holds_one() const {
    auto until = Clock::now() + std::chrono::seconds(20);
    while (!holds_one()) {
      if (Clock::now() > until) throw CheckFailed("no segment is renamed or removed");
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

 private:
  Disk& disk_;
};

/// What the event loop asks for, again and again, whatever task runs.
void ask(Log& log) {
  CHECK(log.segment_count() > 0);
  log.spare_count();
  log.flushed();
  log.copies();
}

TEST(HungRenameOfARollKeepsTheOwnerFromNothing) {
  auto disks = std::make_shared<Disks>(kBoth);
  Owner owner(options_on(kBoth), disks);
  owner.open_term();
  append_to(owner, 1, 40);
  Hung hung((*disks)["b"]);
  // Up to a batch in the next segment, which the writer is then to activate.
  uint64_t number = owner->closed().position / 65536;
  while (owner->closed().position / 65536 == number) {
    owner.append(record_of(1, owner->closed().lsn + 1, 2000));
    owner.close_batch();
  }
  hung.wait_until_it_holds_one();
  // Far less than the 20 s after which the disk is dropped.
  auto began = Clock::now();
  uint64_t closed = owner->closed().lsn;
  for (int i = 0; i < 10; i++) {
    owner.append(record_of(1, owner->closed().lsn + 1, 2000));
    owner.close_batch();
    ask(owner.log());
    CHECK(owner->segment_free() > 0);
    CHECK(owner->locate_in_ring(owner->closed().lsn + 1));
  }
  CHECK(Clock::now() - began < std::chrono::seconds(10));
  CHECK(hung.holds_one());
  CHECK_EQ(owner->closed().lsn, closed + 10);
  hung.release();
  owner.settle();
  CHECK_EQ(state_of(owner.log(), "b"), "in");
  check_records(owner.log(), 1, closed + 10, 2000);
}

/// Runs a task of the log while the names hang on one disk, and asks the log meanwhile.
void ask_during(Owner& owner, Disk& disk, const std::function<void()>& task) {
  Hung hung(disk);
  std::exception_ptr failure;
  std::thread running([&] {
    try {
      task();
    } catch (...) {
      failure = std::current_exception();
    }
  });
  bool in_time = false;
  bool held = false;
  try {
    hung.wait_until_it_holds_one();
    auto began = Clock::now();
    for (int i = 0; i < 10; i++) ask(owner.log());
    in_time = Clock::now() - began < std::chrono::seconds(10);
    held = hung.holds_one();
  } catch (...) {
    failure = std::current_exception();
  }
  hung.release();
  running.join();
  if (failure) std::rethrow_exception(failure);
  CHECK(in_time && held);
  CHECK_EQ(state_of(owner.log(), "b"), "in");
}

TEST(HungRenameOfATrimKeepsTheOwnerFromNothing) {
  auto disks = std::make_shared<Disks>(kBoth);
  Owner owner(options_on(kBoth), disks);
  owner.open_term();
  append_to(owner, 1, 250);
  Place end = owner->flushed();
  owner->set_commit(end.position, end.lsn);
  ask_during(owner, (*disks)["b"], [&] { owner->trim(end.position); });
  CHECK_EQ(owner->segment_count(), 1u);
  append_to(owner, 1, 300);
}

TEST(HungRemovalByACutKeepsTheOwnerFromNothing) {
  auto disks = std::make_shared<Disks>(kBoth);
  {
    Owner owner(options_on(kBoth), disks);
    owner.open_term();
    append_to(owner, 1, 250);
    owner->close();
  }
  Owner owner(options_on(kBoth), disks);
  owner->store_role(Role::kStandby, owner->term(), "p", "nowhere");
  uint64_t position = owner->locate(20);
  ask_during(owner, (*disks)["b"], [&] { owner->truncate(position, "x.diverged"); });
  CHECK_EQ(owner->segment_count(), 1u);
  CHECK_EQ(owner->closed().lsn, 19u);
}

}  // namespace
}  // namespace walmirror::test::hung_names_test
