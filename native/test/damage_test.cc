// Every bit of a log flipped, every file cut at every length, every two sectors exchanged: each is
// told, by file, offset and LSN, or changes nothing that is read. What was durable is never taken
// for the end of the log.
#include <algorithm>
#include <atomic>

#include "log_reader.h"
#include "workers.h"
#include "workload.h"

namespace walmirror::test::damage_test {
namespace {

/// Bytes of one file that verify or fail together: a segment's header, or a batch with what belongs
/// to it. All else may hold anything.
struct Part {
  std::string file;
  uint64_t from;
  uint64_t to;
  uint64_t position;
  uint64_t lsn;
  bool header;
  bool below_watermark;
};

struct Reference {
  DiskState disk;
  std::vector<std::string> files;
  std::vector<Part> parts;
  uint64_t start = 0;
  std::string bytes;

  uint64_t size(const std::string& file) const { return inode(file).disk_size; }
  const Inode& inode(const std::string& file) const {
    return disk.inodes.at(disk.directories[0].at(file));
  }
};

uint8_t* bytes_of(DiskState& disk, const std::string& file, uint64_t offset) {
  Inode& inode = disk.inodes.at(disk.directories[0].at(file));
  if (inode.disk.size() <= offset / kBlock) inode.disk.resize(offset / kBlock + 1);
  auto& block = inode.disk[offset / kBlock];
  auto fresh = std::make_shared<Block>();
  fresh->fill(0);
  if (block != nullptr) std::copy(block->begin(), block->end(), fresh->begin());
  block = fresh;
  inode.cache = inode.disk;
  return fresh->data() + offset % kBlock;
}

std::string read_file(const DiskState& disk, const std::string& file) {
  MemoryFileSystem files(disk);
  auto open = files.open(file, OpenMode::kRead, false);
  std::string bytes(open->size(), '\0');
  open->read(0, bytes.data(), bytes.size());
  return bytes;
}

/// Four segments, the first of them the third of the log, the last with old bytes behind its end.
/// Three terms. `clean`: closed; else killed, with a watermark in the segment before the last.
DiskState make_disk(bool clean) {
  auto files = std::make_shared<MemoryFileSystem>();
  LogOptions options = workload_options();
  uint64_t lsn = 0;
  Place watermark;
  for (uint64_t life = 0; life < 3; life++) {
    Owner owner(options, files);
    owner.open_term();
    const uint64_t ends[] = {2 * options.segment_bytes, 4 * options.segment_bytes + 9000,
                             5 * options.segment_bytes + 9000};
    while (owner->closed().position < ends[life]) {
      for (int i = 0; i < 3; i++) {
        lsn++;
        CHECK_EQ(owner.append(record_of_tag(tag_of(1, 400 + 40 * i), lsn)), lsn);
      }
      owner.close_batch();
      owner.settle();
      if (owner->closed().position < 5 * options.segment_bytes) watermark = owner->flushed();
    }
    if (life == 0) {
      owner->set_commit(owner->flushed().position, lsn);
      owner->trim(owner->flushed().position);
    }
    owner->close();
  }
  if (!clean) {
    std::unique_ptr<ControlFile> control = ControlFile::open(*files, "d", false);
    control->update(ControlFile::Copies::kBoth, [&](Control& content) {
      content.clean = false;
      content.watermark = watermark;
    });
  }
  std::mt19937_64 unused;
  return after_power_loss(files->state(), Loss::kNothing, unused);
}

/// The segment files by their start.
std::map<uint64_t, std::string> segment_files(const Reference& reference) {
  std::map<uint64_t, std::string> by_start;
  for (const std::string& file : reference.files) {
    SegmentHeader header;
    std::memcpy(&header, read_file(reference.disk, file).data(), sizeof header);
    if (file.ends_with(".wal")) by_start[header.start] = file;
  }
  return by_start;
}

bool has_old_bytes_behind_its_end(const Reference& reference) {
  const Part& last = reference.parts.back();
  return read_file(reference.disk, last.file).find("WMBT", last.to) != std::string::npos;
}

Reference try_reference(bool clean) {
  Reference reference;
  reference.disk = make_disk(clean);
  for (const auto& [path, number] : reference.disk.directories[0]) reference.files.push_back(path);
  std::map<uint64_t, std::string> by_start = segment_files(reference);
  uint64_t durable;
  {
    MemoryFileSystem files(reference.disk);
    durable = ControlFile::open(files, "d", true)->current().watermark.position;
    Owner owner(workload_options(), std::make_shared<MemoryFileSystem>(reference.disk));
    reference.start = owner->start().position;
    reference.bytes = read_bytes(owner.log(), reference.start);
  }
  uint64_t segment = workload_options().segment_bytes;
  for (uint64_t at = 0; at < reference.bytes.size();) {
    BatchHeader header;
    std::memcpy(&header, reference.bytes.data() + at, sizeof header);
    uint64_t offset = header.position % segment;
    const std::string& file = by_start.at(header.position - offset);
    bool below = header.position < durable;
    if (offset == kSegmentHeaderBytes)
      reference.parts.push_back({file, 0, offset, header.position, header.first_lsn, true, below});
    bool filler = is_filler(header);
    uint64_t end = filler ? segment : offset + header.length;
    reference.parts.push_back({file, offset, end, header.position, header.first_lsn, false, below});
    at += end - offset + (filler ? kSegmentHeaderBytes : 0);
  }
  CHECK_EQ(reference.parts.back().below_watermark, clean);
  CHECK_EQ(by_start.size(), size_t{4});
  CHECK(reference.parts.size() > 25);
  return reference;
}

/// Which spare becomes the last segment depends on the threads.
Reference make_reference(bool clean) {
  for (int tries = 0; tries < 100; tries++) {
    Reference reference = try_reference(clean);
    if (has_old_bytes_behind_its_end(reference)) return reference;
  }
  throw CheckFailed("no recycled file became the last segment");
}

struct Counts {
  std::atomic<uint64_t> flips{0};
  std::atomic<uint64_t> cuts{0};
  std::atomic<uint64_t> swaps{0};
  std::atomic<uint64_t> told{0};
  std::atomic<uint64_t> harmless{0};
  std::atomic<uint64_t> torn_tails{0};
  std::atomic<uint64_t> openings{0};
};

struct Range {
  std::string file;
  uint64_t from;
  uint64_t to;
};

/// One damage: what was done to which bytes, and what is made of it.
class Damage {
 public:
  Damage(const Reference& reference, Counts& counts)
      : reference_(reference), counts_(counts), disk_(reference.disk) {}

