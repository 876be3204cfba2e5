// The part of evm.node that signs for load drivers and development accounts.
#pragma once

#include <napi.h>

namespace zg {

// Adds `signMany` to the addon; see evm_sign.cpp.
void register_sign(Napi::Env env, Napi::Object exports);

}  // namespace zg
