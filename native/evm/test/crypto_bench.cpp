// CPU times of the precompiles' arithmetic, best of several rounds. Answers are proved elsewhere (test/native/precompiles.test.ts).
// Build: g++ -std=c++20 -O3 -Inative/evm -Inative/codec native/evm/test/crypto_bench.cpp native/evm/crypto/{bn254,field256,modexp,modexp_lanes,p256,sha256}.cpp native/evm/base/types.cpp
#include <cstdio>
#include <ctime>

#include "crypto/bn254.h"
#include "crypto/modexp.h"
#include "crypto/p256.h"
#include "crypto/sha256.h"

using namespace zg;

namespace {

volatile uint64_t sink;

double cpu_us() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
}

template <class F>
void timed(const char* what, int times, F&& fn) {
  double best = 1e12;
  for (int round = 0; round < 7; ++round) {
    const double t0 = cpu_us();
    for (int i = 0; i < times; ++i) fn(i);
    const double us = (cpu_us() - t0) / times;
    if (us < best) best = us;
  }
  std::printf("%-28s %10.2f us\n", what, best);
}

}  // namespace

int main() {
  using namespace bn254;
  const U256 k{0x123456789abcdef1ULL, 0xfedcba9876543211ULL, 0x1122334455667788ULL, 0x29aabbccddeeff00ULL};
  const G1 p = multiply(g1_generator(), k);
  uint8_t raw1[64], raw2[64];
  encode_g1(p, raw1);
  encode_g1(g1_generator(), raw2);
  timed("bn254 add, decoded", 1000, [&](int) {
    uint8_t out[64];
    encode_g1(add(*decode_g1(raw1), *decode_g1(raw2)), out);
    sink = sink + out[63];
  });
  timed("bn254 mul", 200, [&](int i) { sink = sink + multiply(p, k + U256{static_cast<uint64_t>(i)}).x.v.w[0]; });
  const G2 q = g2_generator();
  uint8_t raw[128];
  q.x.b.number().to_be(raw);
  q.x.a.number().to_be(raw + 32);
  q.y.b.number().to_be(raw + 64);
  q.y.a.number().to_be(raw + 96);
  timed("bn254 decode of G2", 50, [&](int) { sink = sink + decode_g2(raw)->x.a.v.w[0]; });
  const Pair pairs[2] = {{p, q}, {p.negated(), q}};
  timed("bn254 check of two pairs", 10, [&](int) { sink = sink + pairing_check(pairs); });
  timed("field inverse", 1000, [&](int) { sink = sink + p.x.inverse().v.w[0]; });
  for (const size_t size : {32, 64, 96, 128, 256, 512, 1024}) {
    Bytes b(size, 0xb7), e(size, 0xff), m(size, 0xf9);
    char name[40];
    std::snprintf(name, sizeof name, "modexp of %zu bytes", size);
    timed(name, size < 100 ? 100 : 4, [&](int) { sink = sink + modexp(b, e, m)[0]; });
    m.back() = 0xf8;
    std::snprintf(name, sizeof name, "modexp of %zu bytes, even", size);
    timed(name, size < 100 ? 100 : 4, [&](int) { sink = sink + modexp(b, e, m)[0]; });
  }
  const U256 gx{0xf4a13945d898c296ULL, 0x77037d812deb33a0ULL, 0xf8bce6e563a440f2ULL, 0x6b17d1f2e12c4247ULL};
  const U256 gy{0xcbb6406837bf51f5ULL, 0x2bce33576b315eceULL, 0x8ee7eb4a7c0f9e16ULL, 0x4fe342e2fe1a7f9bULL};
  timed("P-256 verify", 50, [&](int i) { sink = sink + p256_verify(k.be(), k, k + U256{static_cast<uint64_t>(i)}, gx, gy); });
  const Bytes data(64, 1);
  timed("sha-256 of 64 bytes", 10000, [&](int) { sink = sink + sha256(data).b[0]; });
}
