#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "file_system.h"
#include "types.h"

namespace walmirror {
namespace {

/// A signal may interrupt this, on some file systems.
int open_file(const char* path, int flags, mode_t mode = 0) {
  for (;;) {
    int fd = ::open(path, flags, mode);
    if (fd >= 0 || errno != EINTR) return fd;
  }
}

/// Closed, also where memory runs out before somebody takes it.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

[[noreturn]] void fail(const char* call, const std::string& path, int error) {
  const char* code = error == ENOSPC || error == EDQUOT ? "WAL_NO_SPACE" : "WAL_IO";
  WalFailure failure(code, std::string(call) + " " + path + ": " + std::strerror(error));
  failure.file = path;
  failure.error_number = error;
  throw failure;
}

void refuse_shared(const std::string& path, const struct stat& status) {
  bool foreign = status.st_uid != geteuid() && status.st_uid != 0;
  if (!foreign && (status.st_mode & 022) == 0) return;
  WalFailure failure("WAL_DIR_PERMISSIONS",
                     path + (foreign ? " belongs to another user" : " can be written by others"));
  failure.file = path;
  if (foreign) failure.advise("Use a directory of your own.");
  throw failure;
}

class PosixFile : public File {
 public:
  PosixFile(Descriptor fd, std::string path, bool direct)
      : descriptor_(std::move(fd)),
        fd_(descriptor_.get()),
        path_(std::move(path)),
        direct_(direct) {}

  bool direct() const override { return direct_; }

  void write(uint64_t offset, const Slice* slices, size_t count, bool durable) override {
    constexpr size_t kMost = 4;
    iovec vectors[kMost];
    if (count > kMost) fail("pwritev2", path_, EINVAL);
    size_t left = 0;
    for (size_t i = 0; i < count; i++) {
      vectors[i] = {const_cast<void*>(slices[i].data), slices[i].size};
      left += slices[i].size;
    }
    iovec* next = vectors;
    bool synced = durable;
    while (left > 0) {
      size_t done = write_some(next, static_cast<int>(vectors + count - next), offset, synced);
      offset += done;
      left -= done;
      for (; next < vectors + count && done >= next->iov_len; next++) done -= next->iov_len;
      if (done > 0) {
        next->iov_base = static_cast<uint8_t*>(next->iov_base) + done;
        next->iov_len -= done;
      }
    }
    if (durable && !synced) sync();
  }

  size_t read(uint64_t offset, void* data, size_t size) override {
    size_t total = 0;
    while (total < size) {
      ssize_t got = pread(fd_, static_cast<uint8_t*>(data) + total, size - total,
                          static_cast<off_t>(offset + total));
      if (got < 0) {
        if (errno == EINTR) continue;
        fail("pread", path_, errno);
      }
      total += static_cast<size_t>(got);
      if (got > 0 && (!direct_ || static_cast<size_t>(got) % kBlock == 0)) continue;
      // The end of the file. Before it, this is how a disk says that it can not read on: what
      // follows must not look like zeros.
      if (offset + total < this->size()) fail("pread", path_, EIO);
      break;
    }
    return total;
  }

  void sync() override {
    // Not repeated on any error: what a failed flush left in the cache is unknown (SAFETY 5.4).
    if (fdatasync(fd_) != 0) fail("fdatasync", path_, errno);
  }

  void allocate(uint64_t size) override {
    int error;
    do {
      error = posix_fallocate(fd_, 0, static_cast<off_t>(size));
    } while (error == EINTR);
    if (error != 0) fail("posix_fallocate", path_, error);
  }

  uint64_t size() override {
    struct stat status {};
    if (fstat(fd_, &status) != 0) fail("fstat", path_, errno);
    return static_cast<uint64_t>(status.st_size);
  }

 private:
  /// One system call. Clears `synced` where the kernel does not take RWF_DSYNC; the caller then
  /// syncs.
  size_t write_some(const iovec* vectors, int count, uint64_t offset, bool& synced) {
    for (;;) {
      ssize_t done =
          pwritev2(fd_, vectors, count, static_cast<off_t>(offset), synced ? RWF_DSYNC : 0);
      if (done < 0 && errno == EINTR) continue;
      if (done < 0 && synced && (errno == EOPNOTSUPP || errno == ENOSYS)) {
        synced = false;
        continue;
      }
      if (done < 0) fail("pwritev2", path_, errno);
      if (done == 0) fail("pwritev2", path_, EIO);
      auto written = static_cast<size_t>(done);
      if (!direct_) return written;
      written = align_down(written, kBlock);  // a short direct write goes on from a block's start
      if (written == 0) fail("pwritev2", path_, EIO);
      return written;
    }
  }

  Descriptor descriptor_;
  int fd_;
  std::string path_;
  bool direct_;
};

class PosixLock : public DirectoryLock {
 public:
  explicit PosixLock(Descriptor fd) : fd_(std::move(fd)) {}

