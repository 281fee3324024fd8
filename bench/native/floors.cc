// What the hardware allows: the floors that `npm run bench` divides its results by.
// Built on demand by bench/floors/addon.ts; never shipped.

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include <napi.h>

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kPageBytes = 4096;

[[noreturn]] void Fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class File {
 public:
  explicit File(const std::string& path) {
    // A file system without O_DIRECT (tmpfs, some network ones) gets the buffered floor; `direct`
    // says so.
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT, 0600);
    if (fd_ < 0 && errno == EINVAL) {
      direct_ = false;
      fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    }
    if (fd_ < 0) Fail("open");
  }
  ~File() { ::close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  bool direct() const { return direct_; }

  void Allocate(int64_t bytes) {
    const int error = ::posix_fallocate(fd_, 0, bytes);
    if (error != 0) {
      errno = error;
      Fail("posix_fallocate");
    }
  }

  void Write(const uint8_t* data, size_t bytes, int64_t offset, int flags) {
    while (bytes > 0) {
      iovec part{const_cast<uint8_t*>(data), bytes};
      const ssize_t written = ::pwritev2(fd_, &part, 1, offset, flags);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) Fail("pwritev2");
      data += written;
      offset += written;
      bytes -= static_cast<size_t>(written);
    }
  }

  void Sync() {
    if (::fdatasync(fd_) != 0) Fail("fdatasync");
  }

 private:
  int fd_ = -1;
  bool direct_ = true;
};

struct FreeDeleter {
  void operator()(uint8_t* memory) const { std::free(memory); }
};
using AlignedBytes = std::unique_ptr<uint8_t, FreeDeleter>;

// Bytes that no layer below can store in less space than they take.
AlignedBytes Noise(size_t bytes) {
  AlignedBytes memory(static_cast<uint8_t*>(std::aligned_alloc(kPageBytes, bytes)));
  if (!memory) Fail("aligned_alloc");
  uint64_t state = 0x9e3779b97f4a7c15;
  for (size_t at = 0; at < bytes; at += sizeof(state)) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    std::memcpy(memory.get() + at, &state, sizeof(state));
  }
  return memory;
}

struct WriteTest {
  std::string path;
  int64_t file_bytes;
  size_t block_bytes;
  bool dsync;    // one pwritev2 with RWF_DSYNC; else pwrite, then fdatasync
  bool written;  // every block was written before the clock starts; else allocated only
  double seconds;
  int64_t writes;  // stop after so many, whatever the clock says
};

struct WriteResult {
  bool direct;
  double seconds;
  std::vector<float> micros;  // one a write
};

WriteResult RunWrites(const WriteTest& test) {
  File file(test.path);
  const AlignedBytes block = Noise(test.block_bytes);
  const auto block_bytes = static_cast<int64_t>(test.block_bytes);
  file.Allocate(test.file_bytes);
  if (test.written) {
    constexpr size_t kFillBytes = size_t{4} << 20;
    const AlignedBytes fill = Noise(kFillBytes);
    for (int64_t at = 0; at < test.file_bytes; at += kFillBytes) {
      const auto left = static_cast<size_t>(test.file_bytes - at);
      file.Write(fill.get(), std::min(kFillBytes, left), at, 0);
    }
  }
  file.Sync();

  WriteResult result{file.direct(), 0, {}};
  const auto start = Clock::now();
  int64_t offset = 0;
  for (int64_t done = 0; done < test.writes && SecondsSince(start) < test.seconds; ++done) {
    if (offset + block_bytes > test.file_bytes) {
      if (!test.written) break;  // a second round would no longer be on fresh blocks
      offset = 0;
    }
    const auto began = Clock::now();
    file.Write(block.get(), test.block_bytes, offset, test.dsync ? RWF_DSYNC : 0);
    if (!test.dsync) file.Sync();
    result.micros.push_back(static_cast<float>(SecondsSince(began) * 1e6));
    offset += block_bytes;
  }
  result.seconds = SecondsSince(start);
  return result;
}

Napi::Value DurableWrites(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const Napi::Object options = info[0].As<Napi::Object>();
  const auto number = [&](const char* key) {
    return options.Get(key).As<Napi::Number>().DoubleValue();
  };
  const auto flag = [&](const char* key) { return options.Get(key).As<Napi::Boolean>().Value(); };
  try {
    const WriteResult result = RunWrites({
        .path = options.Get("path").As<Napi::String>().Utf8Value(),
        .file_bytes = static_cast<int64_t>(number("fileBytes")),
        .block_bytes = static_cast<size_t>(number("blockBytes")),
        .dsync = flag("dsync"),
        .written = flag("written"),
        .seconds = number("seconds"),
        .writes = static_cast<int64_t>(number("writes")),
    });
    Napi::Float32Array micros = Napi::Float32Array::New(env, result.micros.size());
    std::copy(result.micros.begin(), result.micros.end(), micros.Data());
    Napi::Object answer = Napi::Object::New(env);
    answer.Set("direct", result.direct);
    answer.Set("seconds", result.seconds);
    answer.Set("micros", micros);
    return answer;
  } catch (const std::exception& error) {
    throw Napi::Error::New(env, error.what());
  }
}

// The bare N-API call: no C++ wrapper between, which would be measured too.
napi_value Empty(napi_env, napi_callback_info) { return nullptr; }

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("durableWrites", Napi::Function::New(env, DurableWrites, "durableWrites"));
  napi_value empty = nullptr;
  if (napi_create_function(env, "empty", NAPI_AUTO_LENGTH, Empty, nullptr, &empty) != napi_ok) {
    throw Napi::Error::New(env, "cannot create `empty`");
  }
  exports.Set("empty", Napi::Value(env, empty));
  return exports;
}

}  // namespace

NODE_API_MODULE(floors, Init)
