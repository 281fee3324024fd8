#include <cstdlib>
#include <string>

#include "planted.h"

namespace walmirror {

/// Of a build with -DWALMIRROR_PLANTED: whether this is the bug that is put back.
bool is_planted(const char* name);

bool is_planted(const char* name) {
  static const char* const planted = std::getenv("WALMIRROR_PLANT");
  return planted != nullptr && std::string(planted) == name;
}

}  // namespace walmirror
