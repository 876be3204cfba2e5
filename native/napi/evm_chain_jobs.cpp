// The chain's methods that run on threads, and callSync.
#include <map>

#include "chain/records.h"
#include "evm_chain.h"
#include "trace/replay.h"

namespace evm {

namespace {

using zg::Address;
using zg::ByteView;
using zg::Bytes;
using zg::ChainError;
using zg::Failure;
using zg::Hash;
using zg::U256;

constexpr size_t kSlotsOfAProofMax = 1'024;
constexpr size_t kRangeMax = 10'000;
constexpr size_t kFilterTermsMax = 4'096;

Failure malformed(const char* what) { return {ChainError::rejected, what}; }

bool bytes_argument(Call& c, size_t i, const char* what, Bytes& out) {
  ByteView v;
  if (!get_bytes(c.env, c.argv[i], v)) {
    throw_type(c.env, what);
    return false;
  }
  out.assign(v.begin(), v.end());
  return true;
}

U256 word(zg::rlp::Reader& r) {
  const ByteView v = r.bytes();
  if (v.size() <= 32) return U256::from_be(v);
  r.fail();
  return {};
}

napi_value bytes_value(napi_env env, Bytes& b) { return make_bytes(env, std::move(b)); }

// ---- calls

struct CallInput {
  zg::Transaction tx;
  At at;
  bool next = false;
  bool has_env = false;
  zg::CallContext context;
  uint64_t timeout_ms = 0;
  U256 gas_cap;
  bool has_tracer = false;
  std::string tracer, tracer_config;
  std::shared_ptr<const zg::StateView> state;
};

struct CallAnswer {
  zg::CallOutcome outcome;
  std::string error, trace;
  bool has_access_list = false, has_trace = false;
};

// Reads (call, at, next, options). False: an exception is pending.
bool get_call(Call& c, size_t options_at, CallInput& in) {
  ByteView v;
  const char* wrong = nullptr;
  if (!get_bytes(c.env, c.argv[0], v)) wrong = "a call is a Uint8Array";
  else wrong = zg::decode_call(v, c.chain->config().chain_id, in.tx);
  if (wrong != nullptr) {
    throw_type(c.env, wrong);
    return false;
  }
  if (!get_at(c, 1, in.at)) return false;
  if (!get_bool(c.env, c.argv[2], in.next)) {
    throw_type(c.env, "next is true or false");
    return false;
  }
  const napi_value options = c.argv[options_at];
  if (is_undefined(c.env, options)) return true;
  if (get_bytes(c.env, property(c.env, options, "overrides"), v)) wrong = zg::decode_overrides(v, in.context.overrides);
  if (wrong == nullptr && get_bytes(c.env, property(c.env, options, "env"), v)) {
    wrong = zg::decode_env(v, c.chain->config(), in.context.env);
    in.context.env.hashes = &c.chain->hashes();
    in.has_env = true;
  }
  (void)get_bool(c.env, property(c.env, options, "accessList"), in.context.wants_access_list);
  (void)get_number(c.env, property(c.env, options, "timeoutMs"), in.timeout_ms);
  (void)get_bigint(c.env, property(c.env, options, "gasCap"), in.gas_cap);
  const napi_value tracer = property(c.env, options, "tracer");
  if (wrong == nullptr && !is_undefined(c.env, tracer)) {
    in.has_tracer = get_text(c.env, property(c.env, tracer, "name"), in.tracer) && get_text(c.env, property(c.env, tracer, "config"), in.tracer_config);
    if (!in.has_tracer || trace_hooks.watch == nullptr) wrong = "a tracer has a name and a config";
  }
  if (wrong != nullptr) throw_type(c.env, wrong);
  return wrong == nullptr;
}

// State and block that the call runs on.
Failure prepare(zg::Chain& chain, CallInput& in) {
  zg::Header header;
  if (Failure f = resolve(chain, in.at, in.state, header)) return f;
  in.context.state = in.state.get();
  if (!in.has_env) in.context.env = in.next ? zg::env_after(chain, header) : zg::env_at(chain, header);
  return {};
}

napi_value make_answer(napi_env env, CallAnswer& a) {
  napi_value out = nullptr;
  if (napi_create_object(env, &out) != napi_ok) return nullptr;
  const zg::TxOutcome& tx = a.outcome.tx;
  const zg::CallKindOf kind = zg::kind_of(tx);
  if (kind != zg::CallKindOf::none) {
    static constexpr const char* kNames[] = {"", "revert", "out of gas", "other", "refused", "stopped"};
    set(env, out, "error", make_text(env, a.error.empty() ? zg::words_of(tx) : a.error));
    set(env, out, "kind", make_text(env, kNames[static_cast<size_t>(kind)]));
  }
  set(env, out, "gasUsed", make_bigint(env, tx.gas_used));
  set(env, out, "gasRefund", make_bigint(env, tx.gas_refund));
  set(env, out, "output", make_bytes(env, Bytes(tx.output)));
  zg::rlp::Writer logs;
  size_t at = logs.open();
  for (const zg::Log& log : tx.logs) write_log(logs, log);
  logs.close(at);
  set(env, out, "logs", make_bytes(env, std::move(logs.out)));
  if (a.has_access_list) {
    zg::rlp::Writer w;
    at = w.open();
    for (const zg::AccessEntry& e : a.outcome.access_list) {
      const size_t entry = w.open();
      w.address(e.address);
      const size_t keys = w.open();
      for (const U256& key : e.keys) w.hash(key.be());
      w.close(keys);
      w.close(entry);
    }
    w.close(at);
    set(env, out, "accessList", make_bytes(env, std::move(w.out)));
  }
  if (a.has_trace) set(env, out, "trace", make_text(env, a.trace));
  return out;
}

napi_value call(Call& c) {
  auto in = std::make_shared<CallInput>();
  if (!get_call(c, 3, *in)) return nullptr;
  const auto stop = c.handle->watchdog.watch(in->timeout_ms);
  return start<CallAnswer>(
      c, c.handle->readers,
      [chain = c.chain, in, stop](CallAnswer& out) -> Failure {
        if (Failure f = prepare(*chain, *in)) return f;
        in->context.stop = stop.get();
        std::unique_ptr<zg::CallWatch> watch;
        if (in->has_tracer) {
          watch = trace_hooks.watch(*chain, in->tracer, in->tracer_config, stop, &out.trace);
          if (watch == nullptr) return {ChainError::rejected, "there is no tracer '" + in->tracer + "' with such a configuration"};
          in->context.watch = watch.get();
          out.has_trace = true;
        }
        out.outcome = zg::run_call(*chain, in->context, in->tx);
        out.has_access_list = in->context.wants_access_list;
        in->state.reset();
        return {};
      },
      make_answer);
}

// With at most `gasBudget` of gas. Code that ran to its end or reverted with at most half of it did so as with all gas: a frame that was cut short by the budget
// would have burnt 63/64 of what was there.
napi_value call_sync(Call& c) {
  CallInput in;
  uint64_t budget = 0;
  if (!get_call(c, 4, in)) return nullptr;
  if (!get_number(c.env, c.argv[3], budget)) {
    throw_type(c.env, "a gas budget is a whole number");
    return nullptr;
  }
  if (Failure f = prepare(*c.chain, in)) {
    throw_failure(c.env, f);
    return nullptr;
  }
  const bool is_cut = in.tx.gas_limit > budget;
  if (is_cut) in.tx.gas_limit = budget;
  CallAnswer out;
  out.outcome = zg::run_call(*c.chain, in.context, in.tx);
  const zg::TxOutcome& tx = out.outcome.tx;
  const zg::CallKindOf kind = zg::kind_of(tx);
  if (is_cut) {
    const bool is_sure = (kind == zg::CallKindOf::none || kind == zg::CallKindOf::revert) && tx.gas_used + tx.gas_refund <= budget / 2;
    if (!is_sure) return undefined(c.env);
  }
  out.has_access_list = in.context.wants_access_list;
  return make_answer(c.env, out);
}

napi_value estimate_gas(Call& c) {
  auto in = std::make_shared<CallInput>();
  if (!get_call(c, 3, *in)) return nullptr;
  const auto stop = c.handle->watchdog.watch(in->timeout_ms);
  return start<CallAnswer>(
      c, c.handle->readers,
      [chain = c.chain, in, stop](CallAnswer& out) -> Failure {
        if (Failure f = prepare(*chain, *in)) return f;
        in->context.stop = stop.get();
        out.outcome = zg::estimate_gas(*chain, in->context, in->tx, in->gas_cap.saturated() == ~uint64_t{0} ? 0 : in->gas_cap.low(), out.error);
        in->state.reset();
        return {};
      },
      make_answer);
}

// ---- reads

struct MaybeBytes {
  bool is_there = false;
  Bytes bytes;
};

napi_value block(Call& c) {
  uint64_t number = 0;
  if (!get_number(c.env, c.argv[0], number)) {
    throw_type(c.env, "a block number is a whole number");
    return nullptr;
  }
  return start<MaybeBytes>(
      c, c.handle->readers,
      [chain = c.chain, number](MaybeBytes& out) -> Failure {
        std::shared_ptr<const zg::StoredBlock> found;
        if (Failure f = chain->read(number, found)) return f.error == ChainError::not_found ? Failure{} : f;
        out = {true, encode_record(*found, true)};
        return {};
      },
      [](napi_env env, MaybeBytes& b) { return b.is_there ? make_bytes(env, std::move(b.bytes)) : undefined(env); });
}

// The hashes of a block's transactions as the text of a JSON list: made here because ten thousand of them would hold up the JavaScript thread.
napi_value transaction_hashes(Call& c) {
  uint64_t number = 0;
  if (!get_number(c.env, c.argv[0], number)) {
    throw_type(c.env, "a block number is a whole number");
    return nullptr;
  }
  struct Text {
    bool is_there = false;
    std::string json;
  };
  return start<Text>(
      c, c.handle->readers,
      [chain = c.chain, number](Text& out) -> Failure {
        std::shared_ptr<const zg::StoredBlock> found;
        if (Failure f = chain->read(number, found)) return f.error == ChainError::not_found ? Failure{} : f;
        static constexpr char kDigits[] = "0123456789abcdef";
        out.is_there = true;
        out.json.reserve(2 + found->block.transactions.size() * 69);
        out.json = "[";
        for (const zg::Transaction& tx : found->block.transactions) {
          if (out.json.size() > 1) out.json += ',';
          out.json += "\"0x";
          for (const uint8_t b : tx.hash.b) {
            out.json += kDigits[b >> 4];
            out.json += kDigits[b & 15];
          }
          out.json += '"';
        }
        out.json += ']';
        return {};
      },
      [](napi_env env, Text& t) -> napi_value {
        if (!t.is_there) return undefined(env);
        napi_value out = nullptr;
        return napi_create_string_latin1(env, t.json.data(), t.json.size(), &out) == napi_ok ? out : nullptr;
      });
}

bool decode_filter(ByteView in, zg::LogFilter& out) {
  zg::rlp::Reader r(zg::rlp::single(in));
  out.from = r.u64();
  out.to = r.u64();
  size_t terms = 0;
  zg::rlp::Reader addresses = r.list();
  while (addresses.ok() && !addresses.empty() && ++terms <= kFilterTermsMax) out.addresses.push_back(addresses.address());
  zg::rlp::Reader topics = r.list();
  while (topics.ok() && !topics.empty() && out.topics.size() < 4) {
    zg::rlp::Reader any = topics.list();
    out.topics.emplace_back();
    while (any.ok() && !any.empty() && ++terms <= kFilterTermsMax) out.topics.back().push_back(any.hash());
    if (!any.done()) return false;
  }
  out.limit = static_cast<size_t>(r.u64());
  return addresses.done() && topics.done() && r.done();
}

napi_value logs(Call& c) {
  Bytes raw;
  if (!bytes_argument(c, 0, "a filter is a Uint8Array", raw)) return nullptr;
  return start<Bytes>(
      c, c.handle->readers,
      [chain = c.chain, raw](Bytes& out) -> Failure {
        zg::LogFilter filter;
        if (!decode_filter(raw, filter)) return malformed("the filter is malformed");
        std::vector<zg::PlacedLog> found;
        if (Failure f = chain->logs(filter, found)) return f;
        zg::rlp::Writer w;
        const size_t at = w.open();
        for (const auto& log : found) write_placed_log(w, log);
        w.close(at);
        out = std::move(w.out);
        return {};
      },
      bytes_value);
}

napi_value proof(Call& c) {
  ByteView v;
  uint32_t count = 0;
  At at;
  bool ok = get_bytes(c.env, c.argv[0], v) && v.size() == 20;
  const Address address = ok ? Address::from(v.data()) : Address{};
  ok = ok && napi_get_array_length(c.env, c.argv[1], &count) == napi_ok && count <= kSlotsOfAProofMax;
  std::vector<U256> slots;
  for (uint32_t i = 0; ok && i < count; ++i) {
    napi_value item = nullptr;
    ok = napi_get_element(c.env, c.argv[1], i, &item) == napi_ok && get_bytes(c.env, item, v) && v.size() == 32;
    if (ok) slots.push_back(U256::from_be(v.data()));
  }
  if (!ok) {
    throw_type(c.env, "a proof is of an address and at most 1024 slots of 32 bytes");
    return nullptr;
  }
  if (!get_at(c, 2, at)) return nullptr;
  return start<Bytes>(
      c, c.handle->readers,
      [chain = c.chain, address, slots, at](Bytes& out) -> Failure {
        std::shared_ptr<const zg::StateView> state;
        zg::Header header;
        if (Failure f = resolve(*chain, at, state, header)) return f;
        zg::AccountProof p;
        std::string message;
        if (!state->proof(address, slots, p, message)) return {ChainError::pruned, message};
        zg::rlp::Writer w;
        const auto nodes = [&](const std::vector<Bytes>& list) {
          const size_t n = w.open();
          for (const Bytes& node : list) w.bytes(node);
          w.close(n);
        };
        const size_t all = w.open();
        w.u64(p.account.nonce);
        w.u256(p.account.balance);
        w.hash(p.account.code_hash);
        w.hash(p.exists ? p.storage_root : zg::empty_trie_root());
        nodes(p.nodes);
        const size_t list = w.open();
        for (const auto& s : p.slots) {
          const size_t item = w.open();
          w.hash(s.key.be());
          w.u256(s.value);
          nodes(s.nodes);
          w.close(item);
        }
        w.close(list);
        w.close(all);
        out = std::move(w.out);
        return {};
      },
      bytes_value);
}

// [[…]…], and the hash to go on from, or nothing.
void finish_range(zg::rlp::Writer& w, size_t all, size_t list, const std::optional<Hash>& next, Bytes& out) {
  w.close(list);
  w.bytes(next ? next->view() : ByteView{});
  w.close(all);
  out = std::move(w.out);
}

napi_value account_range(Call& c) {
  ByteView v;
  uint64_t limit = 0;
  At at;
  if (!get_bytes(c.env, c.argv[0], v) || v.size() != 32 || !get_number(c.env, c.argv[1], limit)) {
    throw_type(c.env, "a range begins at a hash of 32 bytes and has a limit");
    return nullptr;
  }
  if (!get_at(c, 2, at)) return nullptr;
  return start<Bytes>(
      c, c.handle->readers,
      [chain = c.chain, begin = Hash::from(v.data()), limit = std::min<size_t>(limit, kRangeMax), at](Bytes& out) -> Failure {
        std::shared_ptr<const zg::StateView> state;
        zg::Header header;
        if (Failure f = resolve(*chain, at, state, header)) return f;
        zg::rlp::Writer w;
        const size_t all = w.open(), list = w.open();
        size_t count = 0;
        std::optional<Hash> next;
        state->each_account(begin, [&](const Hash& hash, const Bytes& preimage, const zg::AccountData& a) {
          if (count++ == limit) {
            next = hash;
            return false;
          }
          Hash root = zg::empty_trie_root();
          if (preimage.size() == 20) (void)state->storage_root(Address::from(preimage.data()), root);
          const size_t item = w.open();
          w.hash(hash);
          w.bytes(preimage);
          w.u64(a.nonce);
          w.u256(a.balance);
          w.hash(a.code_hash);
          w.hash(root);
          w.close(item);
          return true;
        });
        finish_range(w, all, list, next, out);
        return {};
      },
      bytes_value);
}

napi_value storage_range(Call& c) {
  ByteView a, v;
  uint64_t limit = 0;
  At at;
  if (!get_bytes(c.env, c.argv[0], a) || a.size() != 20 || !get_bytes(c.env, c.argv[1], v) || v.size() != 32 || !get_number(c.env, c.argv[2], limit)) {
    throw_type(c.env, "a range is of an address, begins at a hash of 32 bytes and has a limit");
    return nullptr;
  }
  if (!get_at(c, 3, at)) return nullptr;
  // After so many transactions of the block behind `at`.
  uint64_t within = 0;
  const bool inside = !is_undefined(c.env, c.argv[4]);
  if (inside && (!get_number(c.env, c.argv[4], within) || within > UINT32_MAX || at.is_head)) {
    throw_type(c.env, "a number of transactions goes with a block");
    return nullptr;
  }
  return start<Bytes>(
      c, c.handle->readers,
      [chain = c.chain, address = Address::from(a.data()), begin = Hash::from(v.data()), limit = std::min<size_t>(limit, kRangeMax), at,
       inside, within = static_cast<uint32_t>(within)](Bytes& out) -> Failure {
        std::shared_ptr<const zg::StateView> state;
        zg::Header header;
        if (Failure f = resolve(*chain, at, state, header)) return f;
        zg::rlp::Writer w;
        const size_t all = w.open(), list = w.open();
        size_t count = 0;
        std::optional<Hash> next;
        // Slots that transactions of the block have set come between those that were there, by hash.
        bool cleared = false;
        std::vector<std::pair<U256, U256>> changes;
        if (inside) {
          const std::atomic<bool> stop{false};
          if (Failure f = zg::storage_within(*chain, at.number + 1, within, address, stop, cleared, changes)) return f;
        }
        struct Set {
          Bytes slot;
          U256 value;
        };
        std::map<Hash, Set> set;
        for (const auto& [slot, value] : changes) {
          const Hash be = slot.be();
          set[zg::keccak(be)] = {Bytes(be.b, be.b + 32), value};
        }
        auto ahead = set.lower_bound(begin);
        const auto emit = [&](const Hash& hash, const Bytes& preimage, const U256& value) {
          if (value.is_zero()) return true;
          if (count++ == limit) {
            next = hash;
            return false;
          }
          const size_t item = w.open();
          w.hash(hash);
          w.bytes(preimage);
          w.u256(value);
          w.close(item);
          return true;
        };
        bool more = true;
        if (!cleared)
          state->each_slot(address, begin, [&](const Hash& hash, const Bytes& preimage, const U256& value) {
            for (; more && ahead != set.end() && ahead->first < hash; ++ahead) more = emit(ahead->first, ahead->second.slot, ahead->second.value);
            if (more && !set.contains(hash)) more = emit(hash, preimage, value);
            return more;
          });
        for (; more && ahead != set.end(); ++ahead) more = emit(ahead->first, ahead->second.slot, ahead->second.value);
        finish_range(w, all, list, next, out);
        return {};
      },
      bytes_value);
}

napi_value save_snapshot(Call& c) {
  std::string path;
  if (!get_text(c.env, c.argv[0], path)) {
    throw_type(c.env, "a path is a string");
    return nullptr;
  }
  return start<int>(
      c, c.handle->readers, [chain = c.chain, path](int&) { return chain->save_snapshot(path); }, [](napi_env env, int&) { return undefined(env); });
}

// ---- the pool

zg::Pool::Answer submit_unsigned_of(zg::Chain& chain, ByteView in) {
  zg::rlp::Reader r(zg::rlp::single(in));
  zg::Transaction tx;
  tx.type = static_cast<uint8_t>(r.u64());
  tx.sender = r.address();
  tx.nonce = r.u64();
  tx.gas_limit = r.u64();
  tx.to = r.maybe_address();
  tx.value = r.u256();
  const ByteView data = r.bytes();
  tx.data.assign(data.begin(), data.end());
  tx.gas_price = r.u256();
  tx.max_priority_fee = r.u256();
  zg::rlp::Reader access = r.list();
  while (access.ok() && !access.empty()) {
    zg::rlp::Reader entry = access.list();
    zg::AccessEntry a;
    a.address = entry.address();
    zg::rlp::Reader keys = entry.list();
    while (keys.ok() && !keys.empty()) a.keys.push_back(word(keys));
    if (!keys.done() || !entry.done()) access.fail();
    tx.access_list.push_back(std::move(a));
  }
  zg::rlp::Reader authorizations = r.list();
  while (authorizations.ok() && !authorizations.empty()) {
    zg::rlp::Reader f = authorizations.list();
    zg::Authorization a;
    a.chain_id = f.u256();
    a.address = f.address();
    a.nonce = f.u64();
    a.y_parity = static_cast<uint8_t>(std::min<uint64_t>(f.u64(), 2));
    a.r = f.u256();
    a.s = f.u256();
    if (!f.done()) authorizations.fail();
    tx.authorizations.push_back(a);
  }
  if (!access.done() || !authorizations.done() || !r.done()) return {{}, "rlp: malformed transaction"};
  if (tx.type < 2) tx.max_priority_fee = tx.gas_price;
  return chain.submit_unsigned(std::move(tx));
}

napi_value submit_unsigned(Call& c) {
  Bytes raw;
  if (!bytes_argument(c, 0, "a transaction is a Uint8Array", raw)) return nullptr;
  return start<zg::Pool::Answer>(
      c, c.handle->readers,
      [chain = c.chain, raw](zg::Pool::Answer& out) -> Failure {
        out = submit_unsigned_of(*chain, raw);
        return {};
      },
      [](napi_env env, zg::Pool::Answer& a) { return a.refusal.empty() ? make_bytes(env, a.hash.view()) : make_text(env, a.refusal); });
}

// ---- consensus

bool decode_attributes(ByteView in, zg::BlockAttributes& out) {
  zg::rlp::Reader r(zg::rlp::single(in));
  out.timestamp = r.u64();
  out.prev_randao = r.hash();
  out.fee_recipient = r.address();
  out.parent_beacon_root = r.hash();
  zg::rlp::Reader withdrawals = r.list();
  while (withdrawals.ok() && !withdrawals.empty()) {
    zg::rlp::Reader f = withdrawals.list();
    zg::Withdrawal w;
    w.index = f.u64();
    w.validator = f.u64();
    w.address = f.address();
    w.amount_gwei = f.u64();
    if (!f.done()) return false;
    out.withdrawals.push_back(w);
  }
  out.gas_limit = r.u64();
  const ByteView extra = r.bytes();
  out.extra_data.assign(extra.begin(), extra.end());
  zg::rlp::Reader fee = r.list();
  if (fee.ok() && !fee.empty()) out.base_fee = fee.u256();
  return withdrawals.done() && fee.done() && r.done() && out.extra_data.size() <= 32;
}

napi_value build(Call& c) {
  Bytes raw;
  uint64_t budget_ms = 0;
  if (!bytes_argument(c, 0, "attributes are a Uint8Array", raw)) return nullptr;
  if (!get_number(c.env, c.argv[1], budget_ms)) {
    throw_type(c.env, "a deadline is milliseconds from now");
    return nullptr;
  }
  using Built = std::shared_ptr<const zg::StoredBlock>;
  return start<Built>(
      c, c.handle->consensus,
      [chain = c.chain, raw, budget_ms](Built& out) -> Failure {
        zg::BlockAttributes attributes;
        if (!decode_attributes(raw, attributes)) return malformed("the attributes are malformed");
        return chain->build(attributes, budget_ms, out);
      },
      [](napi_env env, Built& b) {
        napi_value out = nullptr;
        if (napi_create_object(env, &out) != napi_ok) return out;
        set(env, out, "hash", make_bytes(env, b->block.hash.view()));
        set(env, out, "transactions", make_number(env, static_cast<double>(b->block.transactions.size())));
        return out;
      });
}

napi_value new_payload(Call& c) {
  Bytes raw;
  if (!bytes_argument(c, 0, "a block is a Uint8Array", raw)) return nullptr;
  return start<Hash>(
      c, c.handle->consensus, [chain = c.chain, raw](Hash& out) { return chain->new_payload(raw, out); },
      [](napi_env env, Hash& h) { return make_bytes(env, h.view()); });
}

napi_value commit(Call& c) {
  ByteView v;
  if (!get_bytes(c.env, c.argv[0], v) || v.size() != 32) {
    throw_type(c.env, "a hash is a Uint8Array of 32 bytes");
    return nullptr;
  }
  using Head = zg::Chain::Head;
  return start<Head>(
      c, c.handle->consensus,
      [chain = c.chain, hash = Hash::from(v.data())](Head& out) -> Failure {
        std::shared_ptr<const zg::StoredBlock> block;
        if (Failure f = chain->commit(hash, block)) return f;
        out = *chain->head();
        // An answer may wait until after the chain is closed: it must hold nothing of its store.
        out.state.reset();
        return {};
      },
      [](napi_env env, Head& h) { return make_head(env, h); });
}

napi_value revert_to(Call& c) {
  uint64_t number = 0, version = 0;
  if (!get_number(c.env, c.argv[0], number) || !get_number(c.env, c.argv[1], version)) {
    throw_type(c.env, "a block number and a version are whole numbers");
    return nullptr;
  }
  return start<std::vector<Bytes>>(
      c, c.handle->consensus,
      [chain = c.chain, number, version](std::vector<Bytes>& out) -> Failure {
        std::vector<std::shared_ptr<const zg::StoredBlock>> gone;
        if (Failure f = chain->revert_to(number, version, gone)) return f;
        for (const auto& b : gone) out.push_back(encode_record(*b, true));
        return {};
      },
      [](napi_env env, std::vector<Bytes>& list) {
        napi_value out = nullptr;
        if (napi_create_array_with_length(env, list.size(), &out) != napi_ok) return out;
        for (size_t i = 0; i < list.size(); ++i)
          (void)napi_set_element(env, out, static_cast<uint32_t>(i), make_bytes(env, std::move(list[i])));
        return out;
      });
}

bool decode_writes(ByteView in, std::vector<zg::Chain::AccountWrite>& out) {
  zg::rlp::Reader r(zg::rlp::single(in));
  while (r.ok() && !r.empty()) {
    zg::rlp::Reader f = r.list();
    zg::Chain::AccountWrite w;
    w.address = f.address();
    zg::rlp::Reader nonce = f.list(), balance = f.list(), code = f.list(), slots = f.list();
    if (nonce.ok() && !nonce.empty()) w.nonce = nonce.u64();
    if (balance.ok() && !balance.empty()) w.balance = balance.u256();
    if (code.ok() && !code.empty()) {
      const ByteView bytes = code.bytes();
      w.code = Bytes(bytes.begin(), bytes.end());
    }
    while (slots.ok() && !slots.empty()) {
      zg::rlp::Reader s = slots.list();
      const U256 slot = word(s), value = word(s);
      if (!s.done()) return false;
      w.storage.emplace_back(slot, value);
    }
    if (!nonce.done() || !balance.done() || !code.done() || !slots.done() || !f.done()) return false;
    out.push_back(std::move(w));
  }
  return r.done();
}

napi_value write_state(Call& c) {
  Bytes raw;
  if (!bytes_argument(c, 0, "writes are a Uint8Array", raw)) return nullptr;
  return start<int>(
      c, c.handle->consensus,
      [chain = c.chain, raw](int&) -> Failure {
        std::vector<zg::Chain::AccountWrite> writes;
        if (!decode_writes(raw, writes)) return malformed("the writes are malformed");
        return chain->write_state(writes);
      },
      [](napi_env env, int&) { return undefined(env); });
}

}  // namespace

std::vector<napi_property_descriptor> job_methods() {
  return {method_property<call>("call"),
          method_property<call_sync>("callSync"),
          method_property<estimate_gas>("estimateGas"),
          method_property<block>("block"),
          method_property<transaction_hashes>("transactionHashes"),
          method_property<logs>("logs"),
          method_property<proof>("proof"),
          method_property<account_range>("accountRange"),
          method_property<storage_range>("storageRange"),
          method_property<save_snapshot>("saveSnapshot"),
          method_property<submit_unsigned>("submitUnsigned"),
          method_property<build>("build"),
          method_property<new_payload>("newPayload"),
          method_property<commit>("commit"),
          method_property<revert_to>("revertTo"),
          method_property<write_state>("writeState")};
}

}  // namespace evm
