// 0x05: modular powers under three gas rules.
#include "crypto/modexp.h"

#include <algorithm>

#include "precompiles/ethereum.h"

namespace zg::precompile {
namespace {

using u128 = unsigned __int128;

// No block could pay for a complexity above it.
constexpr uint64_t kTooComplex = uint64_t{1} << 60;

// Bytes of a number that is worked on. A longer exponent costs more than 10^8 gas under every rule, a longer base or modulus far more: no block has that
// much, only a caller of a node might, who must not make it allocate without bound.
constexpr uint64_t kLongest = uint64_t{1} << 28;

struct Rule {
  u128 (*complexity)(uint64_t longest);
  uint64_t exponent_byte;  // weight of an exponent's byte beyond 32
  uint64_t divisor;
  uint64_t least;
  bool bounded;  // EIP-7823
};

u128 squares_of_bytes(uint64_t x) {
  const u128 n = x;
  if (x <= 64) return n * n;
  if (x <= 1024) return n * n / 4 + 96 * n - 3072;
  return n * n / 16 + 480 * n - 199680;
}
u128 squares_of_words(uint64_t x) {
  const u128 words = (static_cast<u128>(x) + 7) / 8;
  return words * words;
}
u128 doubled_beyond_32(uint64_t x) { return x <= 32 ? 16 : 2 * squares_of_words(x); }

constexpr Rule kByzantium{squares_of_bytes, 8, 20, 0, false};
constexpr Rule kBerlin{squares_of_words, 8, 3, 200, false};
constexpr Rule kOsaka{doubled_beyond_32, 16, 1, 500, true};

PrecompileResult run(ByteView input, uint64_t gas, const Rule& rule) {
  uint8_t head[96];
  padded(input, 0, head, sizeof head);
  const uint64_t base_size = U256::from_be(head).saturated();
  const uint64_t exponent_size = U256::from_be(head + 32).saturated();
  const uint64_t modulus_size = U256::from_be(head + 64).saturated();
  if (rule.bounded && (base_size > 1024 || exponent_size > 1024 || modulus_size > 1024)) return failure(gas);

  const uint64_t longest = std::max(base_size, modulus_size);
  const u128 complexity = longest > kTooComplex ? static_cast<u128>(kTooComplex) + 1 : rule.complexity(longest);
  if (complexity > kTooComplex) return out_of_gas(~uint64_t{0});
  // The exponent's first 32 bytes stand behind the base: sizes are small now, or the base is empty.
  uint8_t top[32] = {};
  const uint64_t top_size = std::min<uint64_t>(exponent_size, 32);
  padded(input, 96 + base_size, top + 32 - top_size, top_size);
  const unsigned bits = U256::from_be(top).bit_width();
  u128 iterations = bits == 0 ? 0 : bits - 1;
  if (exponent_size > 32) iterations += static_cast<u128>(exponent_size - 32) * rule.exponent_byte;
  iterations = std::max<u128>(iterations, 1);
  if (iterations > ~uint64_t{0} && complexity != 0) return out_of_gas(~uint64_t{0});
  const u128 product = complexity == 0 ? 0 : complexity * iterations / rule.divisor;
  const u128 price = std::max<u128>(product, rule.least);
  if (price > gas) return out_of_gas(price > ~uint64_t{0} ? ~uint64_t{0} : static_cast<uint64_t>(price));
  const auto paid = static_cast<uint64_t>(price);

  if (modulus_size == 0) return success(paid, {});
  if (exponent_size > kLongest || longest > kLongest) return out_of_gas(~uint64_t{0});
  const auto number = [input](uint64_t from, uint64_t size) {
    Bytes b(size);
    padded(input, from, b.data(), size);
    return b;
  };
  return success(paid, zg::modexp(number(96, base_size), number(96 + base_size, exponent_size),
                                  number(96 + base_size + exponent_size, modulus_size)));
}

}  // namespace

PrecompileResult modexp_byzantium(ByteView input, uint64_t gas) { return run(input, gas, kByzantium); }
PrecompileResult modexp_berlin(ByteView input, uint64_t gas) { return run(input, gas, kBerlin); }
PrecompileResult modexp_osaka(ByteView input, uint64_t gas) { return run(input, gas, kOsaka); }

}  // namespace zg::precompile