  void flip(const std::string& file, uint64_t bit) {
    counts_.flips++;
    *bytes_of(disk_, file, bit / 8) ^= static_cast<uint8_t>(1 << bit % 8);
    what_ = file + ": bit " + std::to_string(bit) + " flipped";
    changed_ = {{file, bit / 8, bit / 8 + 1}};
  }

  void cut(const std::string& file, uint64_t size) {
    counts_.cuts++;
    Inode& inode = disk_.inodes.at(disk_.directories[0].at(file));
    if (size % kBlock != 0) {
      uint8_t* rest = bytes_of(disk_, file, size);
      std::fill(rest, rest + (kBlock - size % kBlock), uint8_t{0});
    }
    inode.disk.resize(std::min<size_t>(inode.disk.size(), (size + kBlock - 1) / kBlock));
    inode.cache = inode.disk;
    inode.cache_size = inode.disk_size = size;
    what_ = file + ": cut at " + std::to_string(size);
    changed_ = {{file, size, reference_.size(file)}};
    was_cut_ = file.ends_with(".wal");
  }

  void swap(const std::string& a, uint64_t sector_a, const std::string& b, uint64_t sector_b) {
    counts_.swaps++;
    std::string old_a(reinterpret_cast<char*>(bytes_of(disk_, a, sector_a * kSector)), kSector);
    std::string old_b(reinterpret_cast<char*>(bytes_of(disk_, b, sector_b * kSector)), kSector);
    what_ = a + ": sector " + std::to_string(sector_a) + " exchanged with " + b + ", " +
            std::to_string(sector_b);
    if (old_a == old_b) return;
    std::copy(old_b.begin(), old_b.end(), bytes_of(disk_, a, sector_a * kSector));
    std::copy(old_a.begin(), old_a.end(), bytes_of(disk_, b, sector_b * kSector));
    note_difference(a, sector_a * kSector, old_a, old_b);
    note_difference(b, sector_b * kSector, old_b, old_a);
    headers_exchanged_ = a != b && sector_a == 0 && sector_b == 0;
  }

