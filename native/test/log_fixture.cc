#include "log_fixture.h"

#include <cstring>
#include <random>

namespace walmirror::test {

LogOptions small_options(const std::string& directory) {
  LogOptions options;
  options.directory = directory;
  options.name = "a";
  options.segment_bytes = 65536;
  options.max_record_bytes = 4096;
  options.ring_bytes = 131072;
  options.max_batch_bytes = 16384;
  return options;
}

std::string record_of(uint64_t seed, uint64_t lsn, uint64_t most) {
  std::mt19937_64 random(seed * 1000003 + lsn);
  std::string bytes(random() % (most + 1), '\0');
  for (size_t i = 0; i < bytes.size(); i += 8) {
    uint64_t word = random();
    std::memcpy(bytes.data() + i, &word, std::min<size_t>(8, bytes.size() - i));
  }
  return std::to_string(lsn) + ":" + bytes;
}

Owner::Owner(const LogOptions& options, std::shared_ptr<FileSystem> files) {
  log_ = Log::open(options, std::move(files), [this] {
    std::lock_guard guard(mutex_);
    news_++;
    moved_.notify_all();
  });
}

void Owner::wait_for_progress() {
  if (auto failure = log_->failure()) throw *failure;
  std::unique_lock lock(mutex_);
  uint64_t seen = news_;
  bool moved = moved_.wait_for(lock, std::chrono::milliseconds(2), [&] { return news_ != seen; });
  waits_without_news_ = moved ? 0 : waits_without_news_ + 1;
  if (waits_without_news_ > 5000) throw CheckFailed("the log makes no progress");
}

void Owner::open_term() {
  Term last = log_->term();
  Id self = log_->control().node_id;
  Term next{last.epoch + 1, self, 1};
  if (last.epoch > 0 && last.opener == self) next = {last.epoch, self, last.incarnation + 1};
  open_term(next);
}

void Owner::open_term(const Term& next) {
  log_->store_term(next);
  while (!log_->frame_opening()) wait_for_progress();
  settle();
}

uint64_t Owner::append(const std::string& data) {
  uint64_t bytes = record_bytes(data.size());
  while (payload_ + bytes > log_->capacity()) {
    bool made = log_->reserve(payload_, count_, bytes);
    payload_ = 0;
    count_ = 0;
    if (!made) wait_for_progress();
  }
  log_->put(payload_, reinterpret_cast<const uint8_t*>(data.data()), data.size());
  payload_ += bytes;
  count_++;
  return log_->closed().lsn + count_;
}

void Owner::close_batch() {
  log_->close_batch(payload_, count_);
  payload_ = 0;
  count_ = 0;
}

void Owner::settle() {
  while (log_->flushed().position < log_->closed().position) wait_for_progress();
}

namespace {

/// Calls `visit` for each piece that `read_into` gives, from `from` to the flushed end.
void for_each_piece(Log& log, uint64_t from,
                    const std::function<void(const uint8_t*, const ReadOutcome&)>& visit) {
  AlignedBuffer buffer(32768);
  uint64_t end = log.flushed().position;
  while (from < end) {
    ReadOutcome outcome = log.read_into(buffer.data(), buffer.size(), from, end);
    if (outcome.length == 0) {
      if (outcome.need <= buffer.size())
        throw CheckFailed("read_into gave nothing and asked for nothing");
      buffer.reserve(outcome.need);
      continue;
    }
    visit(buffer.data() + outcome.offset, outcome);
    if (outcome.next <= from) throw CheckFailed("read_into does not move on");
    from = outcome.next;
  }
}

}  // namespace

Found read_all(Log& log) {
  Found found;
  Place start = log.start();
  found.first_lsn = start.lsn + 1;
  // A term begins with its opening or, where that did not fit, with the filler before it: so each
  // entry of the history names the first batch of its term (docs/format.md).
  History history = log.history();
  Term term;
  while (!history.empty() && history.front().position < start.position) {
    term = history.front().term;
    history.erase(history.begin());
  }
  size_t terms = 0;
  found.history_is_that_of_its_batches = true;
  for_each_piece(log, start.position, [&](const uint8_t* bytes, const ReadOutcome& outcome) {
    for (uint64_t at = 0; at + kBatchHeaderBytes <= outcome.length;) {
      BatchHeader header;
      std::memcpy(&header, bytes + at, sizeof header);
      CHECK_EQ(header.magic, kBatchMagic);
      const Term here{header.epoch, header.opener, header.incarnation};
      if (!(here == term)) {
        const HistoryEntry* entry = terms < history.size() ? &history[terms] : nullptr;
        bool fits = entry != nullptr && entry->term == here && entry->position == header.position &&
                    entry->lsn + 1 == header.first_lsn;
        found.history_is_that_of_its_batches = found.history_is_that_of_its_batches && fits;
        term = here;
        terms++;
      }
      uint64_t record = at + kBatchHeaderBytes;
      for (uint32_t i = 0; i < header.count; i++) {
        uint32_t length;
        std::memcpy(&length, bytes + record, 4);
        found.records.emplace_back(reinterpret_cast<const char*>(bytes + record + 4), length);
        record += record_bytes(length);
      }
      at += header.length;
      if (is_filler(header)) break;
    }
    CHECK_EQ(outcome.lsn, found.last_lsn());
  });
  if (terms != history.size()) found.history_is_that_of_its_batches = false;
  return found;
}

std::string read_bytes(Log& log, uint64_t from) {
  std::string all;
  for_each_piece(log, from, [&](const uint8_t* bytes, const ReadOutcome& outcome) {
    all.append(reinterpret_cast<const char*>(bytes), outcome.length);
  });
  return all;
}

}  // namespace walmirror::test
