#include "disk_images.h"

#include <algorithm>
#include <cstring>

#include "format.h"

namespace walmirror::test {
namespace {

uint64_t mix(uint64_t a, uint64_t b, uint64_t c) {
  uint64_t word = a * 0x9e3779b97f4a7c15 ^ (b + 0x632be59bd9b4e019) * 0xbf58476d1ce4e5b9 ^
                  (c + 0x94d049bb133111eb) * 0xd6e8feb86659fd93;
  word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9;
  word = (word ^ word >> 27) * 0x94d049bb133111eb;
  return word ^ word >> 31;
}

uint64_t sum_of(const Blocks& blocks, uint64_t sector) {
  uint64_t block = sector * kSector / kBlock;
  if (block >= blocks.size() || blocks[block] == nullptr) return 0;
  return blocks[block]->sector_sums()[sector % (kBlock / kSector)];
}

/// Hashes add up, so that a sector that changes is one addition.
uint64_t hash_of_sector(uint64_t path, uint64_t sector, uint64_t sum) {
  return sum == 0 ? 0 : mix(path, sector, sum);
}

uint64_t hash_of_blocks(uint64_t path, const Blocks& blocks) {
  uint64_t hash = 0;
  for (uint64_t sector = 0; sector < blocks.size() * (kBlock / kSector); sector++)
    hash += hash_of_sector(path, sector, sum_of(blocks, sector));
  return hash;
}

uint64_t hash_of_size(uint64_t path, uint64_t size) { return mix(path, ~uint64_t{0}, size); }

uint64_t hash_of_path(const std::string& path) { return std::hash<std::string>()(path); }

struct FileView {
  std::string path;
  uint64_t hash = 0;  // of the path
  uint64_t number = 0;
  const Inode* inode = nullptr;
};

enum class Outcome : uint8_t { kOld, kNew, kMixed };

/// A sector that may be on the disk or not.
struct Change {
  size_t file;
  std::vector<uint64_t> sectors;  // of kSector bytes
  uint64_t delta_new = 0;         // of the image's hash
  uint64_t delta_mixed = 0;
};

using Subset = std::vector<Outcome>;

/// Every other eight bytes of this sector have reached the disk.
void mix_sector(Inode& inode, uint64_t sector) {
  uint64_t number = sector * kSector / kBlock;
  bool empty = number >= inode.disk.size() || inode.disk[number] == nullptr;
  auto fresh = empty ? std::make_shared<Block>() : std::make_shared<Block>(*inode.disk[number]);
  if (empty) fresh->fill(0);
  flush_sector(inode, sector);
  uint64_t from = sector * kSector % kBlock;
  for (uint64_t at = from; at < from + kSector; at += 16)
    std::memcpy(fresh->data() + at, inode.disk[number]->data() + at, 8);
  inode.disk[number] = std::move(fresh);
}

/// One directory that a power loss may leave.
class Outcomes {
 public:
  Outcomes(const DiskState& state, const Directory& directory, const DiskModel& disk)
      : state_(state), directory_(directory), disk_(disk) {
    for (const auto& [path, number] : directory)
      files_.push_back({path, hash_of_path(path), number, &state.inodes.at(number)});
    for (size_t file = 0; file < files_.size(); file++) look_at(file);
  }

  const std::vector<Change>& changes() const { return changes_; }

  void for_each_size(
      const Subset& kept,
      const std::function<void(ImageHash, const std::function<DiskState()>&)>& visit) const {
    std::vector<uint64_t> least(files_.size());
    for (size_t file : resized_) least[file] = files_[file].inode->disk_size;
    uint64_t hash = base_;
    for (size_t i = 0; i < changes_.size(); i++) {
      if (kept[i] == Outcome::kOld) continue;
      const Change& change = changes_[i];
      hash += kept[i] == Outcome::kNew ? change.delta_new : change.delta_mixed;
      uint64_t end =
          std::min((change.sectors.back() + 1) * kSector, files_[change.file].inode->cache_size);
      least[change.file] = std::max(least[change.file], end);
    }
    for (uint64_t grown = 0; grown < uint64_t{1} << resized_.size(); grown++) {
      uint64_t whole = hash;
      std::vector<uint64_t> sizes = least;
      for (size_t i = 0; i < resized_.size(); i++) {
        const FileView& file = files_[resized_[i]];
        if ((grown >> i & 1) != 0) sizes[resized_[i]] = file.inode->cache_size;
        whole += hash_of_size(file.hash, sizes[resized_[i]]);
      }
      visit(whole, [&] { return build(kept, sizes); });
    }
  }

 private:
  void look_at(size_t number) {
    const FileView& file = files_[number];
    const Inode& inode = *file.inode;
    base_ += hash_of_blocks(file.hash, inode.disk);
    size_t first = changes_.size();
    for (uint64_t sector : inode.dirty) {
      uint64_t before = sum_of(inode.disk, sector);
      uint64_t after = sum_of(inode.cache, sector);
      if (before == after) continue;
      bool same =
          changes_.size() > first &&
          sector * kSector / disk_.sector == changes_.back().sectors[0] * kSector / disk_.sector;
      if (!same) changes_.push_back({number, {}});
      Change& change = changes_.back();
      change.sectors.push_back(sector);
      uint64_t was = hash_of_sector(file.hash, sector, before);
      change.delta_new += hash_of_sector(file.hash, sector, after) - was;
      if (!disk_.mixes) continue;
      Inode mixed = inode;
      mix_sector(mixed, sector);
      change.delta_mixed += hash_of_sector(file.hash, sector, sum_of(mixed.disk, sector)) - was;
    }
    if (inode.disk_size != inode.cache_size) {
      resized_.push_back(number);
    } else {
      base_ += hash_of_size(file.hash, inode.disk_size);
    }
  }

