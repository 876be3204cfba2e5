#include "chain/records.h"

namespace zg {

namespace {

void write_receipt(rlp::Writer& w, const Receipt& r, bool blooms) {
  const size_t at = w.open();
  w.u64(r.type);
  if (r.post_state) w.hash(*r.post_state);
  else w.u64(r.success ? 1 : 0);
  w.u64(r.cumulative_gas);
  w.u64(r.gas_used);
  w.u256(r.effective_gas_price);
  w.bytes(blooms ? r.bloom.view() : ByteView{});
  const size_t logs = w.open();
  for (const Log& log : r.logs) write_log(w, log);
  w.close(logs);
  w.maybe_address(r.created);
  w.close(at);
}

bool read_receipt(rlp::Reader r, Receipt& out) {
  out.type = static_cast<uint8_t>(r.u64());
  const ByteView status = r.bytes();
  if (status.size() == 32) out.post_state = Hash::from(status.data());
  else out.success = status.size() == 1 && status[0] == 1;
  out.cumulative_gas = r.u64();
  out.gas_used = r.u64();
  out.effective_gas_price = r.u256();
  (void)r.bytes();
  rlp::Reader logs = r.list();
  while (logs.ok() && !logs.empty()) {
    rlp::Reader l = logs.list();
    Log log;
    log.address = l.address();
    rlp::Reader topics = l.list();
    while (topics.ok() && !topics.empty()) log.topics.push_back(topics.hash());
    const ByteView data = l.bytes();
    if (!topics.done() || !l.done() || log.topics.size() > 4) return false;
    log.data.assign(data.begin(), data.end());
    add_to_bloom(out.bloom, log);
    out.logs.push_back(std::move(log));
  }
  out.created = r.maybe_address();
  return logs.done() && r.done();
}

}  // namespace

void write_log(rlp::Writer& w, const Log& log) {
  const size_t at = w.open();
  w.address(log.address);
  const size_t topics = w.open();
  for (const Hash& t : log.topics) w.hash(t);
  w.close(topics);
  w.bytes(log.data);
  w.close(at);
}

void write_placed_log(rlp::Writer& w, const PlacedLog& log) {
  const size_t at = w.open();
  write_log(w, log.log);
  w.hash(log.block_hash);
  w.u64(log.block_number);
  w.u64(log.block_timestamp);
  w.hash(log.transaction_hash);
  w.u64(log.transaction_index);
  w.u64(log.log_index);
  w.close(at);
}

void write_transaction(rlp::Writer& w, const Transaction& tx) {
  const size_t at = w.open();
  w.bytes(tx.raw);
  w.hash(tx.hash);
  w.address(tx.sender);
  w.close(at);
}

Bytes encode_record(const StoredBlock& block, bool blooms) {
  rlp::Writer w;
  size_t guess = 1024;
  for (const Transaction& tx : block.block.transactions) guess += tx.raw.size() + 64;
  if (blooms) guess += block.receipts.size() * 260;
  w.out.reserve(guess);
  const size_t at = w.open();
  w.bytes(encode_block(block.block));
  w.hash(block.block.hash);
  Bytes senders;
  senders.reserve(block.block.transactions.size() * 20);
  for (const Transaction& tx : block.block.transactions) senders.insert(senders.end(), tx.sender.b, tx.sender.b + 20);
  w.bytes(senders);
  const size_t receipts = w.open();
  for (const Receipt& r : block.receipts) write_receipt(w, r, blooms);
  w.close(receipts);
  w.close(at);
  return std::move(w.out);
}

bool decode_record(ByteView record, StoredBlock& out) {
  rlp::Reader r(rlp::single(record));
  const ByteView raw = r.bytes();
  const Hash hash = r.hash();
  const ByteView senders = r.bytes();
  rlp::Reader receipts = r.list();
  if (!r.done() || decode_block(raw, out.block) != nullptr || out.block.hash != hash) return false;
  out.size = raw.size();
  auto& txs = out.block.transactions;
  if (senders.size() != txs.size() * 20) return false;
  for (size_t i = 0; i < txs.size(); ++i) {
    txs[i].sender = Address::from(senders.data() + 20 * i);
    txs[i].sender_known = true;
  }
  out.receipts.clear();
  out.receipts.reserve(txs.size());
  while (receipts.ok() && !receipts.empty()) {
    Receipt receipt;
    if (!read_receipt(receipts.list(), receipt)) return false;
    out.receipts.push_back(std::move(receipt));
  }
  return receipts.done() && out.receipts.size() == txs.size();
}

}  // namespace zg
