// The fast paths of the precompiles' arithmetic against plain ones, on random and on awkward values: field of BN254, its scalar multiplication and
// pairing, modular exponentiation, BLAKE2b's F, SHA-256. Published vectors are elsewhere (test/conformance). Prints the seed; exit status 1: a difference.
//
//   crypto_test [SEED] [ROUNDS]        built like exec_fuzz, or by chain_build.sh
#include <cstdio>
#include <cstdlib>
#include <random>

#include "crypto/blake2f.h"
#include "crypto/bn254.h"
#include "crypto/modexp.h"
#include "crypto/sha256.h"

using namespace zg;

namespace {

std::mt19937_64 rng;

void check(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "crypto_test: %s differs\n", what);
  std::exit(1);
}

// Of all lengths, with edges: few bits, all bits, near the modulus.
U256 number() {
  U256 x{rng(), rng(), rng(), rng()};
  switch (rng() % 8) {
    case 0: return U256{rng() % 3};
    case 1: return bn254::kP - U256{1 + rng() % 3};
    case 2: return bn254::kR - U256{1 + rng() % 3};
    case 3: return x >> static_cast<unsigned>(rng() % 256);
    case 4: return U256{~uint64_t{0}, rng(), ~uint64_t{0}, ~uint64_t{0} >> 2};
    default: return x;
  }
}

void fields(uint64_t rounds) {
  using bn254::Fp;
  const auto any = [] {
    U256 x = number();
    while (x >= bn254::kP) x = x - bn254::kP;
    return Fp::raw(x);
  };
  for (uint64_t i = 0; i < rounds * 200; ++i) {
    const Fp a = any(), b = any();
    check(Fp::product(a, b) == a * b, "a product in the field");
    check(Fp::sum(a, b) == a + b, "a sum in the field");
    check(Fp::difference(a, b) == a - b, "a difference in the field");
    if (i % 64 == 0 && !a.is_zero()) check(a * a.inverse() == Fp::one(), "an inverse in the field");
  }
}

void curve(uint64_t rounds) {
  using namespace bn254;
  const auto same = [](const G1& a, const G1& b) { return a.infinity == b.infinity && (a.infinity || (a.x == b.x && a.y == b.y)); };
  for (uint64_t i = 0; i < rounds / 8 + 1; ++i) {
    const G1 p = multiply(g1_generator(), number());
    const U256 k = number();
    G1 slow{{}, {}, true};
    for (unsigned bit = k.bit_width(); bit-- > 0;) {
      slow = add(slow, slow);
      if ((k.w[bit / 64] >> (bit % 64) & 1) != 0) slow = add(slow, p);
    }
    check(same(multiply(p, k), slow), "a multiple of a point");
    // e(aP, Q) e(bP, Q) = e((a + b)P, Q)
    if (i % 8 != 0) continue;
    const U256 a = number() >> 1, b = number() >> 1;
    const G1 pa = multiply(p, a), pb = multiply(p, b), both = multiply(p, a + b);
    const G2 q = g2_generator();
    const Pair right[] = {{pa, q}, {pb, q}, {both.negated(), q}};
    check(pairing_check(right), "a pairing");
    const Pair wrong[] = {{pa, q}, {pb, q}, {add(both.negated(), p), q}};
    check(p.infinity || !pairing_check(wrong), "a wrong pairing");
  }
}

