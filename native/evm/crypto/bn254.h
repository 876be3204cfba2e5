// BN254 (alt_bn128): groups and pairing for the precompiles of EIP-196 and EIP-197 and for the signer keys of data availability. Variable
// time, for public values. Thread safe.
#pragma once

#include <optional>
#include <span>

#include "crypto/bn254_tower.h"
#include "crypto/curve.h"

namespace zg::bn254 {

using G1 = Affine<Fp>;   // y² = x³ + 3
using G2 = Affine<Fp2>;  // y² = x³ + 3/ξ

// 64 bytes, big-endian x ‖ y; zeros are infinity. Nothing for a coordinate ≥ p or a point off the curve.
std::optional<G1> decode_g1(const uint8_t in[64]) noexcept;
void encode_g1(const G1& p, uint8_t out[64]) noexcept;
// 128 bytes, x.imaginary ‖ x.real ‖ y.imaginary ‖ y.real (EIP-197). Also nothing outside the subgroup of order r.
std::optional<G2> decode_g2(const uint8_t in[128]) noexcept;

G1 g1_generator() noexcept;
G2 g2_generator() noexcept;
G1 add(const G1& a, const G1& b) noexcept;
G1 multiply(const G1& p, const U256& k) noexcept;  // k below 2^256
G1 sum(std::span<const G1> points) noexcept;

struct Pair {
  G1 p;
  G2 q;
};
// Whether the product of e(p, q) is 1.
bool pairing_check(std::span<const Pair> pairs) noexcept;

}  // namespace zg::bn254
