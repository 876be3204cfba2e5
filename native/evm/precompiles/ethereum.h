// The functions behind find_precompile, by subject. Each charges before it works and refuses what is too expensive at once. Thread safe.
#pragma once

#include "precompiles/precompiles.h"

namespace zg::precompile {

// All gas is gone.
inline PrecompileResult failure(uint64_t gas) { return {false, gas, {}}; }
// The price was above the gas given.
inline PrecompileResult out_of_gas(uint64_t price) { return {false, price, {}}; }
inline PrecompileResult success(uint64_t price, Bytes output) { return {true, price, std::move(output)}; }
// Copies input[from, from + size), zeros behind its end (Yellow Paper, appendix E: input is as if infinitely padded).
inline void padded(ByteView input, size_t from, uint8_t* out, size_t size) noexcept {
  if (size == 0) return;
  std::memset(out, 0, size);
  if (from < input.size()) std::memcpy(out, input.data() + from, std::min(size, input.size() - from));
}

PrecompileResult ecrecover(ByteView input, uint64_t gas);
PrecompileResult sha256_hash(ByteView input, uint64_t gas);
PrecompileResult ripemd160_hash(ByteView input, uint64_t gas);
PrecompileResult identity(ByteView input, uint64_t gas);
PrecompileResult blake2_f(ByteView input, uint64_t gas);         // EIP-152
PrecompileResult p256_check(ByteView input, uint64_t gas);       // EIP-7951

PrecompileResult modexp_byzantium(ByteView input, uint64_t gas);  // EIP-198
PrecompileResult modexp_berlin(ByteView input, uint64_t gas);     // EIP-2565
PrecompileResult modexp_osaka(ByteView input, uint64_t gas);      // EIP-7883, EIP-7823

// EIP-196, EIP-197; prices of Istanbul: EIP-1108.
PrecompileResult bn254_add_byzantium(ByteView input, uint64_t gas);
PrecompileResult bn254_mul_byzantium(ByteView input, uint64_t gas);
PrecompileResult bn254_pairing_byzantium(ByteView input, uint64_t gas);
PrecompileResult bn254_add_istanbul(ByteView input, uint64_t gas);
PrecompileResult bn254_mul_istanbul(ByteView input, uint64_t gas);
PrecompileResult bn254_pairing_istanbul(ByteView input, uint64_t gas);

PrecompileResult point_evaluation(ByteView input, uint64_t gas);  // EIP-4844

// EIP-2537.
PrecompileResult bls_g1_add(ByteView input, uint64_t gas);
PrecompileResult bls_g1_msm(ByteView input, uint64_t gas);
PrecompileResult bls_g2_add(ByteView input, uint64_t gas);
PrecompileResult bls_g2_msm(ByteView input, uint64_t gas);
PrecompileResult bls_pairing(ByteView input, uint64_t gas);
PrecompileResult bls_map_fp(ByteView input, uint64_t gas);
PrecompileResult bls_map_fp2(ByteView input, uint64_t gas);

}  // namespace zg::precompile
