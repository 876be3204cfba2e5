// The chain's own entries in the key-value store, beside the state's (db/records.h). Numbers in keys are big endian, so that ranges are in order.
//
//   Cm                         [format, chain id, genesis hash, identity of the genesis]
//   CH                         the head: [number, hash, version, state root]
//   Cb ‖ number                place in the block log, version of the state after the block, hash
//   Ce ‖ number                header
//   Ch ‖ block hash            number
//   Ct ‖ transaction hash      number ‖ index
//   Cn ‖ sender ‖ nonce        number ‖ index
//   Cl ‖ number                the block has logs
//   Ca ‖ address ‖ number      … of this address
//   Cp ‖ topic ‖ number        … with this topic; the value has a bit for each position
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "chain/block_log.h"
#include "chain/chain.h"

namespace zg::index {

struct BlockEntry {
  BlockLog::Place place;
  uint64_t version = 0;
  Hash hash{};
};
struct HeadEntry {
  uint64_t number = 0;
  Hash hash{};
  uint64_t version = 0;
  Hash state_root{};
};
struct MetaEntry {
  U256 chain_id;
  Hash genesis_hash{};
  Hash identity{};
};

enum class Found : uint8_t { yes, absent, malformed };
Found read_meta(const KvStore& kv, MetaEntry& out);
Found read_head(const KvStore& kv, HeadEntry& out);
Found read_block(const KvStore& kv, uint64_t number, BlockEntry& out);
Found read_header(const KvStore& kv, uint64_t number, Header& out);
std::optional<uint64_t> number_of(const KvStore& kv, const Hash& block_hash);
std::optional<Chain::Place> locate(const KvStore& kv, const Hash& tx_hash);
std::optional<Chain::Place> locate(const KvStore& kv, const Address& sender, uint64_t nonce);

void put_meta(KvBatch& batch, const MetaEntry& meta);
void put_head(KvBatch& batch, const HeadEntry& head);
void put_block_entry(KvBatch& batch, uint64_t number, const BlockEntry& entry);
// Everything of a block: entry, header, hash, transactions, logs.
void put_block(KvBatch& batch, const StoredBlock& block, const BlockEntry& entry);
void del_block(KvBatch& batch, const StoredBlock& block);
// Headers and hashes alone, of blocks that are not kept (snapshots).
void put_hash_only(KvBatch& batch, uint64_t number, const Hash& hash);

// Numbers of blocks in [from, to] that may hold matches, ascending: the filter's addresses and topics met in the block, not yet in one log.
// `fn` false ends it.
void candidates(const KvStore& kv, const LogFilter& filter, const std::function<bool(uint64_t number)>& fn);
bool matches(const LogFilter& filter, const Log& log);

}  // namespace zg::index
