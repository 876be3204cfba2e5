#include "exec/transaction.h"

#include "base/rlp.h"
#include "crypto/parallel.h"
#include "crypto/secp256k1.h"

namespace zg {

namespace {

// Half the order of the curve (EIP-2).
constexpr U256 kHalfOrder{0xdfe92f46681b20a0ULL, 0x5d576e7357a4501dULL, ~uint64_t{0}, 0x7fffffffffffffffULL};
// Marks a `v` that no signer writes.
constexpr uint8_t kNoParity = 2;
constexpr uint8_t kLastType = 4;

bool read_access_list(rlp::Reader& r, std::vector<AccessEntry>& out) {
  rlp::Reader list = r.list();
  while (list.ok() && !list.empty()) {
    rlp::Reader entry = list.list();
    AccessEntry e;
    e.address = entry.address();
    rlp::Reader keys = entry.list();
    while (keys.ok() && !keys.empty()) e.keys.push_back(U256::from(keys.hash()));
    if (!keys.done() || !entry.done()) return false;
    out.push_back(std::move(e));
  }
  return list.done();
}

bool read_authorizations(rlp::Reader& r, std::vector<Authorization>& out) {
  rlp::Reader list = r.list();
  while (list.ok() && !list.empty()) {
    rlp::Reader entry = list.list();
    Authorization a;
    a.chain_id = entry.u256();
    a.address = entry.address();
    a.nonce = entry.u64();
    const uint64_t parity = entry.u64();
    if (parity > 255) return false;
    a.y_parity = static_cast<uint8_t>(parity);
    a.r = entry.u256();
    a.s = entry.u256();
    if (!entry.done()) return false;
    out.push_back(a);
  }
  return list.done();
}

void write_access_list(rlp::Writer& w, const std::vector<AccessEntry>& list) {
  const size_t at = w.open();
  for (const AccessEntry& e : list) {
    const size_t entry = w.open();
    w.address(e.address);
    const size_t keys = w.open();
    for (const U256& k : e.keys) w.hash(k.be());
    w.close(keys);
    w.close(entry);
  }
  w.close(at);
}

// The fields that are signed, without list head.
void write_fields(rlp::Writer& w, const Transaction& tx) {
  if (tx.type != 0) w.u256(tx.chain_id);
  w.u64(tx.nonce);
  if (tx.type >= 2) w.u256(tx.max_priority_fee);
  w.u256(tx.gas_price);
  w.u64(tx.gas_limit);
  w.maybe_address(tx.to);
  w.u256(tx.value);
  w.bytes(tx.data);
  if (tx.type == 0) return;
  write_access_list(w, tx.access_list);
  if (tx.type == 3) {
    w.u256(tx.max_blob_fee);
    const size_t at = w.open();
    for (const Hash& h : tx.blob_hashes) w.hash(h);
    w.close(at);
  }
  if (tx.type == 4) {
    const size_t at = w.open();
    for (const Authorization& a : tx.authorizations) {
      const size_t entry = w.open();
      w.u256(a.chain_id);
      w.address(a.address);
      w.u64(a.nonce);
      w.u64(a.y_parity);
      w.u256(a.r);
      w.u256(a.s);
      w.close(entry);
    }
    w.close(at);
  }
}

// Legacy `v`: 27 + parity, or chain id × 2 + 35 + parity (EIP-155).
void split_v(Transaction& tx) {
  tx.has_chain_id = tx.v >= U256(35);
  if (tx.has_chain_id) {
    const U256 rest = tx.v - U256(35);
    tx.chain_id = rest >> 1;
    tx.y_parity = static_cast<uint8_t>(rest.w[0] & 1);
  } else {
    tx.chain_id = {};
    tx.y_parity = tx.v == U256(27) ? 0 : tx.v == U256(28) ? 1 : kNoParity;
  }
}

}  // namespace

DecodeError decode_transaction(ByteView raw, Transaction& out) {
  if (raw.empty()) return "typed transaction too short";
  Transaction tx;
  ByteView body = raw;
  if (raw[0] < 0xc0) {
    if (raw[0] == 0 || raw[0] > kLastType) return "transaction type not supported";
    if (raw.size() < 2) return "typed transaction too short";
    tx.type = raw[0];
    body = raw.subspan(1);
  }
  const auto whole = rlp::single(body);
  if (!whole) return "rlp: malformed or non-canonical encoding";
  if (!whole->is_list) return "rlp: expected input list for transaction";
  if (tx.type == 3 && !whole->payload.empty() && whole->payload[0] >= 0xc0) return "blob transaction with sidecar is not accepted here";
  rlp::Reader r(whole->payload);
  if (tx.type != 0) tx.chain_id = r.u256();
  tx.nonce = r.u64();
  if (tx.type >= 2) tx.max_priority_fee = r.u256();
  tx.gas_price = r.u256();
  if (tx.type < 2) tx.max_priority_fee = tx.gas_price;
  tx.gas_limit = r.u64();
  if (tx.type >= 3) tx.to = r.address();
  else tx.to = r.maybe_address();
  tx.value = r.u256();
  const ByteView data = r.bytes();
  if (!r.ok()) return "rlp: a field of the transaction is malformed or out of range";
  tx.data.assign(data.begin(), data.end());
  if (tx.type != 0 && !read_access_list(r, tx.access_list)) return "rlp: the access list is malformed";
  if (tx.type == 3) {
    tx.max_blob_fee = r.u256();
    rlp::Reader hashes = r.list();
    while (hashes.ok() && !hashes.empty()) tx.blob_hashes.push_back(hashes.hash());
    if (!hashes.done()) return "rlp: the blob hashes are malformed";
  }
  if (tx.type == 4 && !read_authorizations(r, tx.authorizations)) return "rlp: the authorization list is malformed";
  tx.v = r.u256();
  tx.r = r.u256();
  tx.s = r.u256();
  if (!r.done()) return "rlp: the transaction has too few, too many or malformed fields";
  if (tx.type == 0) split_v(tx);
  else tx.y_parity = tx.v <= U256(1) ? static_cast<uint8_t>(tx.v.w[0]) : kNoParity;
  tx.raw.assign(raw.begin(), raw.end());
  tx.hash = keccak(raw);
  out = std::move(tx);
  return nullptr;
}

Bytes encode_transaction(const Transaction& tx) {
  rlp::Writer w;
  w.out.reserve(256 + tx.data.size());
  if (tx.type != 0) w.out.push_back(tx.type);
  const size_t at = w.open();
  write_fields(w, tx);
  w.u256(tx.v);
  w.u256(tx.r);
  w.u256(tx.s);
  w.close(at);
  return std::move(w.out);
}

Hash signing_hash(const Transaction& tx) {
  rlp::Writer w;
  w.out.reserve(256 + tx.data.size());
  if (tx.type != 0) w.out.push_back(tx.type);
  const size_t at = w.open();
  write_fields(w, tx);
  if (tx.type == 0 && tx.has_chain_id) {
    w.u256(tx.chain_id);
    w.u64(0);
    w.u64(0);
  }
  w.close(at);
  return keccak(w.out);
}

std::optional<Address> sender_of(const Transaction& tx, bool allow_high_s) {
  if (tx.y_parity > 1 || ((tx.type != 0 || !allow_high_s) && tx.s > kHalfOrder)) return std::nullopt;
  return recover(signing_hash(tx), tx.r, tx.s, tx.y_parity == 1);
}

bool recover_sender(Transaction& tx, bool allow_high_s) {
  const auto sender = sender_of(tx, allow_high_s);
  tx.sender_known = sender.has_value();
  if (sender) tx.sender = *sender;
  return tx.sender_known;
}

void recover_senders(std::span<Transaction*> txs, unsigned threads) {
  constexpr size_t kBatch = 64;
  parallel_for(
      txs.size(), kBatch,
      [&](size_t begin, size_t end) {
        RecoverItem items[kBatch];
        std::optional<Address> senders[kBatch];
        Transaction* owner[kBatch];
        size_t n = 0;
        for (size_t i = begin; i < end; ++i) {
          Transaction& tx = *txs[i];
          if (tx.sender_known || tx.y_parity > 1 || tx.s > kHalfOrder) continue;
          items[n] = {signing_hash(tx), {tx.r, tx.s, tx.y_parity == 1}};
          owner[n++] = &tx;
        }
        recover_batch({items, n}, {senders, n}, 1);
        for (size_t i = 0; i < n; ++i) {
          owner[i]->sender_known = senders[i].has_value();
          if (senders[i]) owner[i]->sender = *senders[i];
        }
      },
      threads);
}

std::optional<Address> recover_authority(const Authorization& a) {
  if (a.y_parity > 1 || a.s > kHalfOrder) return std::nullopt;
  rlp::Writer w;
  w.out.push_back(0x05);
  const size_t at = w.open();
  w.u256(a.chain_id);
  w.address(a.address);
  w.u64(a.nonce);
  w.close(at);
  return recover(keccak(w.out), a.r, a.s, a.y_parity == 1);
}

}  // namespace zg
