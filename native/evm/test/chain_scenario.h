// What the chain's programs of this folder share: accounts with keys, a genesis, signed transfers.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "chain/chain.h"
#include "crypto/secp256k1.h"
#include "exec/block_parts.h"

namespace zg::test {

inline Hash secret_of(uint64_t i) {
  const uint64_t seed[2] = {i, 0x7a67};
  return keccak({reinterpret_cast<const uint8_t*>(seed), sizeof seed});
}

inline Genesis genesis_with(const std::vector<Address>& accounts, uint64_t gas_limit) {
  Genesis g;
  g.config = ChainConfig::all_at(Revision::cancun, U256{31337});
  g.header.gas_limit = gas_limit;
  g.header.timestamp = 1000;
  g.header.base_fee = U256{1'000'000'000};
  g.header.ommers_hash = empty_ommers_hash();
  g.header.transactions_root = g.header.receipts_root = empty_trie_root();
  g.header.withdrawals_root = empty_trie_root();
  g.header.blob_gas_used = g.header.excess_blob_gas = 0;
  g.header.parent_beacon_root = Hash{};
  for (const Address& a : accounts) {
    GenesisAccount account;
    account.address = a;
    account.account.balance = U256{1'000'000} * U256{1'000'000'000'000'000'000};
    g.alloc.push_back(std::move(account));
  }
  return g;
}

inline Bytes transfer(const Hash& secret, uint64_t nonce, const Address& to, uint64_t value) {
  Transaction tx;
  tx.type = 2;
  tx.chain_id = U256{31337};
  tx.nonce = nonce;
  tx.gas_price = U256{100'000'000'000};
  tx.max_priority_fee = U256{1'000'000'000};
  tx.gas_limit = 21'000;
  tx.to = to;
  tx.value = U256{value};
  const auto signature = sign(signing_hash(tx), secret);
  if (!signature) std::abort();
  tx.r = signature->r;
  tx.s = signature->s;
  tx.y_parity = signature->y_parity ? 1 : 0;
  tx.v = U256{tx.y_parity};
  return encode_transaction(tx);
}

inline BlockAttributes attributes_of(uint64_t number, uint64_t gas_limit) {
  BlockAttributes a;
  a.timestamp = 1000 + number;
  a.gas_limit = gas_limit;
  a.fee_recipient.b[19] = 0xfe;
  return a;
}

}  // namespace zg::test
