// signMany(digests: Uint8Array, keys: Uint8Array) → Uint8Array: n digests of 32 bytes with n keys of 32 bytes, and for each r ‖ s ‖ parity (65 bytes);
// deterministic, low s. All zeros where the key is none. Spread over all cores, about 30 µs each. The keys pass through plain memory: for keys that guard
// nothing, such as a load driver's.
#include "evm_sign.h"

#include "crypto/parallel.h"
#include "crypto/secp256k1.h"

namespace zg {
namespace {

Napi::Value sign_many(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto bytes = [&](size_t i) {
    return info.Length() > i && info[i].IsTypedArray() && info[i].As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array;
  };
  if (!bytes(0) || !bytes(1)) {
    Napi::TypeError::New(env, "signMany wants digests and keys").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const auto digests = info[0].As<Napi::Uint8Array>();
  const auto keys = info[1].As<Napi::Uint8Array>();
  const size_t n = digests.ByteLength() / 32;
  if (digests.ByteLength() != n * 32 || keys.ByteLength() != n * 32) {
    Napi::TypeError::New(env, "as many digests as keys, 32 bytes each").ThrowAsJavaScriptException();
    return env.Undefined();
  }
  Napi::Uint8Array out = Napi::Uint8Array::New(env, n * 65);
  if (env.IsExceptionPending()) return env.Undefined();
  const uint8_t* digest = digests.Data();
  const uint8_t* key = keys.Data();
  uint8_t* to = out.Data();
  parallel_for(n, 16, [&](size_t from, size_t end) {
    for (size_t i = from; i < end; ++i) {
      Hash d{}, k{};
      std::memcpy(d.b, digest + i * 32, 32);
      std::memcpy(k.b, key + i * 32, 32);
      const auto signature = sign(d, k);
      uint8_t* place = to + i * 65;
      if (!signature) {
        std::memset(place, 0, 65);
        continue;
      }
      signature->r.to_be(place);
      signature->s.to_be(place + 32);
      place[64] = signature->y_parity ? 1 : 0;
    }
  });
  return out;
}

}  // namespace

void register_sign(Napi::Env env, Napi::Object exports) { exports.Set("signMany", Napi::Function::New(env, sign_many, "signMany")); }

}  // namespace zg