// Bit by bit, with bytes: as plain as can be.
Bytes slow_modexp(const Bytes& base, const Bytes& e, const Bytes& m) {
  const size_t n = m.size();
  bool zero = true, one = true;
  for (size_t i = 0; i < n; ++i) zero = zero && m[i] == 0, one = one && m[i] == (i + 1 == n ? 1 : 0);
  if (zero || one) return Bytes(n);
  const auto less = [&](const Bytes& a) {  // a has a byte more than m
    if (a[0] != 0) return false;
    for (size_t i = 0; i < n; ++i)
      if (a[i + 1] != m[i]) return a[i + 1] < m[i];
    return false;
  };
  const auto twice_plus = [&](Bytes& a, const Bytes* plus, unsigned bit) {  // a = 2a + bit or a + plus, mod m
    unsigned carry = bit;
    for (size_t i = n + 1; i-- > 0;) {
      const unsigned s = plus == nullptr ? 2u * a[i] + carry : static_cast<unsigned>(a[i]) + (*plus)[i] + carry;
      a[i] = static_cast<uint8_t>(s);
      carry = s >> 8;
    }
    if (less(a)) return;
    int borrow = 0;
    for (size_t i = n + 1; i-- > 0;) {
      const int d = a[i] - (i == 0 ? 0 : m[i - 1]) - borrow;
      a[i] = static_cast<uint8_t>(d);
      borrow = d < 0 ? 1 : 0;
    }
  };
  const auto times = [&](const Bytes& a, const Bytes& b) {
    Bytes r(n + 1);
    for (const uint8_t x : a)
      for (int bit = 7; bit >= 0; --bit) {
        twice_plus(r, nullptr, 0);
        if ((x >> bit & 1) != 0) twice_plus(r, &b, 0);
      }
    return r;
  };
  Bytes b(n + 1), r(n + 1);
  for (const uint8_t x : base)
    for (int bit = 7; bit >= 0; --bit) twice_plus(b, nullptr, x >> bit & 1);
  r[n] = 1;
  for (const uint8_t x : e)
    for (int bit = 7; bit >= 0; --bit) {
      r = times(r, r);
      if ((x >> bit & 1) != 0) r = times(r, b);
    }
  return Bytes(r.begin() + 1, r.end());
}

void exponents(uint64_t rounds) {
  const auto bytes = [](size_t n) {
    Bytes b(n);
    const uint64_t kind = rng() % 6;
    for (uint8_t& x : b) x = kind == 0 ? 0xff : kind == 1 ? 0 : static_cast<uint8_t>(rng());
    if (kind == 1 && n > 0) b[rng() % n] = static_cast<uint8_t>(1u << rng() % 8);
    return b;
  };
  for (uint64_t i = 0; i < rounds; ++i) {
    Bytes base = bytes(rng() % 20), e = bytes(rng() % 6), m = bytes(rng() % 18);
    const Bytes fast = modexp(base, e, m);
    check(fast == slow_modexp(base, e, m) && fast == modexp_plain(base, e, m), "a power modulo a small number");
    base = bytes(rng() % 300), e = bytes(rng() % (i % 8 == 0 ? 64 : 24)), m = bytes(1 + rng() % (i % 64 == 0 ? 1024 : 300));
    if (rng() % 3 == 0) m.back() = 0;
    check(modexp(base, e, m) == modexp_plain(base, e, m), "a power modulo a large number");
  }
}

void hashes(uint64_t rounds) {
  for (uint64_t i = 0; i < rounds * 4; ++i) {
    uint64_t h[8], m[16], t[2] = {rng(), rng()};
    for (uint64_t& x : h) x = rng();
    for (uint64_t& x : m) x = rng();
    const auto n = static_cast<uint32_t>(rng() % 45);
    const bool last = rng() % 2 == 0;
    uint64_t want[8];
    std::copy(h, h + 8, want);
    blake2f_plain(n, want, m, t, last);
    for (const Blake2fFn path : blake2f_paths()) {
      uint64_t got[8];
      std::copy(h, h + 8, got);
      path(n, got, m, t, last);
      check(std::equal(got, got + 8, want), "BLAKE2b's F");
    }
    Bytes data(rng() % 300);
    for (uint8_t& x : data) x = static_cast<uint8_t>(rng());
    check(sha256(data) == sha256_plain(data), "SHA-256");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 0) : std::random_device{}();
  const uint64_t rounds = argc > 2 ? std::strtoull(argv[2], nullptr, 0) : 500;
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  rng.seed(seed);
  fields(rounds);
  curve(rounds);
  exponents(rounds);
  hashes(rounds);
  std::printf("%llu rounds, 0 differences\n", static_cast<unsigned long long>(rounds));
  return 0;
}
