// The part of codec.node that serves data availability.
#pragma once

#include <napi.h>

#include "keccak.h"

namespace zg {

// The object `da` of the addon; see da_napi.cpp.
Napi::Object da_exports(Napi::Env env, const Kernels& kernels);

}  // namespace zg
