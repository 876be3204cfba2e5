// 0x0b to 0x11 (EIP-2537): BLS12-381 on blst. A coordinate is 64 bytes, the first 16 zero, below p; all zeros are infinity. Points are checked to be on
// the curve everywhere, to be in the subgroup in sums of products and pairings.
#include <blst.h>

#include <algorithm>
#include <atomic>

#include "crypto/parallel.h"
#include "precompiles/ethereum.h"

namespace zg::precompile {
namespace {

constexpr size_t kCoordinate = 64, kScalar = 32;

bool decode_fp(const uint8_t* in, blst_fp& out) noexcept {
  static constexpr uint8_t kP[48] = {0x1a, 0x01, 0x11, 0xea, 0x39, 0x7f, 0xe6, 0x9a, 0x4b, 0x1b, 0xa7, 0xb6, 0x43, 0x4b, 0xac, 0xd7,
                                     0x64, 0x77, 0x4b, 0x84, 0xf3, 0x85, 0x12, 0xbf, 0x67, 0x30, 0xd2, 0xa0, 0xf6, 0xb0, 0xf6, 0x24,
                                     0x1e, 0xab, 0xff, 0xfe, 0xb1, 0x53, 0xff, 0xff, 0xb9, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xaa, 0xab};
  for (int i = 0; i < 16; ++i)
    if (in[i] != 0) return false;
  if (std::memcmp(in + 16, kP, 48) >= 0) return false;
  blst_fp_from_bendian(&out, in + 16);
  return true;
}
void encode_fp(const blst_fp& x, uint8_t* out) noexcept { blst_bendian_from_fp(out + 16, &x); }

// The two groups under one set of names.
struct G1 {
  using Affine = blst_p1_affine;
  using Point = blst_p1;
  static constexpr size_t kSize = 2 * kCoordinate;
  static constexpr uint64_t kAdd = 375, kMultiply = 12000;
  static const uint16_t kDiscount[128];
  static bool read(const uint8_t* in, Affine& p) noexcept { return decode_fp(in, p.x) && decode_fp(in + kCoordinate, p.y); }
  static void write(const Affine& p, uint8_t* out) noexcept {
    encode_fp(p.x, out);
    encode_fp(p.y, out + kCoordinate);
  }
  static constexpr auto is_infinity = blst_p1_affine_is_inf;
  static constexpr auto on_curve = blst_p1_affine_on_curve;
  static constexpr auto in_group = blst_p1_affine_in_g1;
  static constexpr auto to_point = blst_p1_from_affine;
  static constexpr auto to_affine = blst_p1_to_affine;
  static constexpr auto add = blst_p1_add_or_double_affine;
  static constexpr auto multiply = blst_p1_mult;
  static constexpr auto sum_of_products = blst_p1s_mult_pippenger;
  static constexpr auto scratch_size = blst_p1s_mult_pippenger_scratch_sizeof;
};
struct G2 {
  using Affine = blst_p2_affine;
  using Point = blst_p2;
  static constexpr size_t kSize = 4 * kCoordinate;
  static constexpr uint64_t kAdd = 600, kMultiply = 22500;
  static const uint16_t kDiscount[128];
  static bool read(const uint8_t* in, Affine& p) noexcept {
    return decode_fp(in, p.x.fp[0]) && decode_fp(in + kCoordinate, p.x.fp[1]) && decode_fp(in + 2 * kCoordinate, p.y.fp[0]) &&
           decode_fp(in + 3 * kCoordinate, p.y.fp[1]);
  }
  static void write(const Affine& p, uint8_t* out) noexcept {
    encode_fp(p.x.fp[0], out);
    encode_fp(p.x.fp[1], out + kCoordinate);
    encode_fp(p.y.fp[0], out + 2 * kCoordinate);
    encode_fp(p.y.fp[1], out + 3 * kCoordinate);
  }
  static constexpr auto is_infinity = blst_p2_affine_is_inf;
  static constexpr auto on_curve = blst_p2_affine_on_curve;
  static constexpr auto in_group = blst_p2_affine_in_g2;
  static constexpr auto to_point = blst_p2_from_affine;
  static constexpr auto to_affine = blst_p2_to_affine;
  static constexpr auto add = blst_p2_add_or_double_affine;
  static constexpr auto multiply = blst_p2_mult;
  static constexpr auto sum_of_products = blst_p2s_mult_pippenger;
  static constexpr auto scratch_size = blst_p2s_mult_pippenger_scratch_sizeof;
};

const uint16_t G1::kDiscount[128] = {
    1000, 949, 848, 797, 764, 750, 738, 728, 719, 712, 705, 698, 692, 687, 682, 677, 673, 669, 665, 661, 658, 654,
    651,  648, 645, 642, 640, 637, 635, 632, 630, 627, 625, 623, 621, 619, 617, 615, 613, 611, 609, 608, 606, 604,
    603,  601, 599, 598, 596, 595, 593, 592, 591, 589, 588, 586, 585, 584, 582, 581, 580, 579, 577, 576, 575, 574,
    573,  572, 570, 569, 568, 567, 566, 565, 564, 563, 562, 561, 560, 559, 558, 557, 556, 555, 554, 553, 552, 551,
    550,  549, 548, 547, 547, 546, 545, 544, 543, 542, 541, 540, 540, 539, 538, 537, 536, 536, 535, 534, 533, 532,
    532,  531, 530, 529, 528, 528, 527, 526, 525, 525, 524, 523, 522, 522, 521, 520, 520, 519};
const uint16_t G2::kDiscount[128] = {
    1000, 1000, 923, 884, 855, 832, 812, 796, 782, 770, 759, 749, 740, 732, 724, 717, 711, 704, 699, 693, 688, 683,
    679,  674,  670, 666, 663, 659, 655, 652, 649, 646, 643, 640, 637, 634, 632, 629, 627, 624, 622, 620, 618, 615,
    613,  611,  609, 607, 606, 604, 602, 600, 598, 597, 595, 593, 592, 590, 589, 587, 586, 584, 583, 582, 580, 579,
    578,  576,  575, 574, 573, 571, 570, 569, 568, 567, 566, 565, 563, 562, 561, 560, 559, 558, 557, 556, 555, 554,
    553,  552,  552, 551, 550, 549, 548, 547, 546, 545, 545, 544, 543, 542, 541, 541, 540, 539, 538, 537, 537, 536,
    535,  535,  534, 533, 532, 532, 531, 530, 530, 529, 528, 528, 527, 526, 526, 525, 524, 524};

template <class G>
bool decode(const uint8_t* in, typename G::Affine& p) noexcept {
  return G::read(in, p) && (G::is_infinity(&p) || G::on_curve(&p));
}

template <class G>
PrecompileResult point(uint64_t price, const typename G::Point& p) {
  typename G::Affine a;
  G::to_affine(&a, &p);
  Bytes out(G::kSize);
  if (!G::is_infinity(&a)) G::write(a, out.data());
  return success(price, std::move(out));
}

template <class G>
PrecompileResult add(ByteView input, uint64_t gas) {
  if (gas < G::kAdd) return out_of_gas(G::kAdd);
  typename G::Affine a, b;
  if (input.size() != 2 * G::kSize || !decode<G>(input.data(), a) || !decode<G>(input.data() + G::kSize, b)) return failure(gas);
  typename G::Point sum;
  G::to_point(&sum, &a);
  G::add(&sum, &sum, &b);
  return point<G>(G::kAdd, sum);
}

template <class G>
PrecompileResult msm(ByteView input, uint64_t gas) {
  constexpr size_t kItem = G::kSize + kScalar;
  const size_t count = input.size() / kItem;
  if (count == 0 || input.size() % kItem != 0) return failure(gas);
  const uint64_t price = count * G::kMultiply * G::kDiscount[std::min<size_t>(count, 128) - 1] / 1000;
  if (gas < price) return out_of_gas(price);

  std::vector<typename G::Affine> points(count);
  std::atomic<bool> good{true};
  // A check of the subgroup takes 50 µs and more: most of the work.
  parallel_for(count, 4, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end && good.load(std::memory_order_relaxed); ++i) {
      auto& p = points[i];
      if (!decode<G>(input.data() + i * kItem, p) || !(G::is_infinity(&p) || G::in_group(&p))) good.store(false, std::memory_order_relaxed);
    }
  });
  if (!good.load()) return failure(gas);

