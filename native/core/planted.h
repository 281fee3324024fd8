// Bugs that other logs had, put back one at a time in a test build, so that the tests are known to
// find them (`npm run test:planted`). Everywhere else this is `false`, and nothing of it is
// compiled.
#pragma once

#ifdef WALMIRROR_PLANTED
namespace walmirror {
bool is_planted(const char* name);
}
#define PLANTED(name) walmirror::is_planted(#name)
#else
#define PLANTED(name) false
#endif
