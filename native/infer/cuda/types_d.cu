#include "launch.h"

#ifndef ZG_FEW_TYPES
namespace zg::simt {
ZG_LAUNCHES(, kQ4_1)
ZG_LAUNCHES(, kQ5_1)
ZG_LAUNCHES(, kQ5_0)
}  // namespace zg::simt
#endif
