// All I/O of the core goes through this narrow interface, so that a disk that lies can stand in for
// a real one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace walmirror {

struct Slice {
  const void* data;
  size_t size;
};

/// An open file. Calls throw WalFailure (WAL_IO or WAL_NO_SPACE, with `error_number` and `file`).
/// A direct file takes offsets, sizes and addresses that are multiples of 4096.
class File {
 public:
  virtual ~File() = default;
  virtual bool direct() const = 0;
  /// Writes all of it. With `durable`, it is on stable storage on return, with what finding it
  /// again needs.
  virtual void write(uint64_t offset, const Slice* slices, size_t count, bool durable) = 0;
  /// A durable write of batches that end the log: of several copies, as many have it on return as
  /// an acknowledgement needs. Any other call returns when all have done it, and this before.
  virtual void write_batches(uint64_t offset, const Slice* slices, size_t count) {
    write(offset, slices, count, true);
  }
  /// Reads up to `size` bytes; fewer only at the end of the file.
  virtual size_t read(uint64_t offset, void* data, size_t size) = 0;
  /// Copies that `read_copy` reads by number, each with faults of its own. One that cannot be read
  /// throws; `bad_copy` says that what was read from one does not verify, though it does elsewhere.
  virtual size_t copies() const { return 1; }
  virtual size_t read_copy(size_t, uint64_t offset, void* data, size_t size) {
    return read(offset, data, size);
  }
  virtual void bad_copy(size_t) {}
  virtual void sync() = 0;
  /// Makes the file this long, its space reserved.
  virtual void allocate(uint64_t size) = 0;
  virtual uint64_t size() = 0;
};

/// Held until destroyed; released by the system when the process dies.
class DirectoryLock {
 public:
  virtual ~DirectoryLock() = default;
};

enum class OpenMode { kRead, kReadWrite, kCreate };

class FileSystem {
 public:
  virtual ~FileSystem() = default;
  /// Creates the directory 0700 if `create`; refuses one that others may write. False: there is
  /// none.
  virtual bool prepare_directory(const std::string& path, bool create) = 0;
  /// Throws WAL_LOCKED with the holder's pid.
  virtual std::unique_ptr<DirectoryLock> lock(const std::string& path) = 0;
  /// `direct`: O_DIRECT where the file system takes it.
  virtual std::unique_ptr<File> open(const std::string& path, OpenMode mode, bool direct) = 0;
  virtual bool exists(const std::string& path) = 0;
  virtual void rename(const std::string& from, const std::string& to) = 0;
  virtual void remove(const std::string& path) = 0;
  virtual void sync_directory(const std::string& path) = 0;
  virtual std::vector<std::string> list(const std::string& path) = 0;
};

std::shared_ptr<FileSystem> posix_file_system();

/// What the processor maps at once where memory is asked for by so much.
constexpr size_t kLargePage = 2u << 20;

/// Memory for direct I/O: 4096-aligned, grown on demand, contents not kept.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t size) { reserve(size); }
  ~AlignedBuffer();
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  AlignedBuffer(AlignedBuffer&& other) noexcept : data_(other.data_), size_(other.size_) {
    other.data_ = nullptr;
  }

  static AlignedBuffer zeroed(size_t size);
  void reserve(size_t size);
  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace walmirror
