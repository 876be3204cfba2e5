#include "exec/header.h"

#include "base/rlp.h"

namespace zg {

Bytes encode_header(const Header& h) {
  rlp::Writer w;
  w.out.reserve(700);
  const size_t at = w.open();
  w.hash(h.parent_hash);
  w.hash(h.ommers_hash);
  w.address(h.beneficiary);
  w.hash(h.state_root);
  w.hash(h.transactions_root);
  w.hash(h.receipts_root);
  w.bytes(h.logs_bloom.view());
  w.u256(h.difficulty);
  w.u64(h.number);
  w.u64(h.gas_limit);
  w.u64(h.gas_used);
  w.u64(h.timestamp);
  w.bytes(h.extra_data);
  w.hash(h.mix_hash);
  w.bytes({h.nonce, 8});
  if (h.base_fee) w.u256(*h.base_fee);
  if (h.withdrawals_root) w.hash(*h.withdrawals_root);
  if (h.blob_gas_used) w.u64(*h.blob_gas_used);
  if (h.excess_blob_gas) w.u64(*h.excess_blob_gas);
  if (h.parent_beacon_root) w.hash(*h.parent_beacon_root);
  if (h.requests_hash) w.hash(*h.requests_hash);
  w.close(at);
  return std::move(w.out);
}

Hash hash_of(const Header& h) { return keccak(encode_header(h)); }

bool decode_header(ByteView item, Header& out) {
  rlp::Reader r(rlp::single(item));
  Header h;
  h.parent_hash = r.hash();
  h.ommers_hash = r.hash();
  h.beneficiary = r.address();
  h.state_root = r.hash();
  h.transactions_root = r.hash();
  h.receipts_root = r.hash();
  r.fixed(h.logs_bloom.b, 256);
  h.difficulty = r.u256();
  h.number = r.u64();
  h.gas_limit = r.u64();
  h.gas_used = r.u64();
  h.timestamp = r.u64();
  const ByteView extra = r.bytes();
  h.extra_data.assign(extra.begin(), extra.end());
  h.mix_hash = r.hash();
  r.fixed(h.nonce, 8);
  if (!r.empty()) h.base_fee = r.u256();
  if (!r.empty()) h.withdrawals_root = r.hash();
  if (!r.empty()) h.blob_gas_used = r.u64();
  if (!r.empty()) h.excess_blob_gas = r.u64();
  if (!r.empty()) h.parent_beacon_root = r.hash();
  if (!r.empty()) h.requests_hash = r.hash();
  if (!r.done()) return false;
  out = std::move(h);
  return true;
}

}  // namespace zg
