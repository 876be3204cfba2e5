// The sampler on each level of CPU against inference.md 7.1 written down plainly, and its speed. Parts of the check program.
#pragma once

#include <cstdint>

namespace zg::infer {

// Random cases; 0 when every level draws what the plain way draws.
int check_choices(uint64_t count, uint64_t seed);
// Prints microseconds a token for a few settings, as JSON.
int time_choices(uint32_t vocabulary);

}  // namespace zg::infer
