#include "launch.h"

namespace zg::simt {
ZG_LAUNCHES(, kQ6_K)
}  // namespace zg::simt
