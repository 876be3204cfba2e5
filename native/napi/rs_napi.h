// The part of codec.node that codes storage stripes.
#pragma once

#include <napi.h>

#include "keccak.h"

namespace zg {

// The object `rs` of the addon; see rs_napi.cpp.
Napi::Object rs_exports(Napi::Env env, const Kernels& kernels);

}  // namespace zg