  DiskState build(const Subset& kept, const std::vector<uint64_t>& sizes) const {
    DiskState image;
    image.next_inode = state_.next_inode;
    image.directories = {directory_};
    for (const FileView& file : files_) {
      Inode& inode = image.inodes[file.number];
      inode = *file.inode;
      inode.dirty.clear();
    }
    for (size_t i = 0; i < changes_.size(); i++) {
      Inode& inode = image.inodes[files_[changes_[i].file].number];
      for (uint64_t sector : changes_[i].sectors) {
        if (kept[i] == Outcome::kNew) flush_sector(inode, sector);
        if (kept[i] == Outcome::kMixed) mix_sector(inode, sector);
      }
    }
    for (size_t file : resized_) image.inodes[files_[file].number].disk_size = sizes[file];
    for (auto& [number, inode] : image.inodes) {
      inode.cache = inode.disk;
      inode.cache_size = inode.disk_size;
    }
    return image;
  }

  const DiskState& state_;
  const Directory& directory_;
  DiskModel disk_;
  std::vector<FileView> files_;
  std::vector<Change> changes_;
  std::vector<size_t> resized_;  // files whose size is not flushed
  ImageHash base_ = 0;
};

/// All of them, counted in the base of the outcomes that a sector may have.
void for_each_of_all(size_t size, unsigned outcomes,
                     const std::function<void(const Subset&)>& visit) {
  Subset kept(size, Outcome::kOld);
  for (;;) {
    visit(kept);
    size_t i = 0;
    while (i < size && static_cast<unsigned>(kept[i]) + 1 == outcomes) kept[i++] = Outcome::kOld;
    if (i == size) return;
    kept[i] = static_cast<Outcome>(static_cast<unsigned>(kept[i]) + 1);
  }
}

bool are_few(size_t size, unsigned outcomes, const ImageLimits& limits) {
  double all = 1;
  for (size_t i = 0; i < size && all < 1e18; i++) all *= outcomes;
  return all <= static_cast<double>(uint64_t{1} << limits.full_bits);
}

void for_each_subset(size_t size, const ImageLimits& limits, std::mt19937_64& random,
                     const std::function<void(const Subset&)>& visit) {
  unsigned outcomes = limits.disk.mixes ? 3 : 2;
  if (are_few(size, outcomes, limits)) {
    for_each_of_all(size, outcomes, visit);
    return;
  }
  uint64_t left = limits.samples;
  auto take = [&](const Subset& subset) {
    if (left == 0) return;
    left--;
    visit(subset);
  };
  take(Subset(size, Outcome::kOld));
  take(Subset(size, Outcome::kNew));
  if (limits.disk.mixes) take(Subset(size, Outcome::kMixed));
  for (size_t i = 0; i < size; i++) {
    for (bool most : {false, true}) {
      Subset one(size, most ? Outcome::kNew : Outcome::kOld);
      one[i] = most ? Outcome::kOld : limits.disk.mixes ? Outcome::kMixed : Outcome::kNew;
      take(one);
    }
  }
  Subset kept(size);
  for (size_t i = 1; i < size; i++) {
    for (bool first : {false, true}) {
      for (size_t j = 0; j < size; j++) kept[j] = (j < i) == first ? Outcome::kNew : Outcome::kOld;
      take(kept);
    }
  }
  while (left > 0) {
    uint64_t eighths = 1 + random() % 7;
    for (size_t i = 0; i < size; i++) {
      bool arrived = random() % 8 < eighths;
      bool mixed = limits.disk.mixes && random() % 4 == 0;
      kept[i] = mixed ? Outcome::kMixed : arrived ? Outcome::kNew : Outcome::kOld;
    }
    take(kept);
  }
}

}  // namespace

ImageHash hash_of(const DiskState& image) {
  ImageHash hash = 0;
  for (const auto& [path, number] : image.directories.back()) {
    const Inode& inode = image.inodes.at(number);
    hash += hash_of_blocks(hash_of_path(path), inode.disk);
    hash += hash_of_size(hash_of_path(path), inode.disk_size);
  }
  return hash;
}

void for_each_image(
    const DiskState& state, const ImageLimits& limits, uint64_t seed,
    const std::function<void(ImageHash, const std::function<DiskState()>&)>& visit) {
  std::mt19937_64 random(seed);
  for (const Directory& directory : state.directories) {
    Outcomes outcomes(state, directory, limits.disk);
    for_each_subset(outcomes.changes().size(), limits, random,
                    [&](const Subset& kept) { outcomes.for_each_size(kept, visit); });
  }
}

}  // namespace walmirror::test