  std::vector<uint8_t> scalars(count * kScalar);  // little-endian, not reduced
  size_t live = 0;
  for (size_t i = 0; i < count; ++i) {
    if (G::is_infinity(&points[i])) continue;
    const uint8_t* k = input.data() + i * kItem + G::kSize;
    std::reverse_copy(k, k + kScalar, scalars.data() + live * kScalar);
    points[live++] = points[i];
  }
  typename G::Point sum{};
  if (live == 0) return success(price, Bytes(G::kSize));
  if (live == 1) {
    typename G::Point p;
    G::to_point(&p, &points[0]);
    G::multiply(&sum, &p, scalars.data(), 8 * kScalar);
  } else {
    std::vector<limb_t> scratch(G::scratch_size(live) / sizeof(limb_t) + 1);
    const typename G::Affine* const all[2] = {points.data(), nullptr};  // contiguous
    const uint8_t* const all_scalars[2] = {scalars.data(), nullptr};
    G::sum_of_products(&sum, all, live, all_scalars, 8 * kScalar, scratch.data());
  }
  return point<G>(price, sum);
}

}  // namespace

PrecompileResult bls_g1_add(ByteView input, uint64_t gas) { return add<G1>(input, gas); }
PrecompileResult bls_g2_add(ByteView input, uint64_t gas) { return add<G2>(input, gas); }
PrecompileResult bls_g1_msm(ByteView input, uint64_t gas) { return msm<G1>(input, gas); }
PrecompileResult bls_g2_msm(ByteView input, uint64_t gas) { return msm<G2>(input, gas); }

