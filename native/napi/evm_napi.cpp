// Binding of native/evm: checks arguments, calls, returns. lib/evm/native.ts is its only caller.
#include <napi.h>

#include "evm_precompile.h"

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  zg::register_precompile(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(evm, init)
