// The part of evm.node that serves the precompiles, for tests and tools.
#pragma once

#include <napi.h>

namespace zg {

// Adds `precompile` to the addon; see evm_precompile.cpp.
void register_precompile(Napi::Env env, Napi::Object exports);
// Adds `daSigners`; see evm_stateful.cpp. Called by register_precompile.
void register_stateful(Napi::Env env, Napi::Object exports);

}  // namespace zg