PrecompileResult bls_pairing(ByteView input, uint64_t gas) {
  constexpr size_t kItem = G1::kSize + G2::kSize;
  const size_t count = input.size() / kItem;
  if (count == 0 || input.size() % kItem != 0) return failure(gas);
  const uint64_t price = 37700 + 32600 * static_cast<uint64_t>(count);
  if (gas < price) return out_of_gas(price);

  std::atomic<bool> good{true};
  std::vector<blst_fp12> parts(count);
  parallel_for(count, 1, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end && good.load(std::memory_order_relaxed); ++i) {
      const uint8_t* at = input.data() + i * kItem;
      blst_p1_affine p;
      blst_p2_affine q;
      parts[i] = *blst_fp12_one();
      if (!decode<G1>(at, p) || !decode<G2>(at + G1::kSize, q)) {
        good.store(false, std::memory_order_relaxed);
        return;
      }
      const bool p_infinite = blst_p1_affine_is_inf(&p), q_infinite = blst_p2_affine_is_inf(&q);
      if ((!p_infinite && !blst_p1_affine_in_g1(&p)) || (!q_infinite && !blst_p2_affine_in_g2(&q))) {
        good.store(false, std::memory_order_relaxed);
        return;
      }
      if (!p_infinite && !q_infinite) blst_miller_loop(&parts[i], &q, &p);
    }
  });
  if (!good.load()) return failure(gas);
  blst_fp12 product = *blst_fp12_one();
  for (const blst_fp12& part : parts) blst_fp12_mul(&product, &product, &part);
  blst_final_exp(&product, &product);
  Bytes out(32);
  out[31] = blst_fp12_is_one(&product) ? 1 : 0;
  return success(price, std::move(out));
}

PrecompileResult bls_map_fp(ByteView input, uint64_t gas) {
  constexpr uint64_t kPrice = 5500;
  if (gas < kPrice) return out_of_gas(kPrice);
  blst_fp u;
  if (input.size() != kCoordinate || !decode_fp(input.data(), u)) return failure(gas);
  blst_p1 p;
  blst_map_to_g1(&p, &u, nullptr);
  return point<G1>(kPrice, p);
}

PrecompileResult bls_map_fp2(ByteView input, uint64_t gas) {
  constexpr uint64_t kPrice = 23800;
  if (gas < kPrice) return out_of_gas(kPrice);
  blst_fp2 u;
  if (input.size() != 2 * kCoordinate || !decode_fp(input.data(), u.fp[0]) || !decode_fp(input.data() + kCoordinate, u.fp[1]))
    return failure(gas);
  blst_p2 p;
  blst_map_to_g2(&p, &u, nullptr);
  return point<G2>(kPrice, p);
}

}  // namespace zg::precompile
