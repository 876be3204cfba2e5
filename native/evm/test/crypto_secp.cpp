// Recovery, single and batched, on 1 and 2 threads: results compared and timed.
// Build: g++ -std=c++20 -O3 -Inative/evm -Inative/codec native/evm/test/crypto_secp.cpp native/evm/crypto/*.cpp native/evm/base/types.cpp
//        native/codec/{cpu,keccak_*}.cpp build/Release/secp256k1.a -lpthread
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "crypto/parallel.h"
#include "crypto/secp256k1.h"

using namespace zg;

int main() {
  constexpr size_t kCount = 2048;
  std::vector<RecoverItem> items(kCount);
  std::vector<std::optional<Address>> expected(kCount), one(kCount), many(kCount);
  Hash x = keccak(as_bytes("seed"));
  for (size_t i = 0; i < kCount; ++i) {
    const Hash secret = keccak(x);
    const Hash digest = x = keccak(secret);
    const auto signature = sign(digest, secret);
    if (!signature) return std::puts("sign failed"), 1;
    items[i] = {digest, *signature};
    expected[i] = address_of_secret(secret);
    if (i % 17 == 3) items[i].signature.r = U256{}, expected[i].reset();
    if (i % 17 == 5) items[i].signature.s = ~U256{}, expected[i].reset();
    if (i % 17 == 7) {  // −R and −s: the same signer
      const U256 n{0xbfd25e8cd0364141ULL, 0xbaaedce6af48a03bULL, 0xfffffffffffffffeULL, 0xffffffffffffffffULL};
      items[i].signature.s = n - items[i].signature.s;
      items[i].signature.y_parity ^= true;
    }
  }
  const auto timed = [&](const char* what, auto&& fn) {
    double best = 1e9;
    for (int k = 0; k < 5; ++k) {
      const auto t0 = std::chrono::steady_clock::now();
      fn();
      best = std::min(best, std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - t0).count() / kCount);
    }
    std::printf("%s: %.2f us\n", what, best);
  };
  timed("single", [&] {
    for (size_t i = 0; i < kCount; ++i) one[i] = recover(items[i].digest, items[i].signature.r, items[i].signature.s, items[i].signature.y_parity);
  });
  if (one != expected) return std::puts("single differs"), 1;
  timed("batch, one thread", [&] { recover_batch(items, many, 1); });
  if (many != expected) return std::puts("batch differs"), 1;
  timed("batch, all threads", [&] { recover_batch(items, many, 0); });
  if (many != expected) return std::puts("parallel batch differs"), 1;
  std::puts("ok");
}
