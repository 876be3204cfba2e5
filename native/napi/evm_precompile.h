// The part of evm.node that serves the precompiles, for tests and tools.
#pragma once

#include <napi.h>

namespace zg {

// Adds `precompile` to the addon; see evm_precompile.cpp.
void register_precompile(Napi::Env env, Napi::Object exports);

}  // namespace zg
