// SHA-256 (FIPS 180-4): with the CPU's SHA extensions where it has them, chosen at run time. Thread safe.
#pragma once

#include "base/types.h"

namespace zg {

Hash sha256(ByteView data) noexcept;
// Both paths give the same; for tests. False when this CPU lacks the extensions.
bool sha256_wide(ByteView data, Hash& out) noexcept;
Hash sha256_plain(ByteView data) noexcept;

}  // namespace zg
