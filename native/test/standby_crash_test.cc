// Power loss at every instant of a standby that receives: what it had flushed is there, and the
// rest of the log fits on again.
#include <atomic>
#include <random>
#include <thread>

#include "log_fixture.h"

namespace walmirror::test::standby_crash_test {
namespace {

/// A primary's log over several segments and two terms.
struct Source {
  LogOptions options;
  History history;
  Term term;
  std::string bytes;  // from the first batch on
};

Source make_source(bool padded) {
  Source source;
  LogOptions options = small_options("p");
  options.padded = padded;
  auto files = std::make_shared<MemoryFileSystem>();
  for (int life = 0; life < 2; life++) {
    Owner owner(options, files);
    owner.open_term();
    for (int i = 0; i < 40; i++) {
      owner.append(record_of(8, owner->closed().lsn + 1, 4000));
      owner.close_batch();
      if (i % 4 == 0) owner.settle();
    }
    owner.settle();
    source.history = owner->history();
    source.term = owner->term();
    source.bytes = read_bytes(owner.log(), kFirstBatch);
    source.options = small_options("s");
    source.options.padded = padded;
    source.options.role = Role::kStandby;
    source.options.log_id = owner->identity().log_id;
    source.options.salt = owner->identity().salt;
    owner->close();
  }
  return source;
}

/// Receives from where the standby is to the source's end. `flushed` is told how far it got.
void receive(Owner& standby, const Source& source, std::mt19937_64& random,
             const std::function<void(uint64_t)>& flushed) {
  standby->store_role(Role::kStandby, source.term, "p", "");
  standby->begin_ingest(source.history);
  auto data = reinterpret_cast<const uint8_t*>(source.bytes.data());
  uint64_t at = standby->closed().position - kFirstBatch;
  uint64_t end = kFirstBatch + source.bytes.size();
  while (standby->closed().position < end) {
    uint64_t size = std::min<uint64_t>(1 + random() % 2500, source.bytes.size() - at);
    uint64_t taken = standby->ingest(data + at, size);
    at += taken;
    if (taken == 0) std::this_thread::yield();
    if (random() % 3 == 0) standby.settle();
    flushed(standby->flushed().position);
  }
  standby.settle();
}

void check_standby(const Source& source, bool trusted_watermark) {
  auto files = std::make_shared<MemoryFileSystem>();
  std::vector<std::pair<DiskState, uint64_t>> instants;
  std::atomic<uint64_t> acknowledged{0};
  std::mt19937_64 random(trusted_watermark ? 3 : 4);
  {
    Owner standby(source.options, files);
    files->watch([&](const DiskState& state) { instants.emplace_back(state, acknowledged); });
    receive(standby, source, random, [&](uint64_t position) { acknowledged = position; });
    if (trusted_watermark) standby->close();
    files->watch(nullptr);
  }
  CHECK(instants.size() > 15);
  for (size_t i = 0; i < instants.size(); i += kSlow ? 5 : 1) {
    const auto& [state, flushed] = instants[i];
    for (Loss loss : {Loss::kAllUnflushed, Loss::kNothing, Loss::kSomeSectors}) {
      auto found = std::make_shared<MemoryFileSystem>(after_power_loss(state, loss, random));
      Owner again(source.options, found);
      uint64_t position = again->closed().position;
      CHECK(position >= flushed);
      std::string kept = read_bytes(again.log(), kFirstBatch);
      CHECK_EQ(kept.size(), position - kFirstBatch);
      CHECK(source.bytes.compare(0, kept.size(), kept) == 0);
      receive(again, source, random, [](uint64_t) {});
      CHECK(read_bytes(again.log(), kFirstBatch) == source.bytes);
      CHECK(read_all(again.log()).history_is_that_of_its_batches);
    }
  }
}

TEST(PowerLossAtAnyInstantOfAStandbyKeepsWhatItFlushedAndTheRestFitsOn) {
  check_standby(make_source(false), false);
}

TEST(PowerLossAtAnyInstantOfAPaddedStandbyKeepsWhatItFlushedAndTheRestFitsOn) {
  check_standby(make_source(true), true);
}

}  // namespace
}  // namespace walmirror::test::standby_crash_test
