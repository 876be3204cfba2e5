// 0x06 to 0x08: the curve of EIP-196 and EIP-197.
#include "crypto/bn254.h"

#include <algorithm>

#include "precompiles/ethereum.h"

namespace zg::precompile {
namespace {

PrecompileResult point(uint64_t price, const bn254::G1& p) {
  Bytes out(64);
  bn254::encode_g1(p, out.data());
  return success(price, std::move(out));
}

PrecompileResult add(ByteView input, uint64_t gas, uint64_t price) {
  if (gas < price) return out_of_gas(price);
  uint8_t in[128];
  padded(input, 0, in, sizeof in);
  const auto a = bn254::decode_g1(in), b = bn254::decode_g1(in + 64);
  return a && b ? point(price, bn254::add(*a, *b)) : failure(gas);
}

PrecompileResult mul(ByteView input, uint64_t gas, uint64_t price) {
  if (gas < price) return out_of_gas(price);
  uint8_t in[96];
  padded(input, 0, in, sizeof in);
  const auto a = bn254::decode_g1(in);
  return a ? point(price, bn254::multiply(*a, U256::from_be(in + 64))) : failure(gas);
}

PrecompileResult pairing(ByteView input, uint64_t gas, uint64_t base, uint64_t each) {
  constexpr size_t kSize = 192;
  const uint64_t count = input.size() / kSize;
  const uint64_t price = base + each * count;
  if (gas < price) return out_of_gas(price);
  if (input.size() % kSize != 0) return failure(gas);
  std::vector<bn254::Pair> pairs;
  pairs.reserve(count);
  for (const uint8_t* at = input.data(); pairs.size() < count; at += kSize) {
    const auto p = bn254::decode_g1(at);
    if (!p) return failure(gas);
    const auto q = bn254::decode_g2(at + 64);
    if (!q) return failure(gas);
    pairs.push_back({*p, *q});
  }
  Bytes out(32);
  out[31] = bn254::pairing_check(pairs) ? 1 : 0;
  return success(price, std::move(out));
}

}  // namespace

PrecompileResult bn254_add_byzantium(ByteView input, uint64_t gas) { return add(input, gas, 500); }
PrecompileResult bn254_mul_byzantium(ByteView input, uint64_t gas) { return mul(input, gas, 40000); }
PrecompileResult bn254_pairing_byzantium(ByteView input, uint64_t gas) { return pairing(input, gas, 100000, 80000); }
PrecompileResult bn254_add_istanbul(ByteView input, uint64_t gas) { return add(input, gas, 150); }
PrecompileResult bn254_mul_istanbul(ByteView input, uint64_t gas) { return mul(input, gas, 6000); }
PrecompileResult bn254_pairing_istanbul(ByteView input, uint64_t gas) { return pairing(input, gas, 45000, 34000); }

}  // namespace zg::precompile
