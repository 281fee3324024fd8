#include "workers.h"

#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace walmirror::test {
namespace {

struct Progress {
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  char failure[16384] = {};
};

void take_turns(Progress& progress, size_t units, const std::function<void(size_t)>& work) {
  // Buffers of a megabyte come and go with every recovery.
  mallopt(M_MMAP_THRESHOLD, 8 << 20);
  mallopt(M_TRIM_THRESHOLD, 64 << 20);
  try {
    for (size_t i = progress.next++; i < units && !progress.failed; i = progress.next++) work(i);
  } catch (const std::exception& error) {
    if (progress.failed.exchange(true)) return;
    std::snprintf(progress.failure, sizeof progress.failure, "%s", error.what());
  }
}

}  // namespace

bool exhaustive() { return std::getenv("WALMIRROR_EXHAUSTIVE") != nullptr; }

bool in_part(size_t number) {
  const char* part = std::getenv("WALMIRROR_PART");
  unsigned long k = 0;
  unsigned long n = 1;
  if (part != nullptr) CHECK(std::sscanf(part, "%lu/%lu", &k, &n) == 2 && k >= 1 && k <= n);
  return part == nullptr || number % n == k - 1;
}

void share_work(int workers, size_t units, const std::function<void(size_t)>& work) {
  Shared<Progress> progress;
  std::vector<pid_t> children;
  for (int i = 1; i < workers; i++) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      take_turns(*progress, units, work);
      _exit(0);
    }
    children.push_back(child);
  }
  take_turns(*progress, units, work);
  for (pid_t child : children) {
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  if (progress->failed) throw CheckFailed(progress->failure);
}

}  // namespace walmirror::test
