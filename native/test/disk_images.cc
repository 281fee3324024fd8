#include "disk_images.h"

#include <algorithm>

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

/// A sector that may be on the disk or not.
struct Change {
  size_t file;
  uint64_t sector;
  uint64_t delta;  // of the image's hash
};

using Subset = std::vector<bool>;

/// One directory that a power loss may leave.
class Outcomes {
 public:
  Outcomes(const DiskState& state, const Directory& directory)
      : state_(state), directory_(directory) {
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
      if (!kept[i]) continue;
      const Change& change = changes_[i];
      hash += change.delta;
      uint64_t end = std::min((change.sector + 1) * kSector, files_[change.file].inode->cache_size);
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
    for (uint64_t sector : inode.dirty) {
      uint64_t before = sum_of(inode.disk, sector);
      uint64_t after = sum_of(inode.cache, sector);
      if (before == after) continue;
      uint64_t delta =
          hash_of_sector(file.hash, sector, after) - hash_of_sector(file.hash, sector, before);
      changes_.push_back({number, sector, delta});
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
      if (kept[i]) flush_sector(image.inodes[files_[changes_[i].file].number], changes_[i].sector);
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
  std::vector<FileView> files_;
  std::vector<Change> changes_;
  std::vector<size_t> resized_;  // files whose size is not flushed
  ImageHash base_ = 0;
};

void for_each_subset(size_t size, const ImageLimits& limits, std::mt19937_64& random,
                     const std::function<void(const Subset&)>& visit) {
  Subset kept(size);
  if (size <= limits.full_bits) {
    for (uint64_t bits = 0; bits < uint64_t{1} << size; bits++) {
      for (size_t i = 0; i < size; i++) kept[i] = (bits >> i & 1) != 0;
      visit(kept);
    }
    return;
  }
  uint64_t left = limits.samples;
  auto take = [&](const Subset& subset) {
    if (left == 0) return;
    left--;
    visit(subset);
  };
  take(Subset(size, false));
  take(Subset(size, true));
  for (size_t i = 0; i < size; i++) {
    for (bool most : {false, true}) {
      Subset one(size, most);
      one[i] = !most;
      take(one);
    }
  }
  for (size_t i = 1; i < size; i++) {
    for (bool first : {false, true}) {
      for (size_t j = 0; j < size; j++) kept[j] = (j < i) == first;
      take(kept);
    }
  }
  while (left > 0) {
    uint64_t eighths = 1 + random() % 7;
    for (size_t i = 0; i < size; i++) kept[i] = random() % 8 < eighths;
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
    Outcomes outcomes(state, directory);
    for_each_subset(outcomes.changes().size(), limits, random,
                    [&](const Subset& kept) { outcomes.for_each_size(kept, visit); });
  }
}

}  // namespace walmirror::test
