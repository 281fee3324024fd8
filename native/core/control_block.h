// A control file's bytes.
#pragma once

#include "control_file.h"

namespace walmirror {

/// One copy of a control file, kControlCopyBytes long, sealed.
void encode_control(const Control& control, uint64_t sequence, uint8_t* out);
/// Puts its checksum in.
void seal_control(uint8_t* copy);

}  // namespace walmirror
