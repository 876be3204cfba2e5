// Transactions of every type (legacy, EIP-2930, 1559, 4844, 7702): decoding, hashes, senders.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/types.h"
#include "base/u256.h"

namespace zg {

struct AccessEntry {
  Address address;
  std::vector<U256> keys;
};

struct Authorization {
  U256 chain_id;
  Address address;
  uint64_t nonce = 0;
  uint8_t y_parity = 0;  // anything but 0 and 1 is invalid when used
  U256 r, s;
};

struct Transaction {
  uint8_t type = 0;
  bool has_chain_id = true;  // false: a legacy transaction without replay protection
  U256 chain_id;
  uint64_t nonce = 0;
  U256 gas_price;            // types 0 and 1; others: max fee
  U256 max_priority_fee;     // types 0 and 1: gas_price
  uint64_t gas_limit = 0;
  std::optional<Address> to; // none: creation
  U256 value;
  Bytes data;
  std::vector<AccessEntry> access_list;
  std::vector<Authorization> authorizations;
  U256 max_blob_fee;
  std::vector<Hash> blob_hashes;
  U256 v, r, s;              // v as signed
  uint8_t y_parity = 0;
  // Derived
  Hash hash{};
  Address sender{};          // set by recover_sender
  bool sender_known = false;
  Bytes raw;                 // EIP-2718 bytes

  [[nodiscard]] const U256& max_fee() const noexcept { return gas_price; }
};

// Why bytes are no transaction, in geth's words where it has any: "rlp: …", "transaction type not supported", "invalid chain id for signer", …
using DecodeError = const char*;

// EIP-2718 bytes (a legacy transaction is its list). Refuses trailing bytes, unknown types, non-canonical numbers, values out of
// range. Fills in hash and raw; not the sender. A blob transaction in its network form (with sidecar) is refused.
DecodeError decode_transaction(ByteView raw, Transaction& out);
Bytes encode_transaction(const Transaction& tx);
// What was signed.
Hash signing_hash(const Transaction& tx);
// False for a signature that nobody made: r, s out of range, high s (from Homestead on, and for all typed), no such point.
bool recover_sender(Transaction& tx, bool allow_high_s = false);
std::optional<Address> sender_of(const Transaction& tx, bool allow_high_s = false);
// Senders of many at once on up to `threads` threads; marks sender_known of those that have one.
void recover_senders(std::span<Transaction*> txs, unsigned threads);
// Of an EIP-7702 authorization; nullopt when the signature is invalid.
std::optional<Address> recover_authority(const Authorization& a);

}  // namespace zg
