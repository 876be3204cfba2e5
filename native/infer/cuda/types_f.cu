#include "launch.h"

#ifndef ZG_FEW_TYPES
namespace zg::simt {
ZG_LAUNCHES(, kQ5_K)
ZG_LAUNCHES(, kMXFP4)
}  // namespace zg::simt
#endif
