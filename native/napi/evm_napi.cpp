// Binding of native/evm: checks arguments, calls, returns. lib/evm/native.ts is its only caller.
#include <napi.h>

#include "evm_precompile.h"
#include "evm_sign.h"
#include "evm_tests.h"

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  zg::register_precompile(env, exports);
  zg::register_sign(env, exports);
  register_evm_tests(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(evm, init)
