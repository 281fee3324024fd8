// What to do about failures that several places find; a failure's message says only what is wrong.
#pragma once

namespace walmirror {

inline constexpr const char* kMoveAway = "Move the file out of the directory.";
inline constexpr const char* kMoveWrongAway =
    "Move the one that is not of this log, or is older, out of the directory.";
inline constexpr const char* kRestoreControl = "Restore the file from a backup.";

}  // namespace walmirror
