// The wrapped token's base at 0x…1002 (chain.md 4.3): the only place, fees and rewards apart, where native supply appears or vanishes.
#pragma once

#include <memory>

#include "precompiles/precompiles.h"

namespace zg {

// `w0g` may mint and burn, `agency` sets the caps of minters.
std::shared_ptr<const StatefulPrecompile> make_wrapped_base(const Address& w0g, const Address& agency);

}  // namespace zg
