// Blocks with receipts as bytes: on disk, and as JavaScript reads them (lib/evm/types.ts).
//
//   block record   [block, hash, senders, receipts]      receipt   [type, status | post-state, cumulative gas, gas used, price, bloom, logs, created]
//   log            [address, [topic…], data]
#pragma once

#include "base/rlp.h"
#include "chain/chain.h"

namespace zg {

// `blooms` false: they are left out (empty), as on disk: they follow from the logs.
Bytes encode_record(const StoredBlock& block, bool blooms);
bool decode_record(ByteView record, StoredBlock& out);
void write_log(rlp::Writer& w, const Log& log);
void write_placed_log(rlp::Writer& w, const PlacedLog& log);
// [raw, hash, sender]
void write_transaction(rlp::Writer& w, const Transaction& tx);

}  // namespace zg
