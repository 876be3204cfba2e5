// Montgomery products with the 52-bit multiply-add of AVX-512 IFMA, eight limbs of one number in a register. Numbers are limbs of 52 bits, least
// significant first, in arrays of size() words; values stay below twice the modulus. The reference is crypto/modexp.cpp's product of whole words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace zg {

class LaneModulus {
 public:
  // Words of 64 bits of a modulus that it takes.
  static constexpr size_t kWordsMax = 128;
  // Whether this CPU and system have it.
  static bool available() noexcept;

  // An odd modulus of at most kWordsMax words, the last not 0; only where it is available.
  explicit LaneModulus(std::span<const uint64_t> modulus);

  // Words of an array.
  [[nodiscard]] size_t size() const noexcept { return m_.size(); }
  // b of R = 2^b: a number x stands as x·R.
  [[nodiscard]] size_t r_bits() const noexcept { return 52 * limbs_; }
  // a·b/R, below twice the modulus when a and b are; at most the modulus when b is 1. `out` may be a or b.
  void multiply(uint64_t* out, const uint64_t* a, const uint64_t* b) const noexcept { product_(out, a, b, m_.data(), limbs_, minus_inverse_); }

  // Whole words to limbs, and back.
  [[nodiscard]] std::vector<uint64_t> limbs_of(std::span<const uint64_t> words) const;
  [[nodiscard]] std::vector<uint64_t> words_of(const std::vector<uint64_t>& limbs, size_t words) const;

  using Product = void (*)(uint64_t* out, const uint64_t* a, const uint64_t* b, const uint64_t* m, size_t limbs, uint64_t minus_inverse) noexcept;

 private:
  size_t limbs_;
  std::vector<uint64_t> m_;
  uint64_t minus_inverse_;
  Product product_;
};

}  // namespace zg