  /// `open` always, or only where opening looks at these bytes.
  void check(bool open) {
    for (const Part& part : reference_.parts) {
      bool hit = std::any_of(changed_.begin(), changed_.end(), [&](const Range& range) {
        return range.file == part.file && range.from < part.to && range.to > part.from;
      });
      if (hit) hits_.push_back(&part);
    }
    try {
      settle([&] { return read_with_reader(); });
      if (!open && !opening_sees()) return;
      counts_.openings++;
      settle([&] { return read_with_log(); });
    } catch (const std::exception& error) {
      throw CheckFailed(what_ + ": " + error.what());
    }
  }

 private:
  void note_difference(const std::string& file, uint64_t offset, const std::string& before,
                       const std::string& after) {
    for (uint64_t i = 0; i < kSector; i++) {
      if (before[i] != after[i]) changed_.push_back({file, offset + i, offset + i + 1});
    }
  }

  bool opening_sees() const {
    const std::string& last = reference_.parts.back().file;
    return std::any_of(hits_.begin(), hits_.end(),
                       [&](const Part* part) { return part->header || part->file == last; });
  }

  std::string read_with_reader() {
    auto reader = LogReader::open("d", std::make_shared<MemoryFileSystem>(disk_));
    VerifyReport report = reader->verify();
    if (report.damage) throw *report.damage;
    Place end = reader->refresh();
    CHECK_EQ(end.position, report.end.position);
    AlignedBuffer buffer(32768);
    std::string all;
    for (uint64_t at = reference_.start; at < end.position;) {
      ReadOutcome piece = reader->read_into(buffer.data(), buffer.size(), at, end.position);
      CHECK(piece.next > at);
      all.append(reinterpret_cast<char*>(buffer.data()) + piece.offset, piece.length);
      at = piece.next;
    }
    return all;
  }

  std::string read_with_log() {
    Owner owner(workload_options(), std::make_shared<MemoryFileSystem>(disk_));
    CHECK_EQ(owner->start().position, reference_.start);
    return read_bytes(owner.log(), reference_.start);
  }

  void settle(const std::function<std::string()>& read) {
    std::string found;
    try {
      found = read();
    } catch (const WalFailure& failure) {
      CHECK_EQ(failure.code, "WAL_CORRUPT");
      if (!names_the_damage(failure)) {
        throw CheckFailed("not what is damaged: " + failure.file + ", offset " +
                          std::to_string(failure.offset) + ", LSN " + std::to_string(failure.lsn) +
                          ": " + failure.what());
      }
      counts_.told++;
      return;
    }
    CHECK(!was_cut_);
    if (hits_.empty()) {
      CHECK(found == reference_.bytes);
      counts_.harmless++;
      return;
    }
    CHECK(nothing_proves(*hits_.front()));
    CHECK_EQ(found.size(), hits_.front()->position - reference_.start);
    CHECK(reference_.bytes.compare(0, found.size(), found) == 0);
    counts_.torn_tails++;
  }

  /// The log may end at a damaged batch only where no watermark and no later batch that is whole
  /// says that it was durable: each was framed when those before it were.
  bool nothing_proves(const Part& damaged) const {
    if (damaged.below_watermark) return false;
    return std::all_of(reference_.parts.begin(), reference_.parts.end(), [&](const Part& part) {
      bool later = !part.header && part.position > damaged.position;
      return !later || std::find(hits_.begin(), hits_.end(), &part) != hits_.end();
    });
  }

