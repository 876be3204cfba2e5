// RIPEMD-160 (Dobbertin, Bosselaers, Preneel 1996). Thread safe.
#pragma once

#include "base/types.h"

namespace zg {

Fixed<20> ripemd160(ByteView data) noexcept;

}  // namespace zg
