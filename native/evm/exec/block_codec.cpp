// Bytes of blocks and receipts, and the roots over them.
#include "base/rlp.h"
#include "exec/block_parts.h"
#include "trie/trie.h"

namespace zg {

namespace {

Bytes encode_withdrawal(const Withdrawal& w) {
  rlp::Writer out;
  const size_t at = out.open();
  out.u64(w.index);
  out.u64(w.validator);
  out.address(w.address);
  out.u64(w.amount_gwei);
  out.close(at);
  return std::move(out.out);
}

// EIP-2718 bytes as they came, or as they would be written.
Bytes bytes_of(const Transaction& tx) { return tx.raw.empty() ? encode_transaction(tx) : tx.raw; }

}  // namespace

const char* decode_block(ByteView raw, Block& out) {
  const auto whole = rlp::single(raw);
  if (!whole || !whole->is_list) return "rlp: the block is no well-formed list";
  rlp::Reader r(whole->payload);
  Block block;
  const rlp::Item header = r.item();
  if (!r.ok() || !decode_header(header.whole, block.header)) return "rlp: the header is malformed";
  rlp::Reader txs = r.list();
  while (txs.ok() && !txs.empty()) {
    const rlp::Item item = txs.item();
    if (!txs.ok()) break;
    // A typed transaction is a string, a legacy one a list.
    if (!item.is_list && (item.payload.empty() || item.payload[0] >= 0x80)) return "rlp: a transaction of the block is malformed";
    Transaction tx;
    if (const char* why = decode_transaction(item.is_list ? item.whole : item.payload, tx)) return why;
    block.transactions.push_back(std::move(tx));
  }
  if (!txs.done()) return "rlp: the list of transactions is malformed";
  rlp::Reader ommers = r.list();
  while (ommers.ok() && !ommers.empty()) {
    const rlp::Item item = ommers.item();
    Header h;
    if (!ommers.ok() || !decode_header(item.whole, h)) return "rlp: an ommer is malformed";
    block.ommers.push_back(std::move(h));
  }
  if (!ommers.done()) return "rlp: the list of ommers is malformed";
  if (!r.empty()) {
    rlp::Reader list = r.list();
    block.withdrawals.emplace();
    while (list.ok() && !list.empty()) {
      rlp::Reader fields = list.list();
      Withdrawal w;
      w.index = fields.u64();
      w.validator = fields.u64();
      w.address = fields.address();
      w.amount_gwei = fields.u64();
      if (!fields.done()) return "rlp: a withdrawal is malformed";
      block.withdrawals->push_back(w);
    }
    if (!list.done()) return "rlp: the list of withdrawals is malformed";
  }
  if (!r.done()) return "rlp: the block has too few or too many parts";
  block.hash = keccak(header.whole);
  out = std::move(block);
  return nullptr;
}

Bytes encode_block(const Block& block) {
  rlp::Writer w;
  const size_t at = w.open();
  w.raw(encode_header(block.header));
  const size_t txs = w.open();
  for (const Transaction& tx : block.transactions) {
    const Bytes raw = bytes_of(tx);
    if (tx.type == 0) w.raw(raw);
    else w.bytes(raw);
  }
  w.close(txs);
  const size_t ommers = w.open();
  for (const Header& h : block.ommers) w.raw(encode_header(h));
  w.close(ommers);
  if (block.withdrawals) {
    const size_t list = w.open();
    for (const Withdrawal& x : *block.withdrawals) w.raw(encode_withdrawal(x));
    w.close(list);
  }
  w.close(at);
  return std::move(w.out);
}

Bytes encode_receipt(const Receipt& r) {
  rlp::Writer w;
  w.out.reserve(320);
  if (r.type != 0) w.out.push_back(r.type);
  const size_t at = w.open();
  if (r.post_state) w.hash(*r.post_state);
  else w.u64(r.success ? 1 : 0);
  w.u64(r.cumulative_gas);
  w.bytes(r.bloom.view());
  const size_t logs = w.open();
  for (const Log& log : r.logs) {
    const size_t entry = w.open();
    w.address(log.address);
    const size_t topics = w.open();
    for (const Hash& t : log.topics) w.hash(t);
    w.close(topics);
    w.bytes(log.data);
    w.close(entry);
  }
  w.close(logs);
  w.close(at);
  return std::move(w.out);
}

void add_to_bloom(Bloom& bloom, const Log& log) noexcept {
  // Yellow Paper 4.3.1: three bits of each item, from the first three pairs of bytes of its hash.
  const auto add = [&](ByteView item) {
    const Hash h = keccak(item);
    for (int i = 0; i < 6; i += 2) {
      const unsigned bit = ((static_cast<unsigned>(h.b[i]) << 8) | h.b[i + 1]) & 2047;
      bloom.b[255 - bit / 8] |= static_cast<uint8_t>(1u << (bit % 8));
    }
  };
  add(log.address);
  for (const Hash& t : log.topics) add(t);
}

Hash transactions_root(std::span<const Transaction> txs) {
  std::vector<Bytes> values;
  values.reserve(txs.size());
  for (const Transaction& tx : txs) values.push_back(bytes_of(tx));
  return ordered_root(values);
}

Hash receipts_root(std::span<const Receipt> receipts) {
  std::vector<Bytes> values;
  values.reserve(receipts.size());
  for (const Receipt& r : receipts) values.push_back(encode_receipt(r));
  return ordered_root(values);
}

Hash withdrawals_root(std::span<const Withdrawal> withdrawals) {
  std::vector<Bytes> values;
  values.reserve(withdrawals.size());
  for (const Withdrawal& w : withdrawals) values.push_back(encode_withdrawal(w));
  return ordered_root(values);
}

Hash ommers_hash_of(const std::vector<Header>& ommers) {
  rlp::Writer w;
  const size_t at = w.open();
  for (const Header& h : ommers) w.raw(encode_header(h));
  w.close(at);
  return keccak(w.out);
}

const Hash& empty_ommers_hash() noexcept {
  static const Hash hash = [] {
    const uint8_t empty_list = 0xc0;
    return keccak({&empty_list, 1});
  }();
  return hash;
}

}  // namespace zg