  bool names_the_damage(const WalFailure& failure) const {
    if (failure.file == "d/control")
      return std::any_of(changed_.begin(), changed_.end(),
                         [](const Range& range) { return range.file == "d/control"; });
    if (headers_exchanged_) return !failure.file.empty();
    auto offset = static_cast<uint64_t>(failure.offset);
    if (was_cut_ && failure.file == changed_[0].file && offset == changed_[0].from) return true;
    return std::any_of(hits_.begin(), hits_.end(), [&](const Part* part) {
      if (failure.file != part->file || failure.lsn < 0) return false;
      // Without its header, a segment is missing, or what comes first in it is.
      if (part->header) return offset == 0 || offset == part->to;
      bool lsn = failure.lsn == 0 || static_cast<uint64_t>(failure.lsn) == part->lsn;
      return offset == part->from && lsn;
    });
  }

  const Reference& reference_;
  Counts& counts_;
  DiskState disk_;
  std::string what_;
  std::vector<Range> changed_;
  std::vector<const Part*> hits_;
  bool was_cut_ = false;
  bool headers_exchanged_ = false;
};

/// What is tried of all there is: one in so many.
struct Strides {
  uint64_t flips;
  uint64_t cuts;
  uint64_t swaps;
  /// An opening looks at little more than the last segment: the rest is opened one time in so many.
  uint64_t openings;
};

Strides strides() {
  if (kSlow) return {9973, 1999, 997, 1};
  if (exhaustive()) return {1, 1, 1, 16};
  return {509, 199, 61, 1};
}

using Job = std::function<void(Damage&)>;

/// The control file and the segments in a row, by sectors.
std::vector<std::pair<std::string, uint64_t>> sectors(const Reference& reference) {
  std::vector<std::pair<std::string, uint64_t>> all;
  for (const std::string& file : reference.files) {
    for (uint64_t i = 0; i < reference.size(file) / kSector; i++) all.emplace_back(file, i);
  }
  return all;
}

/// Calls `use` with each damage that is tried, numbered.
void for_each_damage(const Reference& reference,
                     const std::function<void(uint64_t number, const Job&)>& use) {
  uint64_t number = 0;
  for (const std::string& file : reference.files) {
    for (uint64_t bit = 0; bit < reference.size(file) * 8; bit += strides().flips)
      use(number++, [&](Damage& damage) { damage.flip(file, bit); });
    for (uint64_t size = 0; size < reference.size(file); size += strides().cuts)
      use(number++, [&](Damage& damage) { damage.cut(file, size); });
  }
  constexpr size_t kWindow = 128;  // sectors: three segments
  auto all = sectors(reference);
  uint64_t pair = 0;
  for (size_t a = 0; a < all.size(); a++) {
    for (size_t b = a + 1; b < std::min(all.size(), a + kWindow); b++) {
      if (pair++ % strides().swaps != 0) continue;
      use(number++, [&](Damage& damage) {
        damage.swap(all[a].first, all[a].second, all[b].first, all[b].second);
      });
    }
  }
}

unsigned long long count(const std::atomic<uint64_t>& counter) { return counter.load(); }

void check_every_damage(bool clean) {
  Reference reference = make_reference(clean);
  Shared<Counts> counts;
  size_t workers = kSlow ? 1 : 2;
  share_work(static_cast<int>(workers), workers, [&](size_t worker) {
    for_each_damage(reference, [&](uint64_t number, const Job& job) {
      if (number % workers != worker || !in_part(number / workers)) return;
      Damage damage(reference, *counts);
      job(damage);
      damage.check(number / workers % strides().openings == 0);
    });
  });
  std::printf(
      "       %llu bits flipped, %llu cuts, %llu pairs of sectors exchanged; told %llu, harmless "
      "%llu, torn tail %llu; %llu openings\n",
      count(counts->flips), count(counts->cuts), count(counts->swaps), count(counts->told),
      count(counts->harmless), count(counts->torn_tails), count(counts->openings));
  CHECK(counts->told > 0 && counts->harmless > 0 && (counts->torn_tails > 0) == !clean);
}

TEST(DamageOfAnyBitLengthOrSectorOfAClosedLogIsToldOrChangesNothing) { check_every_damage(true); }

TEST(DamageOfAnyBitLengthOrSectorOfAKilledLogIsToldOrChangesNothing) { check_every_damage(false); }

}  // namespace
}  // namespace walmirror::test::damage_test