 private:
  Descriptor fd_;
};

class PosixFileSystem : public FileSystem {
 public:
  bool prepare_directory(const std::string& path, bool create) override {
    struct stat status {};
    if (stat(path.c_str(), &status) != 0) {
      if (errno != ENOENT) fail("stat", path, errno);
      if (!create) return false;
      make(path);
      if (stat(path.c_str(), &status) != 0) fail("stat", path, errno);
    }
    if (!S_ISDIR(status.st_mode)) fail("open", path, ENOTDIR);
    refuse_shared(path, status);
    return true;
  }

  std::unique_ptr<DirectoryLock> lock(const std::string& path) override {
    Descriptor fd(open_file(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (fd.get() < 0) fail("open", path, errno);
    struct flock request {};
    request.l_type = F_WRLCK;
    request.l_whence = SEEK_SET;
    // Open file description locks hold against other threads of this process as well, and no
    // close() of another descriptor releases them.
    if (fcntl(fd.get(), F_OFD_SETLK, &request) != 0) {
      int error = errno;
      char holder[32] = {};
      ssize_t got = pread(fd.get(), holder, sizeof holder - 1, 0);
      if (error != EAGAIN && error != EACCES) fail("fcntl", path, error);
      std::string pid(holder, got > 0 ? static_cast<size_t>(got) : 0);
      pid.erase(
          std::find_if_not(pid.begin(), pid.end(), [](char c) { return c >= '0' && c <= '9'; }),
          pid.end());
      WalFailure failure("WAL_LOCKED",
                         path + " is locked by process " + (pid.empty() ? "(unknown)" : pid));
      failure.file = path;
      throw failure;
    }
    std::string pid = std::to_string(getpid()) + "\n";
    if (ftruncate(fd.get(), 0) != 0 || pwrite(fd.get(), pid.data(), pid.size(), 0) < 0)
      fail("write", path, errno);
    return std::make_unique<PosixLock>(std::move(fd));
  }

  std::unique_ptr<File> open(const std::string& path, OpenMode mode, bool direct) override {
    int flags = O_CLOEXEC | O_NOFOLLOW | (mode == OpenMode::kRead ? O_RDONLY : O_RDWR);
    if (mode == OpenMode::kCreate) flags |= O_CREAT;
    int fd = -1;
    if (direct) fd = open_file(path.c_str(), flags | O_DIRECT, 0600);
    if (fd < 0 && (!direct || errno == EINVAL)) {
      direct = false;
      fd = open_file(path.c_str(), flags, 0600);
    }
    if (fd < 0) fail("open", path, errno);
    return std::make_unique<PosixFile>(Descriptor(fd), path, direct);
  }

  bool exists(const std::string& path) override {
    struct stat status {};
    if (lstat(path.c_str(), &status) == 0) return true;
    if (errno != ENOENT && errno != ENOTDIR) fail("stat", path, errno);
    return false;
  }

  void rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) fail("rename", from, errno);
  }

  void remove(const std::string& path) override {
    if (unlink(path.c_str()) != 0 && errno != ENOENT) fail("unlink", path, errno);
  }

  void sync_directory(const std::string& path) override {
    Descriptor fd(open_file(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd.get() < 0) fail("open", path, errno);
    if (fsync(fd.get()) != 0) fail("fsync", path, errno);
  }

  std::vector<std::string> list(const std::string& path) override {
    std::unique_ptr<DIR, int (*)(DIR*)> directory(nullptr, closedir);
    do {
      directory.reset(opendir(path.c_str()));
    } while (directory == nullptr && errno == EINTR);
    if (directory == nullptr) fail("opendir", path, errno);
    std::vector<std::string> names;
    while (const dirent* entry = readdir(directory.get())) {
      std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(std::move(name));
    }
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  /// mkdir -p, each new directory 0700 and its parent flushed.
  void make(const std::string& path) {
    size_t slash = path.find_last_not_of('/');
    slash = slash == std::string::npos ? slash : path.find_last_of('/', slash);
    std::string parent = slash == std::string::npos ? "."
                         : slash == 0               ? "/"
                                                    : path.substr(0, slash);
    if (!exists(parent)) make(parent);
    if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) fail("mkdir", path, errno);
    sync_directory(parent);
  }
};

}  // namespace

std::shared_ptr<FileSystem> posix_file_system() {
  static const auto system = std::make_shared<PosixFileSystem>();
  return system;
}

AlignedBuffer::~AlignedBuffer() { std::free(data_); }

AlignedBuffer AlignedBuffer::zeroed(size_t size) {
  AlignedBuffer buffer(size);
  std::memset(buffer.data_, 0, buffer.size_);
  return buffer;
}

void AlignedBuffer::reserve(size_t size) {
  if (size <= size_) return;
  size = align_up(size, kBlock);
  void* fresh = nullptr;
  bool large = size >= kLargePage;
  if (large) size = align_up(size, kLargePage);
  if (posix_memalign(&fresh, large ? kLargePage : kBlock, size) != 0) throw std::bad_alloc();
  // Fewer pieces of memory to the device (docs/adr/0009). Where it is refused, nothing is lost.
  if (large) madvise(fresh, size, MADV_HUGEPAGE);
  std::free(data_);
  data_ = static_cast<uint8_t*>(fresh);
  size_ = size;
}

}  // namespace walmirror
