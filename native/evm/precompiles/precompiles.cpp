#include "precompiles/precompiles.h"

#include <algorithm>

#include "precompiles/ethereum.h"

namespace zg {
namespace {

using namespace precompile;

constexpr unsigned kP256 = 0x100;
constexpr unsigned kLastBls = 0x11;

PrecompileFn by_number(Revision rev, unsigned number) noexcept {
  const auto from = [rev](Revision first, PrecompileFn fn) noexcept { return rev >= first ? fn : nullptr; };
  const bool istanbul = rev >= Revision::istanbul;
  switch (number) {
    case 0x01: return ecrecover;
    case 0x02: return sha256_hash;
    case 0x03: return ripemd160_hash;
    case 0x04: return identity;
    case 0x05:
      return from(Revision::byzantium,
                  rev >= Revision::osaka ? modexp_osaka : rev >= Revision::berlin ? modexp_berlin : modexp_byzantium);
    case 0x06: return from(Revision::byzantium, istanbul ? bn254_add_istanbul : bn254_add_byzantium);
    case 0x07: return from(Revision::byzantium, istanbul ? bn254_mul_istanbul : bn254_mul_byzantium);
    case 0x08: return from(Revision::byzantium, istanbul ? bn254_pairing_istanbul : bn254_pairing_byzantium);
    case 0x09: return from(Revision::istanbul, blake2_f);
    case 0x0a: return from(Revision::cancun, point_evaluation);
    case 0x0b: return from(Revision::prague, bls_g1_add);
    case 0x0c: return from(Revision::prague, bls_g1_msm);
    case 0x0d: return from(Revision::prague, bls_g2_add);
    case 0x0e: return from(Revision::prague, bls_g2_msm);
    case 0x0f: return from(Revision::prague, bls_pairing);
    case 0x10: return from(Revision::prague, bls_map_fp);
    case kLastBls: return from(Revision::prague, bls_map_fp2);
    case kP256: return from(Revision::osaka, p256_check);
    default: return nullptr;
  }
}

}  // namespace

PrecompileFn find_precompile(Revision revision, const Address& address) noexcept {
  if ((load64(address.b) | load64(address.b + 8) | address.b[16] | address.b[17]) != 0) return nullptr;
  return by_number(revision, static_cast<unsigned>(address.b[18]) << 8 | address.b[19]);
}

std::vector<Address> Precompiles::addresses(Revision revision) const {
  std::vector<Address> all;
  for (unsigned n = 1; n <= kP256; n = n == kLastBls ? kP256 : n + 1) {
    if (by_number(revision, n) == nullptr) continue;
    Address a{};
    a.b[18] = static_cast<uint8_t>(n >> 8);
    a.b[19] = static_cast<uint8_t>(n);
    all.push_back(a);
  }
  for (const auto& p : plugins_) all.push_back(p->address());
  return all;
}

}  // namespace zg
