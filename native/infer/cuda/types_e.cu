#include "launch.h"

#ifndef ZG_FEW_TYPES
namespace zg::simt {
ZG_LAUNCHES(, kQ2_K)
ZG_LAUNCHES(, kQ3_K)
}  // namespace zg::simt
#endif
