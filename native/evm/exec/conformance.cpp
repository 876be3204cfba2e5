#include "exec/conformance.h"

#include <algorithm>
#include <map>

#include "base/rlp.h"
#include "crypto/secp256k1.h"
#include "exec/block.h"
#include "exec/conformance_parts.h"
#include "state/memory_state.h"
#include "trie/trie.h"

namespace zg {

namespace {

// BLOCKHASH(n) of state tests.
class DecimalHashes : public BlockHashes {
 public:
  Hash block_hash(uint64_t number) const override { return keccak(as_bytes(std::to_string(number))); }
};

std::string_view text(rlp::Reader& r) { return as_chars(r.bytes()); }

// A list of no or one number.
std::optional<U256> maybe(rlp::Reader& r) {
  rlp::Reader list = r.list();
  if (!list.ok()) r.fail();
  if (list.empty()) return std::nullopt;
  const U256 x = list.u256();
  if (!list.done()) r.fail();
  return x;
}

Bytes answer_state(const Hash& root, const Hash& logs, uint64_t gas, std::string_view error) {
  rlp::Writer w;
  const size_t at = w.open();
  w.hash(root);
  w.hash(logs);
  w.u64(gas);
  w.bytes(as_bytes(error));
  w.close(at);
  return std::move(w.out);
}

Hash hash_logs(const std::vector<Log>& logs) {
  rlp::Writer w;
  const size_t list = w.open();
  for (const Log& log : logs) {
    const size_t entry = w.open();
    w.address(log.address);
    const size_t topics = w.open();
    for (const Hash& t : log.topics) w.hash(t);
    w.close(topics);
    w.bytes(log.data);
    w.close(entry);
  }
  w.close(list);
  return keccak(w.out);
}

bool read_tx(rlp::Reader r, const U256& chain_id, Transaction& tx) {
  const uint64_t type = r.u64();
  if (type > 4) return false;
  tx.type = static_cast<uint8_t>(type);
  tx.has_chain_id = type != 0;
  if (type != 0) tx.chain_id = chain_id;
  tx.nonce = r.u64();
  tx.gas_price = r.u256();
  tx.max_priority_fee = r.u256();
  tx.gas_limit = r.u64();
  tx.to = r.maybe_address();
  tx.value = r.u256();
  const ByteView data = r.bytes();
  tx.data.assign(data.begin(), data.end());
  rlp::Reader list = r.list();
  while (list.ok() && !list.empty()) {
    rlp::Reader entry = list.list();
    AccessEntry e;
    e.address = entry.address();
    rlp::Reader keys = entry.list();
    while (keys.ok() && !keys.empty()) e.keys.push_back(U256::from(keys.hash()));
    if (!keys.done() || !entry.done()) return false;
    tx.access_list.push_back(std::move(e));
  }
  tx.max_blob_fee = r.u256();
  rlp::Reader hashes = r.list();
  while (hashes.ok() && !hashes.empty()) tx.blob_hashes.push_back(hashes.hash());
  rlp::Reader auths = r.list();
  while (auths.ok() && !auths.empty()) {
    rlp::Reader entry = auths.list();
    Authorization a;
    a.chain_id = entry.u256();
    a.address = entry.address();
    a.nonce = entry.u64();
    // A parity beyond a byte is as invalid as any other.
    a.y_parity = static_cast<uint8_t>(std::min<uint64_t>(entry.u64(), 255));
    a.r = entry.u256();
    a.s = entry.u256();
    if (!entry.done()) return false;
    tx.authorizations.push_back(a);
  }
  const auto sender = r.maybe_address();
  const ByteView secret = r.bytes();
  if (!r.done() || !list.done() || !hashes.done() || !auths.done()) return false;
  const auto from = sender ? sender : secret.size() == 32 ? address_of_secret(Hash::from(secret.data())) : std::nullopt;
  tx.sender_known = from.has_value();
  if (from) tx.sender = *from;
  return true;
}

Bytes run_state(ByteView request) {
  rlp::Reader r(rlp::single(request));
  const auto rev = revision_named(text(r));
  const U256 chain_id = r.u256();
  rlp::Reader blobs = r.list();
  rlp::Reader env_fields = r.list();
  MemoryState pre;
  if (!rev || !read_accounts(r, pre)) return {};
  const rlp::Item tx_item = r.item();
  BlockEnv env;
  env.number = env_fields.u64();
  env.timestamp = env_fields.u64();
  env.gas_limit = env_fields.u64();
  env.coinbase = env_fields.address();
  const U256 difficulty = env_fields.u256();
  const auto random = maybe(env_fields);
  const auto base_fee = maybe(env_fields);
  const auto excess = maybe(env_fields);
  ChainConfig config = ChainConfig::all_at(*rev, chain_id);
  if (blobs.ok() && !blobs.empty()) {
    BlobSchedule& b = config.blobs[static_cast<size_t>(*rev)];
    b.target = blobs.u64();
    b.max = blobs.u64();
    b.update_fraction = blobs.u64();
  }
  if (!r.done() || !env_fields.done() || !blobs.done()) return {};
  constexpr uint64_t kDefaultBaseFee = 10;
  env.prev_randao = *rev >= Revision::paris && random ? *random : difficulty;
  if (*rev >= Revision::london) env.base_fee = base_fee ? *base_fee : U256(kDefaultBaseFee);
  if (*rev >= Revision::cancun)
    env.blob_base_fee = blob_base_fee(excess ? excess->saturated() : 0, config.blobs_at(env.timestamp, *rev).update_fraction);
  env.chain_id = chain_id;
  const DecimalHashes hashes;
  env.hashes = &hashes;

  const Precompiles precompiles;
  WorkingState state(pre);
  TxOutcome outcome;
  if (!tx_item.is_list) {
    outcome.refusal = TxRefusal::invalid_signature;
    outcome.text = as_chars(tx_item.payload);
  } else {
    Transaction tx;
    if (!read_tx(rlp::Reader(tx_item.payload), chain_id, tx)) return {};
    if (!tx.sender_known) {
      outcome.refusal = TxRefusal::invalid_signature;
      outcome.text = "invalid sender";
    } else {
      TransitionOptions options;
      options.gas_available = env.gas_limit;
      outcome = run_transaction(state, config, *rev, env, precompiles, tx, options);
    }
  }
  // A block reward of nothing. Whether a transaction of a later fork's type still has a block around it is a convention of the tool that filled
  // the suite, which the environment tells (conformance.h).
  const bool whole_environment = base_fee.has_value() && random.has_value();
  if (outcome.refusal != TxRefusal::type_not_supported || whole_environment) {
    state.begin_transaction();
    state.add_balance(state.account(env.coinbase), {});
    state.finish_transaction(*rev);
  }
  const Hash root = pre.root_with(state.take_diff());
  return answer_state(root, hash_logs(outcome.logs), outcome.gas_used, outcome.text);
}

Bytes run_tx(ByteView request) {
  rlp::Reader r(rlp::single(request));
  const auto rev = revision_named(text(r));
  const ByteView raw = r.bytes();
  if (!r.done() || !rev) return {};
  std::string error;
  Transaction tx;
  uint64_t gas = 0;
  if (const char* why = decode_transaction(raw, tx)) error = why;
  static constexpr Revision kSince[] = {Revision::frontier, Revision::berlin, Revision::london, Revision::cancun, Revision::prague};
  if (error.empty() && *rev < kSince[tx.type]) error = "transaction type not supported";
  if (error.empty() && tx.has_chain_id && tx.type == 0 && *rev < Revision::spurious_dragon) error = "invalid transaction v, r, s values";
  if (error.empty() && tx.has_chain_id && tx.chain_id != U256(1)) error = "invalid chain id for signer";
  if (error.empty() && !recover_sender(tx, *rev < Revision::homestead)) error = "invalid sender";
  if (error.empty()) {
    gas = intrinsic_gas(tx, *rev);
    U256 cost;
    if (tx.gas_limit < std::max(gas, floor_gas(tx, *rev))) error = "intrinsic gas too low";
    else if (tx.nonce == ~uint64_t{0}) error = "nonce has max value";
    else if (tx.max_priority_fee > tx.gas_price) error = "max priority fee per gas higher than max fee per gas";
    else if (!mul_checked(tx.gas_price, tx.gas_limit, cost)) error = "gas limit × price does not fit";
    else if (!tx.to && *rev >= Revision::shanghai && tx.data.size() > 49'152) error = "max initcode size exceeded";
    else if (tx.type == 3 && tx.blob_hashes.empty()) error = "blob transaction missing blob hashes";
    else if (tx.type == 4 && tx.authorizations.empty()) error = "EIP-7702 transaction with empty auth list";
    else if (*rev >= Revision::osaka && tx.gas_limit > kTxGasCap) error = "transaction gas limit too high";
  }
  rlp::Writer w;
  const size_t at = w.open();
  w.bytes(as_bytes(error));
  w.hash(tx.hash);
  w.address(tx.sender);
  w.u64(gas);
  w.close(at);
  return std::move(w.out);
}

Bytes run_call(ByteView request) {
  rlp::Reader r(rlp::single(request));
  const auto rev = revision_named(text(r));
  const Address address = r.address();
  const ByteView input = r.bytes();
  const uint64_t gas = r.u64();
  if (!r.done() || !rev) return {};
  const PrecompileFn fn = find_precompile(*rev, address);
  PrecompileResult result;
  if (fn != nullptr) result = fn(input, gas);
  rlp::Writer w;
  const size_t at = w.open();
  w.u64(result.ok ? 1 : 0);
  w.u64(result.gas_used);
  w.bytes(result.output);
  w.close(at);
  return std::move(w.out);
}

Bytes run_trie(ByteView request) {
  rlp::Reader r(rlp::single(request));
  std::vector<std::pair<Bytes, Bytes>> pairs;
  while (r.ok() && !r.empty()) {
    rlp::Reader entry = r.list();
    const ByteView key = entry.bytes();
    const ByteView value = entry.bytes();
    if (!entry.done()) return {};
    pairs.emplace_back(Bytes(key.begin(), key.end()), Bytes(value.begin(), value.end()));
  }
  if (!r.done()) return {};
  std::sort(pairs.begin(), pairs.end());
  const Hash root = trie_root(pairs);
  return Bytes(root.b, root.b + 32);
}

// Whether every item within is well formed; an explicit stack, since input decides how deep it goes.
Bytes run_rlp(ByteView request) {
  const auto whole = rlp::single(request);
  if (!whole) return {};
  std::vector<ByteView> open;
  if (whole->is_list) open.push_back(whole->payload);
  while (!open.empty()) {
    if (open.back().empty()) {
      open.pop_back();
      continue;
    }
    const auto item = rlp::next(open.back());
    if (!item) return {};
    if (item->is_list) open.push_back(item->payload);
  }
  return {1};
}

}  // namespace

bool read_accounts(rlp::Reader& r, MemoryState& out) {
  rlp::Reader list = r.list();
  std::vector<std::pair<U256, U256>> storage;
  while (list.ok() && !list.empty()) {
    rlp::Reader fields = list.list();
    const Address address = fields.address();
    const uint64_t nonce = fields.u64();
    const U256 balance = fields.u256();
    const ByteView code = fields.bytes();
    rlp::Reader slots = fields.list();
    storage.clear();
    while (slots.ok() && !slots.empty()) {
      rlp::Reader pair = slots.list();
      const U256 key = pair.u256();
      const U256 value = pair.u256();
      if (!pair.done()) return false;
      storage.emplace_back(key, value);
    }
    if (!slots.done() || !fields.done()) return false;
    out.put(address, nonce, balance, code.empty() ? Code::empty() : Code::make(Bytes(code.begin(), code.end())), storage);
  }
  return list.done();
}

Bytes run_conformance(std::string_view kind, ByteView request) {
  if (kind == "state") return run_state(request);
  if (kind == "block") return run_block_request(request);
  if (kind == "tx") return run_tx(request);
  if (kind == "call") return run_call(request);
  if (kind == "trie") return run_trie(request);
  if (kind == "rlp") return run_rlp(request);
  return {};
}

}  // namespace zg
