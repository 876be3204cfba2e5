#include "chain/index.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "base/rlp.h"

namespace zg::index {

namespace {

constexpr uint64_t kFormat = 1;
constexpr uint64_t kEnd = ~uint64_t{0};

void add64(std::string& to, uint64_t x) {
  for (int shift = 56; shift >= 0; shift -= 8) to.push_back(static_cast<char>(x >> shift));
}
void add32(std::string& to, uint32_t x) {
  for (int shift = 24; shift >= 0; shift -= 8) to.push_back(static_cast<char>(x >> shift));
}
uint64_t get_be(std::string_view v, size_t at, size_t n) {
  uint64_t x = 0;
  for (size_t i = 0; i < n; ++i) x = x << 8 | static_cast<uint8_t>(v[at + i]);
  return x;
}
std::string key(char kind, ByteView what) {
  std::string k;
  k.reserve(2 + what.size() + 8);
  k.push_back('C');
  k.push_back(kind);
  k.append(as_chars(what));
  return k;
}
std::string key(char kind, ByteView what, uint64_t number) {
  std::string k = key(kind, what);
  add64(k, number);
  return k;
}
std::string key(char kind, uint64_t number) { return key(kind, ByteView{}, number); }

std::optional<Chain::Place> place_of(const std::string& v) {
  if (v.size() != 12) return std::nullopt;
  return Chain::Place{get_be(v, 0, 8), static_cast<uint32_t>(get_be(v, 8, 4))};
}

// What the logs of a block hold: addresses, and topics with a bit for each position.
struct Holds {
  std::unordered_set<Address, AddressHasher> addresses;
  std::unordered_map<Hash, uint8_t, HashHasher> topics;
  explicit Holds(const StoredBlock& block) {
    for (const Receipt& r : block.receipts)
      for (const Log& log : r.logs) {
        addresses.insert(log.address);
        for (size_t i = 0; i < log.topics.size() && i < 4; ++i) topics[log.topics[i]] |= static_cast<uint8_t>(1u << i);
      }
  }
};

// Blocks that have one of several things, in order. All share one iterator; each remembers where it stands.
class Union {
 public:
  explicit Union(uint8_t mask) : mask_(mask) {}
  void alternative(std::string prefix) { alternatives_.push_back({std::move(prefix), 0, false}); }

  // The first block ≥ `number`; kEnd: none.
  uint64_t at_least(KvIterator& it, uint64_t number) {
    uint64_t best = kEnd;
    for (Alternative& a : alternatives_) {
      if (!a.known || a.at < number) {
        a.at = seek(it, a.prefix, number);
        a.known = true;
      }
      best = std::min(best, a.at);
    }
    return best;
  }

 private:
  struct Alternative {
    std::string prefix;
    uint64_t at;
    bool known;
  };
  uint64_t seek(KvIterator& it, const std::string& prefix, uint64_t number) const {
    std::string from = prefix;
    add64(from, number);
    for (it.seek(from); it.valid(); it.next()) {
      const std::string_view k = it.key();
      if (k.size() != prefix.size() + 8 || k.substr(0, prefix.size()) != prefix) return kEnd;
      const std::string_view v = it.value();
      if (mask_ == 0 || (v.size() == 1 && (static_cast<uint8_t>(v[0]) & mask_) != 0)) return get_be(k, prefix.size(), 8);
    }
    return kEnd;
  }

