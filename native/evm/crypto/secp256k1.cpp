#include "crypto/secp256k1.h"

#include <algorithm>
#include <cstdlib>

#include "crypto/parallel.h"
#include "crypto/secp256k1_core.h"

namespace zg {
namespace {

const zg_secp* context() noexcept {
  static const zg_secp* const shared = [] {
    const zg_secp* made = zg_secp_create();
    if (made == nullptr) std::abort();  // a megabyte of tables could not be had
    return made;
  }();
  return shared;
}

void recover_some(std::span<const RecoverItem> items, std::span<std::optional<Address>> out) noexcept {
  zg_secp_item work[ZG_SECP_BATCH];
  for (size_t i = 0; i < items.size(); ++i) {
    std::memcpy(work[i].digest, items[i].digest.b, 32);
    items[i].signature.r.to_be(work[i].r);
    items[i].signature.s.to_be(work[i].s);
    work[i].parity = items[i].signature.y_parity;
  }
  zg_secp_recover(context(), work, items.size());
  for (size_t i = 0; i < items.size(); ++i)
    out[i] = work[i].ok != 0 ? std::optional(address_of_public(work[i].key)) : std::nullopt;
}

}  // namespace

std::optional<Address> recover(const Hash& digest, const U256& r, const U256& s, bool y_parity) noexcept {
  const RecoverItem item{digest, {r, s, y_parity}};
  std::optional<Address> out;
  recover_some({&item, 1}, {&out, 1});
  return out;
}

void recover_batch(std::span<const RecoverItem> items, std::span<std::optional<Address>> out, unsigned threads) noexcept {
  parallel_for(
      items.size(), ZG_SECP_BATCH,
      [&](size_t begin, size_t end) { recover_some(items.subspan(begin, end - begin), out.subspan(begin, end - begin)); }, threads);
}

std::optional<RecoverableSignature> sign(const Hash& digest, const Hash& secret) noexcept {
  uint8_t out[64];
  int parity = 0;
  if (zg_secp_sign(context(), digest.b, secret.b, out, &parity) == 0) return std::nullopt;
  return RecoverableSignature{U256::from_be(out), U256::from_be(out + 32), (parity & 1) != 0};
}

std::optional<Address> address_of_secret(const Hash& secret) noexcept {
  uint8_t key[64];
  if (zg_secp_public(context(), secret.b, key) == 0) return std::nullopt;
  return address_of_public(key);
}

Address address_of_public(const uint8_t key[64]) noexcept { return Address::from(keccak({key, 64}).b + 12); }

}  // namespace zg
