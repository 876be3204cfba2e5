// 0x0a (EIP-4844): that a blob's polynomial with commitment C has the value y at z, by one pairing product on blst:
// e(C − y·G1, −G2) · e(π, [τ]G2 − z·G2) = 1.
#include <blst.h>

#include "crypto/sha256.h"
#include "precompiles/ethereum.h"

namespace zg::precompile {
namespace {

// [τ]G2 of the KZG ceremony, compressed: the second point of G2 in its trusted setup.
constexpr uint8_t kTauG2[96] = {
    0xb5, 0xbf, 0xd7, 0xdd, 0x8c, 0xde, 0xb1, 0x28, 0x84, 0x3b, 0xc2, 0x87, 0x23, 0x0a, 0xf3, 0x89, 0x26, 0x18, 0x70, 0x75, 0xcb, 0xfb, 0xef, 0xa8,
    0x10, 0x09, 0xa2, 0xce, 0x61, 0x5a, 0xc5, 0x3d, 0x29, 0x14, 0xe5, 0x87, 0x0c, 0xb4, 0x52, 0xd2, 0xaf, 0xaa, 0xab, 0x24, 0xf3, 0x49, 0x9f, 0x72,
    0x18, 0x5c, 0xbf, 0xee, 0x53, 0x49, 0x27, 0x14, 0x73, 0x44, 0x29, 0xb7, 0xb3, 0x86, 0x08, 0xe2, 0x39, 0x26, 0xc9, 0x11, 0xcc, 0xec, 0xea, 0xc9,
    0xa3, 0x68, 0x51, 0x47, 0x7b, 0xa4, 0xc6, 0x0b, 0x08, 0x70, 0x41, 0xde, 0x62, 0x10, 0x00, 0xed, 0xc9, 0x8e, 0xda, 0xda, 0x20, 0xc1, 0xde, 0xf2};

constexpr uint8_t kModulus[32] = {
    0x73, 0xed, 0xa7, 0x53, 0x29, 0x9d, 0x7d, 0x48, 0x33, 0x39, 0xd8, 0x08, 0x09, 0xa1, 0xd8, 0x05,
    0x53, 0xbd, 0xa4, 0x02, 0xff, 0xfe, 0x5b, 0xfe, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x01};
constexpr uint32_t kFieldElements = 4096;

const blst_p2_affine& tau_g2() noexcept {
  static const blst_p2_affine point = [] {
    blst_p2_affine p;
    blst_p2_uncompress(&p, kTauG2);
    return p;
  }();
  return point;
}

bool decode(const uint8_t in[48], blst_p1_affine& out) noexcept {
  return blst_p1_uncompress(&out, in) == BLST_SUCCESS && (blst_p1_affine_is_inf(&out) || blst_p1_affine_in_g1(&out));
}

// Below the order, as little-endian bytes for blst.
bool scalar(const uint8_t in[32], uint8_t out[32]) noexcept {
  if (std::memcmp(in, kModulus, 32) >= 0) return false;
  for (int i = 0; i < 32; ++i) out[i] = in[31 - i];
  return true;
}

bool verify(const uint8_t commitment[48], const uint8_t z_be[32], const uint8_t y_be[32], const uint8_t proof[48]) noexcept {
  uint8_t z[32], y[32];
  blst_p1_affine c, pi;
  if (!scalar(z_be, z) || !scalar(y_be, y) || !decode(commitment, c) || !decode(proof, pi)) return false;

  blst_p1 value;
  blst_p1_mult(&value, blst_p1_generator(), y, 255);
  blst_p1_cneg(&value, true);
  blst_p1_add_or_double_affine(&value, &value, &c);
  blst_p2 shift;
  blst_p2_mult(&shift, blst_p2_generator(), z, 255);
  blst_p2_cneg(&shift, true);
  blst_p2_add_or_double_affine(&shift, &shift, &tau_g2());

  blst_p1_affine left;
  blst_p1_to_affine(&left, &value);
  blst_p2_affine right, minus_g2;
  blst_p2_to_affine(&right, &shift);
  blst_p2 negated = *blst_p2_generator();
  blst_p2_cneg(&negated, true);
  blst_p2_to_affine(&minus_g2, &negated);

  blst_fp12 product = *blst_fp12_one(), one;
  if (!blst_p1_affine_is_inf(&left)) blst_miller_loop(&product, &minus_g2, &left);
  if (!blst_p1_affine_is_inf(&pi) && !blst_p2_affine_is_inf(&right)) {
    blst_miller_loop(&one, &right, &pi);
    blst_fp12_mul(&product, &product, &one);
  }
  blst_final_exp(&product, &product);
  return blst_fp12_is_one(&product);
}

}  // namespace

PrecompileResult point_evaluation(ByteView input, uint64_t gas) {
  constexpr uint64_t kPrice = 50000;
  if (gas < kPrice) return out_of_gas(kPrice);
  if (input.size() != 192) return failure(gas);
  const uint8_t* p = input.data();
  Hash versioned = sha256({p + 96, 48});
  versioned.b[0] = 1;
  if (std::memcmp(versioned.b, p, 32) != 0 || !verify(p + 96, p + 32, p + 64, p + 144)) return failure(gas);
  Bytes out(64);
  U256{kFieldElements}.to_be(out.data());
  std::memcpy(out.data() + 32, kModulus, 32);
  return success(kPrice, std::move(out));
}

}  // namespace zg::precompile
