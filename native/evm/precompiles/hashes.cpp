// 0x01 to 0x04, 0x09 and 0x100: signatures, hashes, and the copy.
#include <algorithm>

#include "crypto/blake2f.h"
#include "crypto/p256.h"
#include "crypto/ripemd160.h"
#include "crypto/secp256k1.h"
#include "crypto/sha256.h"
#include "precompiles/ethereum.h"

namespace zg::precompile {
namespace {

uint64_t by_words(ByteView input, uint64_t base, uint64_t per_word) noexcept { return base + per_word * ((input.size() + 31) / 32); }

}  // namespace

PrecompileResult ecrecover(ByteView input, uint64_t gas) {
  constexpr uint64_t kPrice = 3000;
  if (gas < kPrice) return out_of_gas(kPrice);
  uint8_t in[128];
  padded(input, 0, in, sizeof in);
  const U256 v = U256::from_be(in + 32);
  if (!(v == U256{27}) && !(v == U256{28})) return success(kPrice, {});
  const auto who = recover(Hash::from(in), U256::from_be(in + 64), U256::from_be(in + 96), v.low() == 28);
  if (!who) return success(kPrice, {});
  Bytes out(32);
  std::memcpy(out.data() + 12, who->b, 20);
  return success(kPrice, std::move(out));
}

PrecompileResult sha256_hash(ByteView input, uint64_t gas) {
  const uint64_t price = by_words(input, 60, 12);
  if (gas < price) return out_of_gas(price);
  const Hash h = sha256(input);
  return success(price, Bytes(h.b, h.b + 32));
}

PrecompileResult ripemd160_hash(ByteView input, uint64_t gas) {
  const uint64_t price = by_words(input, 600, 120);
  if (gas < price) return out_of_gas(price);
  const auto h = ripemd160(input);
  Bytes out(32);
  std::memcpy(out.data() + 12, h.b, 20);
  return success(price, std::move(out));
}

PrecompileResult identity(ByteView input, uint64_t gas) {
  const uint64_t price = by_words(input, 15, 3);
  if (gas < price) return out_of_gas(price);
  return success(price, Bytes(input.begin(), input.end()));
}

PrecompileResult blake2_f(ByteView input, uint64_t gas) {
  if (input.size() != 213 || input[212] > 1) return failure(gas);
  const uint32_t rounds =
      static_cast<uint32_t>(input[0]) << 24 | static_cast<uint32_t>(input[1]) << 16 | static_cast<uint32_t>(input[2]) << 8 | input[3];
  if (gas < rounds) return out_of_gas(rounds);
  uint64_t h[8], m[16], t[2];
  std::memcpy(h, input.data() + 4, sizeof h);
  std::memcpy(m, input.data() + 68, sizeof m);
  std::memcpy(t, input.data() + 196, sizeof t);
  blake2f(rounds, h, m, t, input[212] == 1);
  Bytes out(64);
  std::memcpy(out.data(), h, 64);
  return success(rounds, std::move(out));
}

PrecompileResult p256_check(ByteView input, uint64_t gas) {
  constexpr uint64_t kPrice = 6900;
  if (gas < kPrice) return out_of_gas(kPrice);
  if (input.size() != 160) return success(kPrice, {});
  const uint8_t* p = input.data();
  if (!p256_verify(Hash::from(p), U256::from_be(p + 32), U256::from_be(p + 64), U256::from_be(p + 96), U256::from_be(p + 128)))
    return success(kPrice, {});
  Bytes out(32);
  out[31] = 1;
  return success(kPrice, std::move(out));
}

}  // namespace zg::precompile
