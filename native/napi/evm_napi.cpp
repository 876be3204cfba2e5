// Binding of native/evm: checks arguments, calls, returns. lib/evm/native.ts is its only caller.
#include <napi.h>

namespace {

Napi::Object init(Napi::Env env, Napi::Object exports) {
  (void)env;
  return exports;
}

}  // namespace

NODE_API_MODULE(evm, init)
