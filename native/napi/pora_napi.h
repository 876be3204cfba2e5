// The part of codec.node that seals data and searches for proofs of random access.
#pragma once

#include <napi.h>

#include "keccak.h"

namespace zg {

// The object `pora` of the addon; see pora_napi.cpp.
Napi::Object pora_exports(Napi::Env env, const Kernels& kernels);

}  // namespace zg
