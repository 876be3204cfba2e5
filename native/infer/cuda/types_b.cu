#include "launch.h"

namespace zg::simt {
ZG_LAUNCHES(, kQ4_K)
}  // namespace zg::simt
