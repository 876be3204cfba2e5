// ECDSA on secp256k1 as Ethereum uses it, on libsecp256k1 (native/THIRD_PARTY.md). One context for the process, made at first use (about 10 ms),
// read-only afterwards. Thread safe.
#pragma once

#include <optional>
#include <span>

#include "base/types.h"
#include "base/u256.h"

namespace zg {

struct RecoverableSignature {
  U256 r, s;
  bool y_parity = false;
};

// Who signed `digest`. Nothing for r or s outside 1…n−1, an r that is no abscissa, or a key at infinity. A high s is taken: rules for transactions
// (EIP-2) are the caller's. Yellow Paper, appendix F.
std::optional<Address> recover(const Hash& digest, const U256& r, const U256& s, bool y_parity) noexcept;

struct RecoverItem {
  Hash digest;
  RecoverableSignature signature;
};
// The same for many; out[i] belongs to items[i] (as many as items). Shares inversions among signatures and spreads over `threads` threads
// (0: all cores).
void recover_batch(std::span<const RecoverItem> items, std::span<std::optional<Address>> out, unsigned threads = 0) noexcept;

// The same by the library alone, on this thread: the truth that the lanes of crypto/secp256k1_lanes.h are tested against.
void recover_reference(std::span<const RecoverItem> items, std::span<std::optional<Address>> out) noexcept;

// Deterministic (RFC 6979, no extra entropy), low s. Nothing for a key outside 1…n−1. For development accounts: the key passes through plain memory.
std::optional<RecoverableSignature> sign(const Hash& digest, const Hash& secret) noexcept;
std::optional<Address> address_of_secret(const Hash& secret) noexcept;
// Of an uncompressed public key without its leading 04, which the caller has checked.
Address address_of_public(const uint8_t key[64]) noexcept;

}  // namespace zg
