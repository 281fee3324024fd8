// A test runner of one screen: TEST registers a function, CHECK throws out of it.
#pragma once

#include <cstdlib>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace walmirror::test {

/// Sanitizers and counters make everything many times slower; what repeats itself then does so less
/// often. WALMIRROR_SLOW says that the core has them where the tests have not.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSlow = true;
#else
inline const bool kSlow = std::getenv("WALMIRROR_SLOW") != nullptr;
#endif

struct Test {
  const char* name;
  void (*run)();
};

std::vector<Test>& tests();

inline bool add(const char* name, void (*run)()) {
  tests().push_back({name, run});
  return true;
}

struct CheckFailed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] inline void check_failed(const char* file, int line, const std::string& what) {
  std::ostringstream text;
  text << file << ":" << line << ": " << what;
  throw CheckFailed(text.str());
}

template <class A, class B>
void check_equal(const char* file, int line, const char* expression, const A& a, const B& b) {
  if (a == b) return;
  std::ostringstream text;
  text << expression << ": " << a << " is not " << b;
  check_failed(file, line, text.str());
}

/// A fresh directory on a real disk, removed with all in it.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace walmirror::test

#define TEST(Name)                                                                          \
  static void Name();                                                                       \
  [[maybe_unused]] static const bool registered_##Name = walmirror::test::add(#Name, Name); \
  static void Name()

#define CHECK(condition) \
  ((condition) ? void() : walmirror::test::check_failed(__FILE__, __LINE__, #condition))
#define CHECK_EQ(a, b) walmirror::test::check_equal(__FILE__, __LINE__, #a " == " #b, a, b)

/// Runs the statement and checks that it throws a WalFailure of this code.
#define CHECK_FAILS(failure_code, statement)         \
  do {                                               \
    std::string got = "nothing";                     \
    try {                                            \
      statement;                                     \
    } catch (const walmirror::WalFailure& failure) { \
      got = failure.code;                            \
    }                                                \
    CHECK_EQ(got, std::string(failure_code));        \
  } while (false)
