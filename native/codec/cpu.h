// Which path this machine can take.
#pragma once

#include "keccak.h"

namespace zg {

// All paths of this machine, narrowest first; ends with nullptr. Static storage.
const Kernels* const* available_kernels() noexcept;

// The path by name, or nullptr when it is unknown or the machine lacks it. An empty name or nullptr: the widest.
const Kernels* kernels_by_name(const char* name) noexcept;

}  // namespace zg
