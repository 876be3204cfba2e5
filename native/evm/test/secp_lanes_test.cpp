// Recovery in lanes against libsecp256k1: random signatures, borders, signatures made to meet special points; then the speed of both.
//   g++ -std=c++20 -O3 -Inative/evm -Inative/codec native/evm/test/secp_lanes_test.cpp native/evm/crypto/{secp256k1,secp256k1_lanes,parallel}.cpp
//     native/evm/base/{types,u256}.cpp and the objects of secp256k1_core.c and native/codec's keccak
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "crypto/secp256k1.h"
#include "crypto/secp256k1_lanes.h"

using namespace zg;

int main(int argc, char** argv) {
  if (!recover_lanes_available()) {
    std::puts("no AVX-512 IFMA here: nothing to compare");
    return 0;
  }
  const uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : std::random_device{}();
  const size_t rounds = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 200;
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 rng(seed);
  const auto random256 = [&] { return U256{rng(), rng(), rng(), rng()}; };
  const U256 n{0xbfd25e8cd0364141ULL, 0xbaaedce6af48a03bULL, 0xfffffffffffffffeULL, ~uint64_t{0}};
  size_t keys = 0, none = 0, unknown = 0, wrong = 0;
  for (size_t round = 0; round < rounds; ++round) {
    const size_t count = 1 + rng() % kRecoverLanesBatch;
    std::vector<LaneItem> items(count);
    for (LaneItem& item : items) {
      item.digest = rng() % 8 == 0 ? U256{rng() % 3} : rng() % 8 == 0 ? n - U256{rng() % 3} : random256();
      if (rng() % 2 == 0) {
        const auto s = sign(item.digest.be(), random256().be());
        if (s) {
          item.r = s->r;
          item.s = s->s;
          item.y_parity = s->y_parity;
          continue;
        }
      }
      item.r = rng() % 4 == 0 ? U256{1 + rng() % 20} : rng() % 4 == 0 ? n - U256{1 + rng() % 20} : random256();
      // The abscissa of G itself: R = ±G makes table entries meet.
      if (rng() % 8 == 0) item.r = U256{0x59f2815b16f81798ULL, 0x029bfcdb2dce28d9ULL, 0x55a06295ce870b07ULL, 0x79be667ef9dcbbacULL};
      item.s = rng() % 4 == 0 ? U256{1 + rng() % 20} : rng() % 4 == 0 ? n - U256{1 + rng() % 20} : random256();
      if (rng() % 8 == 0) item.s = item.digest.is_zero() ? U256{1} : item.digest;
      item.r = item.r >= n ? item.r - n : item.r;
      item.s = item.s >= n ? item.s - n : item.s;
      item.y_parity = rng() % 2 == 0;
    }
    recover_lanes(items.data(), count);
    for (const LaneItem& item : items) {
      const auto want = recover(item.digest.be(), item.r, item.s, item.y_parity);
      if (item.answer == LaneItem::Answer::unknown) {
        ++unknown;
        continue;
      }
      std::optional<Address> have;
      if (item.answer == LaneItem::Answer::key) {
        uint8_t key[64];
        item.x.to_be(key);
        item.y.to_be(key + 32);
        have = address_of_public(key);
        ++keys;
      } else {
        ++none;
      }
      if (have != want) ++wrong;
    }
  }
  std::printf("%zu keys, %zu without, %zu left to the reference, %zu wrong\n", keys, none, unknown, wrong);

  std::vector<LaneItem> items(kRecoverLanesBatch);
  std::vector<RecoverItem> plain(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    items[i].digest = random256();
    const auto s = sign(items[i].digest.be(), random256().be());
    items[i].r = s->r;
    items[i].s = s->s;
    items[i].y_parity = s->y_parity;
    plain[i] = {items[i].digest.be(), *s};
  }
  std::vector<std::optional<Address>> out(items.size());
  for (int i = 0; i < 3; ++i) {
    const auto t0 = std::chrono::steady_clock::now();
    for (int k = 0; k < 20; ++k) recover_lanes(items.data(), items.size());
    const auto t1 = std::chrono::steady_clock::now();
    for (int k = 0; k < 4; ++k) recover_reference(plain, out);
    const auto t2 = std::chrono::steady_clock::now();
    const double a = std::chrono::duration<double, std::micro>(t1 - t0).count() / (20.0 * static_cast<double>(items.size()));
    const double b = std::chrono::duration<double, std::micro>(t2 - t1).count() / (4.0 * static_cast<double>(items.size()));
    std::printf("lanes %.2f µs, library in batches %.2f µs: %.2f x\n", a, b, b / a);
  }
  return wrong == 0 ? 0 : 1;
}
