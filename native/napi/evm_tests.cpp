// Binding of native/evm/exec/conformance.h.
#include "evm_tests.h"

#include "exec/conformance.h"

namespace {

// conformance(kind: string, request: Uint8Array): Buffer. Throws a TypeError for anything else.
Napi::Value conformance(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() != 2 || !info[0].IsString() || !info[1].IsTypedArray() ||
      info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array) {
    Napi::TypeError::New(env, "conformance(kind, request)").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const std::string kind = info[0].As<Napi::String>().Utf8Value();
  const auto request = info[1].As<Napi::Uint8Array>();
  const zg::Bytes answer = zg::run_conformance(kind, {request.Data(), request.ByteLength()});
  return Napi::Buffer<uint8_t>::Copy(env, answer.data(), answer.size());
}

}  // namespace

void register_evm_tests(Napi::Env env, Napi::Object exports) { exports.Set("conformance", Napi::Function::New(env, conformance)); }