  std::vector<Alternative> alternatives_;
  uint8_t mask_;  // 0: the value does not matter
};

}  // namespace

Found read_meta(const KvStore& kv, MetaEntry& out) {
  std::string v;
  if (!kv.get("Cm", v)) return Found::absent;
  rlp::Reader r(rlp::single(as_bytes(v)));
  const uint64_t format = r.u64();
  out.chain_id = r.u256();
  out.genesis_hash = r.hash();
  out.identity = r.hash();
  return r.done() && format == kFormat ? Found::yes : Found::malformed;
}

void put_meta(KvBatch& batch, const MetaEntry& meta) {
  rlp::Writer w;
  const size_t at = w.open();
  w.u64(kFormat);
  w.u256(meta.chain_id);
  w.hash(meta.genesis_hash);
  w.hash(meta.identity);
  w.close(at);
  batch.put("Cm", as_chars(w.out));
}

Found read_head(const KvStore& kv, HeadEntry& out) {
  std::string v;
  if (!kv.get("CH", v)) return Found::absent;
  rlp::Reader r(rlp::single(as_bytes(v)));
  out.number = r.u64();
  out.hash = r.hash();
  out.version = r.u64();
  out.state_root = r.hash();
  return r.done() ? Found::yes : Found::malformed;
}

void put_head(KvBatch& batch, const HeadEntry& head) {
  rlp::Writer w;
  const size_t at = w.open();
  w.u64(head.number);
  w.hash(head.hash);
  w.u64(head.version);
  w.hash(head.state_root);
  w.close(at);
  batch.put("CH", as_chars(w.out));
}

Found read_block(const KvStore& kv, uint64_t number, BlockEntry& out) {
  std::string v;
  if (!kv.get(key('b', number), v)) return Found::absent;
  if (v.size() != 56) return Found::malformed;
  out.place = {static_cast<uint32_t>(get_be(v, 0, 4)), static_cast<uint32_t>(get_be(v, 4, 4)), get_be(v, 8, 8)};
  out.version = get_be(v, 16, 8);
  out.hash = Hash::from(reinterpret_cast<const uint8_t*>(v.data()) + 24);
  return Found::yes;
}

void put_block_entry(KvBatch& batch, uint64_t number, const BlockEntry& entry) {
  std::string v;
  add32(v, entry.place.segment);
  add32(v, entry.place.length);
  add64(v, entry.place.offset);
  add64(v, entry.version);
  v.append(as_chars(entry.hash));
  batch.put(key('b', number), v);
}

// A block without a record: only its hash is known (BLOCKHASH after a snapshot).
void put_hash_only(KvBatch& batch, uint64_t number, const Hash& hash) { put_block_entry(batch, number, {{}, 0, hash}); }

Found read_header(const KvStore& kv, uint64_t number, Header& out) {
  std::string v;
  if (!kv.get(key('e', number), v)) return Found::absent;
  return decode_header(as_bytes(v), out) ? Found::yes : Found::malformed;
}

std::optional<uint64_t> number_of(const KvStore& kv, const Hash& block_hash) {
  std::string v;
  if (!kv.get(key('h', block_hash), v) || v.size() != 8) return std::nullopt;
  return get_be(v, 0, 8);
}

std::optional<Chain::Place> locate(const KvStore& kv, const Hash& tx_hash) {
  std::string v;
  return kv.get(key('t', tx_hash), v) ? place_of(v) : std::nullopt;
}

std::optional<Chain::Place> locate(const KvStore& kv, const Address& sender, uint64_t nonce) {
  std::string v;
  return kv.get(key('n', sender, nonce), v) ? place_of(v) : std::nullopt;
}

void put_block(KvBatch& batch, const StoredBlock& block, const BlockEntry& entry) {
  const Header& h = block.block.header;
  put_block_entry(batch, h.number, entry);
  batch.put(key('e', h.number), as_chars(encode_header(h)));
  std::string number;
  add64(number, h.number);
  batch.put(key('h', block.block.hash), number);
  std::string place = number;
  place.resize(12);
  std::string by_hash = key('t', Hash{}), by_nonce = key('n', Address{}, 0);
  const auto& txs = block.block.transactions;
  const auto place_at = [&](uint32_t i) -> std::string_view {
    for (size_t k = 0; k < 4; ++k) place[8 + k] = static_cast<char>(i >> (24 - 8 * k));
    return place;
  };
  // In order of their keys: the memory table's list is walked where it was just touched.
  std::vector<uint32_t> order(txs.size());
  for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return txs[a].hash < txs[b].hash; });
  for (const uint32_t i : order) {
    std::memcpy(by_hash.data() + 2, txs[i].hash.b, 32);
    batch.put(by_hash, place_at(i));
  }
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return txs[a].sender != txs[b].sender ? txs[a].sender < txs[b].sender : txs[a].nonce < txs[b].nonce;
  });
  for (const uint32_t i : order) {
    std::memcpy(by_nonce.data() + 2, txs[i].sender.b, 20);
    for (size_t k = 0; k < 8; ++k) by_nonce[22 + k] = static_cast<char>(txs[i].nonce >> (56 - 8 * k));
    batch.put(by_nonce, place_at(i));
  }
  const Holds holds(block);
  if (!holds.addresses.empty()) batch.put(key('l', h.number), {});
  for (const Address& a : holds.addresses) batch.put(key('a', a, h.number), {});
  for (const auto& [topic, mask] : holds.topics) batch.put(key('p', topic, h.number), {reinterpret_cast<const char*>(&mask), 1});
}

void del_block(KvBatch& batch, const StoredBlock& block) {
  const uint64_t n = block.block.header.number;
  batch.del(key('b', n));
  batch.del(key('e', n));
  batch.del(key('h', block.block.hash));
  for (const Transaction& tx : block.block.transactions) {
    batch.del(key('t', tx.hash));
    batch.del(key('n', tx.sender, tx.nonce));
  }
  const Holds holds(block);
  if (!holds.addresses.empty()) batch.del(key('l', n));
  for (const Address& a : holds.addresses) batch.del(key('a', a, n));
  for (const auto& [topic, mask] : holds.topics) batch.del(key('p', topic, n));
}

void candidates(const KvStore& kv, const LogFilter& filter, const std::function<bool(uint64_t number)>& fn) {
  std::vector<Union> all;
  if (!filter.addresses.empty()) {
    Union u(0);
    for (const Address& a : filter.addresses) u.alternative(key('a', a));
    all.push_back(std::move(u));
  }
  for (size_t i = 0; i < filter.topics.size() && i < 4; ++i) {
    if (filter.topics[i].empty()) continue;
    Union u(static_cast<uint8_t>(1u << i));
    for (const Hash& t : filter.topics[i]) u.alternative(key('p', t));
    all.push_back(std::move(u));
  }
  if (all.empty()) {
    Union u(0);
    u.alternative(key('l', ByteView{}));
    all.push_back(std::move(u));
  }
  const auto it = kv.iterator(nullptr, true);
  for (uint64_t at = filter.from; at <= filter.to;) {
    uint64_t next = at;
    for (Union& u : all) next = std::max(next, u.at_least(*it, next));
    if (next > filter.to || next == kEnd) return;
    if (next == at || all.size() == 1) {
      if (!fn(next)) return;
      at = next + 1;
    } else {
      at = next;  // one has skipped ahead: the others must follow
    }
  }
}

bool matches(const LogFilter& filter, const Log& log) {
  if (!filter.addresses.empty() && std::find(filter.addresses.begin(), filter.addresses.end(), log.address) == filter.addresses.end()) return false;
  if (filter.topics.size() > log.topics.size()) {
    // A place beyond the log's topics is met only by a wildcard that is not a place at all: geth's rule counts places.
    return false;
  }
  for (size_t i = 0; i < filter.topics.size(); ++i) {
    const auto& any = filter.topics[i];
    if (!any.empty() && std::find(any.begin(), any.end(), log.topics[i]) == any.end()) return false;
  }
  return true;
}

}  // namespace zg::index
