#include "launch.h"

#ifndef ZG_FEW_TYPES
namespace zg::simt {
ZG_LAUNCHES(, kIQ4_NL)
ZG_LAUNCHES(, kIQ4_XS)
}  // namespace zg::simt
#endif
