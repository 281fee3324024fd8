#include <cstdlib>
#include <cstring>

#include "planted.h"

namespace walmirror {

/// Of a build with -DWALMIRROR_PLANTED: whether this is the bug that is put back. Allocates
/// nothing: some tests look at each allocation of a call.
bool is_planted(const char* name);

bool is_planted(const char* name) {
  static const char* const planted = std::getenv("WALMIRROR_PLANT");
  return planted != nullptr && std::strcmp(planted, name) == 0;
}

}  // namespace walmirror
