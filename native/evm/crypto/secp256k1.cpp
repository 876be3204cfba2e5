#include "crypto/secp256k1.h"

#include <algorithm>
#include <cstdlib>

#include "crypto/parallel.h"
#include "crypto/secp256k1_core.h"
#include "crypto/secp256k1_lanes.h"

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

bool in_range(const U256& x) noexcept {
  constexpr U256 n{0xbfd25e8cd0364141ULL, 0xbaaedce6af48a03bULL, 0xfffffffffffffffeULL, ~uint64_t{0}};
  return !x.is_zero() && x < n;
}

// Eight at a time; what the lanes leave open goes to the library.
void recover_wide(std::span<const RecoverItem> items, std::span<std::optional<Address>> out) noexcept {
  LaneItem work[kRecoverLanesBatch];
  size_t place[kRecoverLanesBatch];
  size_t count = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    const auto& [r, s, y_parity] = items[i].signature;
    out[i] = std::nullopt;
    if (!in_range(r) || !in_range(s)) continue;
    work[count].digest = U256::from(items[i].digest);
    work[count].r = r;
    work[count].s = s;
    work[count].y_parity = y_parity;
    place[count++] = i;
  }
  recover_lanes(work, count);
  for (size_t k = 0; k < count; ++k) {
    if (work[k].answer == LaneItem::Answer::none) continue;
    if (work[k].answer == LaneItem::Answer::unknown) {
      recover_some(items.subspan(place[k], 1), out.subspan(place[k], 1));
      continue;
    }
    uint8_t key[64];
    work[k].x.to_be(key);
    work[k].y.to_be(key + 32);
    out[place[k]] = address_of_public(key);
  }
}

// Below this many a call of the library each is faster: the lanes work on eight whatever is asked.
constexpr size_t kWideFrom = 4;

}  // namespace

std::optional<Address> recover(const Hash& digest, const U256& r, const U256& s, bool y_parity) noexcept {
  const RecoverItem item{digest, {r, s, y_parity}};
  std::optional<Address> out;
  recover_some({&item, 1}, {&out, 1});
  return out;
}

void recover_batch(std::span<const RecoverItem> items, std::span<std::optional<Address>> out, unsigned threads) noexcept {
  static_assert(ZG_SECP_BATCH <= kRecoverLanesBatch);
  const bool wide = recover_lanes_available() && items.size() >= kWideFrom;
  parallel_for(
      items.size(), ZG_SECP_BATCH,
      [&](size_t begin, size_t end) {
        const size_t n = end - begin;
        if (wide && n >= kWideFrom)
          recover_wide(items.subspan(begin, n), out.subspan(begin, n));
        else
          recover_some(items.subspan(begin, n), out.subspan(begin, n));
      },
      threads);
}

void recover_reference(std::span<const RecoverItem> items, std::span<std::optional<Address>> out) noexcept {
  for (size_t i = 0; i < items.size(); i += ZG_SECP_BATCH) {
    const size_t n = std::min<size_t>(ZG_SECP_BATCH, items.size() - i);
    recover_some(items.subspan(i, n), out.subspan(i, n));
  }
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
