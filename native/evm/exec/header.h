// Block headers of all forks; fields that a fork does not have yet are absent.
#pragma once

#include <optional>

#include "base/types.h"
#include "base/u256.h"

namespace zg {

using Bloom = Fixed<256>;

struct Header {
  Hash parent_hash{};
  Hash ommers_hash{};
  Address beneficiary{};
  Hash state_root{};
  Hash transactions_root{};
  Hash receipts_root{};
  Bloom logs_bloom{};
  U256 difficulty;
  uint64_t number = 0;
  uint64_t gas_limit = 0;
  uint64_t gas_used = 0;
  uint64_t timestamp = 0;
  Bytes extra_data;
  Hash mix_hash{};  // prevRandao from Paris on
  uint8_t nonce[8] = {};
  std::optional<U256> base_fee;                // London
  std::optional<Hash> withdrawals_root;        // Shanghai
  std::optional<uint64_t> blob_gas_used;       // Cancun
  std::optional<uint64_t> excess_blob_gas;
  std::optional<Hash> parent_beacon_root;
  std::optional<Hash> requests_hash;           // Prague
};

Bytes encode_header(const Header& h);
Hash hash_of(const Header& h);
// Strict; false when malformed. Accepts 15 to 21 fields.
bool decode_header(ByteView item, Header& out);

}  // namespace zg
