// precompile(revision: string, address: number, input: Uint8Array, gas: bigint) → {ok, gasUsed: bigint, output: Uint8Array}, or undefined where the
// revision has none at the address. Synchronous: up to milliseconds for pairings.
#include "evm_precompile.h"

#include "precompiles/precompiles.h"

namespace zg {
namespace {

Napi::Value fail(Napi::Env env, const char* text) {
  Napi::TypeError::New(env, text).ThrowAsJavaScriptException();
  return env.Undefined();
}

Napi::Value precompile(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() != 4 || !info[0].IsString() || !info[1].IsNumber() || !info[2].IsTypedArray() || !info[3].IsBigInt())
    return fail(env, "precompile wants revision, address, input, gas");
  const auto revision = revision_named(info[0].As<Napi::String>().Utf8Value());
  if (!revision) return fail(env, "unknown revision");
  const double number = info[1].As<Napi::Number>().DoubleValue();
  if (!(number >= 0 && number <= 0xffff) || number != static_cast<double>(static_cast<uint32_t>(number)))
    return fail(env, "address must be an integer up to 65535");
  const auto input = info[2].As<Napi::TypedArray>();
  if (input.TypedArrayType() != napi_uint8_array) return fail(env, "input must be a Uint8Array");
  bool lossless = false;
  const uint64_t gas = info[3].As<Napi::BigInt>().Uint64Value(&lossless);
  if (!lossless) return fail(env, "gas must fit into 64 bits");

  Address address{};
  address.b[18] = static_cast<uint8_t>(static_cast<uint32_t>(number) >> 8);
  address.b[19] = static_cast<uint8_t>(static_cast<uint32_t>(number));
  const PrecompileFn fn = find_precompile(*revision, address);
  if (fn == nullptr) return env.Undefined();
  const auto bytes = info[2].As<Napi::Uint8Array>();
  const PrecompileResult r = fn({bytes.Data(), bytes.ByteLength()}, gas);
  Napi::Object out = Napi::Object::New(env);
  out.Set("ok", Napi::Boolean::New(env, r.ok));
  out.Set("gasUsed", Napi::BigInt::New(env, r.gas_used));
  Napi::Uint8Array data = Napi::Uint8Array::New(env, r.output.size());
  if (!r.output.empty()) std::memcpy(data.Data(), r.output.data(), r.output.size());
  out.Set("output", data);
  return out;
}

}  // namespace

void register_precompile(Napi::Env env, Napi::Object exports) {
  exports.Set("precompile", Napi::Function::New(env, precompile, "precompile"));
  register_stateful(env, exports);
}

}  // namespace zg
