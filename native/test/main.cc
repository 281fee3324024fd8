#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "test.h"

namespace walmirror::test {

std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

TempDir::TempDir() {
  const char* base = std::getenv("WALMIRROR_TEST_DIR");
  std::string root = base != nullptr ? base : "../../.tmp-test";
  std::filesystem::create_directories(root);
  std::string pattern = std::filesystem::absolute(root).string() + "/native-XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp " + pattern);
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

namespace {

bool run_one(const Test& test) {
  auto started = std::chrono::steady_clock::now();
  std::string failure;
  try {
    test.run();
  } catch (const std::exception& error) {
    failure = error.what();
    if (failure.empty()) failure = "an exception without a message";
  }
  auto spent =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - started);
  std::printf("%s %s (%.0f ms)\n", failure.empty() ? "ok    " : "FAILED", test.name, spent.count());
  if (!failure.empty()) std::printf("       %s\n", failure.c_str());
  std::fflush(stdout);
  return failure.empty();
}

}  // namespace
}  // namespace walmirror::test

int main(int argc, char** argv) {
  int passed = 0;
  int failed = 0;
  for (const auto& test : walmirror::test::tests()) {
    if (argc > 1 && std::strstr(test.name, argv[1]) == nullptr) continue;
    (walmirror::test::run_one(test) ? passed : failed)++;
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}
