#include "launch.h"

namespace zg::simt {
ZG_LAUNCHES(, kQ8_0)
ZG_LAUNCHES(, kQ4_0)
}  // namespace zg::simt
