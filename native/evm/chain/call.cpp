#include "chain/call.h"

#include <algorithm>

#include "base/rlp.h"
#include "exec/block_parts.h"

namespace zg {

namespace {

constexpr size_t kOverridesMax = 10'000;
constexpr size_t kSlotsMax = 1'000'000;
constexpr uint64_t kStipend = 2'300;

U256 word(rlp::Reader& r) {
  const ByteView v = r.bytes();
  if (v.size() > 32) {
    r.fail();
    return {};
  }
  return U256::from_be(v);
}

struct Collect {
  std::vector<WorkingState::Warm> warm;
};

}  // namespace

// ---- overrides

bool OverriddenState::account(const Address& address, AccountData& out) const {
  const auto it = over_.find(address);
  const bool exists = base_.account(address, out);
  if (it == over_.end()) return exists;
  const AccountOverride& o = it->second;
  if (!exists) out = {};
  if (o.nonce) out.nonce = *o.nonce;
  if (o.balance) out.balance = *o.balance;
  if (o.code) out.code_hash = (*o.code)->hash();
  return exists || o.nonce || o.balance || o.code || !o.slots.empty();
}

U256 OverriddenState::storage(const Address& address, const U256& slot) const {
  const auto it = over_.find(address);
  if (it != over_.end() && it->second.mode != AccountOverride::Mode::none) {
    const auto value = it->second.slots.find(slot);
    if (value != it->second.slots.end()) return value->second;
    if (it->second.mode == AccountOverride::Mode::state) return {};
  }
  return base_.storage(address, slot);
}

std::shared_ptr<const Code> OverriddenState::code(const Hash& code_hash) const {
  for (const auto& [address, o] : over_)
    if (o.code && (*o.code)->hash() == code_hash) return *o.code;
  return base_.code(code_hash);
}

bool OverriddenState::has_storage(const Address& address) const {
  const auto it = over_.find(address);
  if (it == over_.end() || it->second.mode == AccountOverride::Mode::none) return base_.has_storage(address);
  for (const auto& [slot, value] : it->second.slots)
    if (!value.is_zero()) return true;
  return it->second.mode == AccountOverride::Mode::diff && base_.has_storage(address);
}

std::string move_precompiles(Precompiles& precompiles, const Overrides& over, Revision rev) {
  const Precompiles before = precompiles;
  for (const auto& [address, o] : over) {
    const bool is_precompile = before.acts_at(rev, address);
    // What stands there now is the caller's.
    if (is_precompile) precompiles.put(address, std::nullopt);
    if (!o.move_precompile_to) continue;
    const Address& to = *o.move_precompile_to;
    if (!is_precompile) return "account " + to_hex(address) + " is not a precompile";
    if (to == address) return "MovePrecompileToAddress referenced itself in replacement: account " + to_hex(to);
    const auto taken = [&](const auto& other) { return other.first == to || (other.first != address && other.second.move_precompile_to == to); };
    if (std::any_of(over.begin(), over.end(), taken)) return "account " + to_hex(to) + " is already overridden";
    Address from = address;
    (void)before.resolve(from);
    precompiles.put(to, from);
  }
  return {};
}

void apply_overrides(WorkingState& state, const Overrides& over) {
  state.begin_transaction();
  for (const auto& [address, o] : over) {
    Account& account = state.account(address);
    if (o.nonce) state.set_nonce(account, *o.nonce);
    if (o.code) state.set_code(account, *o.code);
    if (o.balance) state.set_balance(account, *o.balance);
    if (o.mode == AccountOverride::Mode::state) {
      account.cleared = true;
      account.slots.each([](Slot& s) { s.original = s.current = U256{}; });
    }
    for (const auto& [key, value] : o.slots) state.set_slot(account, state.slot(account, key), value);
    if (!o.slots.empty() && !account.exists) state.set_nonce(account, account.nonce());
  }
  // Under rules that leave empty accounts alone: what was asked for stays.
  state.finish_transaction(Revision::homestead);
}

// ---- decoding

const char* decode_call(ByteView in, const U256& chain_id, Transaction& tx) {
  rlp::Reader r(rlp::single(in));
  tx.sender = r.address();
  tx.sender_known = true;
  tx.to = r.maybe_address();
  tx.gas_limit = r.u64();
  tx.gas_price = r.u256();
  tx.max_priority_fee = tx.gas_price;
  tx.value = r.u256();
  const ByteView data = r.bytes();
  tx.data.assign(data.begin(), data.end());
  rlp::Reader access = r.list();
  while (access.ok() && !access.empty()) {
    rlp::Reader entry = access.list();
    AccessEntry a;
    a.address = entry.address();
    rlp::Reader keys = entry.list();
    while (keys.ok() && !keys.empty()) a.keys.push_back(word(keys));
    if (!keys.done() || !entry.done()) return "call: the access list is malformed";
    tx.access_list.push_back(std::move(a));
  }
  rlp::Reader authorizations = r.list();
  while (authorizations.ok() && !authorizations.empty()) {
    rlp::Reader f = authorizations.list();
    Authorization a;
    a.chain_id = f.u256();
    a.address = f.address();
    a.nonce = f.u64();
    const uint64_t parity = f.u64();
    a.y_parity = static_cast<uint8_t>(std::min<uint64_t>(parity, 2));
    a.r = f.u256();
    a.s = f.u256();
    if (!f.done()) return "call: an authorization is malformed";
    tx.authorizations.push_back(a);
  }
  tx.nonce = r.u64();
  tx.max_blob_fee = r.u256();
  rlp::Reader blobs = r.list();
  while (blobs.ok() && !blobs.empty()) tx.blob_hashes.push_back(blobs.hash());
  if (!access.done() || !authorizations.done() || !blobs.done() || !r.done()) return "call: malformed";
  tx.type = !tx.blob_hashes.empty() ? 3 : !tx.authorizations.empty() ? 4 : 2;
  tx.chain_id = chain_id;
  return nullptr;
}

const char* decode_overrides(ByteView in, Overrides& out) {
  rlp::Reader r(rlp::single(in));
  size_t slots_read = 0;
  const auto one = [](rlp::Reader list, const auto& read) {
    if (list.ok() && !list.empty()) read(list);
    return list.done();
  };
  while (r.ok() && !r.empty()) {
    rlp::Reader f = r.list();
    const Address address = f.address();
    AccountOverride o;
    bool ok = one(f.list(), [&](rlp::Reader& x) { o.balance = word(x); });
    ok = one(f.list(), [&](rlp::Reader& x) { o.nonce = x.u64(); }) && ok;
    ok = one(f.list(), [&](rlp::Reader& x) {
           const ByteView code = x.bytes();
           o.code = code.empty() ? Code::empty() : Code::make(Bytes(code.begin(), code.end()));
         }) && ok;
    const uint64_t mode = f.u64();
    rlp::Reader slots = f.list();
    while (slots.ok() && !slots.empty()) {
      rlp::Reader s = slots.list();
      const U256 slot = word(s), value = word(s);
      if (!s.done() || ++slots_read > kSlotsMax) return "overrides: the slots are malformed, or too many";
      o.slots.insert_or_assign(slot, value);
    }
    o.move_precompile_to = f.maybe_address();
    if (!ok || mode > 2 || !slots.done() || !f.done()) return "overrides: malformed";
    o.mode = static_cast<AccountOverride::Mode>(mode);
    if (out.size() >= kOverridesMax) return "overrides: too many accounts";
    out.insert_or_assign(address, std::move(o));
  }
  return r.done() ? nullptr : "overrides: malformed";
}

const char* decode_env(ByteView in, const ChainConfig& config, BlockEnv& out) {
  rlp::Reader r(rlp::single(in));
  out.number = r.u64();
  out.timestamp = r.u64();
  out.gas_limit = r.u64();
  out.coinbase = r.address();
  out.prev_randao = word(r);
  out.base_fee = r.u256();
  out.blob_base_fee = r.u256();
  out.chain_id = config.chain_id;
  return r.done() ? nullptr : "block env: malformed";
}

BlockEnv env_at(const Chain& chain, const Header& header) {
  return env_of(header, chain.config(), chain.config().revision_at(header.number, header.timestamp), chain.hashes());
}

BlockEnv env_after(const Chain& chain, const Header& header) {
  Header next = header;
  ++next.number;
  const Revision rev = chain.config().revision_at(next.number, next.timestamp);
  if (rev >= Revision::london) next.base_fee = next_base_fee(header);
  if (rev >= Revision::cancun) next.excess_blob_gas = next_excess_blob_gas(header, chain.config(), next.timestamp);
  return env_of(next, chain.config(), rev, chain.hashes());
}

// ---- running

CallOutcome run_call(const Chain& chain, const CallContext& c, const Transaction& tx) {
  const Revision rev = chain.config().revision_at(c.env.number, c.env.timestamp);
  const OverriddenState over(*c.state, c.overrides);
  const StateReader& base = c.overrides.empty() ? *c.state : static_cast<const StateReader&>(over);
  CallOutcome out;
  Precompiles moved;
  if (!c.overrides.empty()) {
    moved = chain.precompiles();
    if (auto why = move_precompiles(moved, c.overrides, rev); !why.empty()) {
      out.tx.refusal = TxRefusal::override_invalid;
      out.tx.text = std::move(why);
      return out;
    }
  }
  const Precompiles& precompiles = c.overrides.empty() ? chain.precompiles() : moved;
  WorkingState state(base);
  // Without a price nobody pays, and BASEFEE must not exceed GASPRICE: code sees 0 for both, as from geth.
  BlockEnv env = c.env;
  if (tx.gas_price.is_zero() && tx.max_priority_fee.is_zero()) env.base_fee = {};
  TransitionOptions options;
  options.is_call = true;
  if (c.watch != nullptr) {
    c.watch->begin(state, tx, env, rev, precompiles);
    options.tracer = c.watch->tracer();
  }
  options.stop = c.stop;
  Collect collect;
  if (c.wants_access_list) {
    options.context = &collect;
    options.before_finish = [](void* context, WorkingState& s) { static_cast<Collect*>(context)->warm = s.warm_set(); };
  }
  out.tx = run_transaction(state, chain.config(), rev, env, precompiles, tx, options);
  if (c.watch != nullptr) c.watch->end(out.tx);
  if (!c.wants_access_list) return out;
  const auto machine = precompiles.addresses(rev);
  const Address target = tx.to ? *tx.to : out.tx.created.value_or(create_address(tx.sender, tx.nonce));
  for (auto& w : collect.warm) {
    // What is warm anyway helps nobody; the target alone costs more than it saves.
    const bool is_free = w.address == tx.sender || w.address == target || w.address == c.env.coinbase ||
                         std::find(machine.begin(), machine.end(), w.address) != machine.end();
    if (is_free && w.slots.empty()) continue;
    std::sort(w.slots.begin(), w.slots.end());
    out.access_list.push_back({w.address, std::move(w.slots)});
  }
  std::sort(out.access_list.begin(), out.access_list.end(), [](const AccessEntry& a, const AccessEntry& b) { return a.address < b.address; });
  return out;
}

CallKindOf kind_of(const TxOutcome& o) noexcept {
  if (o.refusal != TxRefusal::none) return CallKindOf::refused;
  switch (o.status) {
    case Status::success:
      return CallKindOf::none;
    case Status::revert:
      return CallKindOf::revert;
    case Status::out_of_gas:
    case Status::code_store_out_of_gas:
      return CallKindOf::out_of_gas;
    case Status::stopped:
      return CallKindOf::stopped;
    default:
      return CallKindOf::other;
  }
}

std::string words_of(const TxOutcome& o) { return o.refusal != TxRefusal::none ? o.text : std::string(message_of(o.status)); }

CallOutcome estimate_gas(const Chain& chain, const CallContext& c, Transaction tx, uint64_t gas_cap, std::string& error) {
  const Revision rev = chain.config().revision_at(c.env.number, c.env.timestamp);
  uint64_t high = tx.gas_limit >= 21'000 ? tx.gas_limit : c.env.gas_limit;
  high = std::min(high, c.env.gas_limit);
  if (rev >= Revision::osaka) high = std::min(high, kTxGasCap);
  if (gas_cap != 0) high = std::min(high, gas_cap);
  const OverriddenState over(*c.state, c.overrides);
  if (!tx.gas_price.is_zero()) {
    AccountData sender;
    if (!over.account(tx.sender, sender)) sender = {};
    if (tx.value > sender.balance) {
      error = "insufficient funds for transfer";
      CallOutcome out;
      out.tx.refusal = TxRefusal::insufficient_funds;
      out.tx.text = error;
      return out;
    }
    const U256 affordable = divmod(sender.balance - tx.value, tx.gas_price).quotient;
    high = std::min(high, affordable.saturated());
  }
  const uint64_t allowance = high;
  const auto run = [&](uint64_t gas) {
    tx.gas_limit = gas;
    return run_call(chain, c, tx);
  };
  // A plain transfer to an account without code.
  AccountData target;
  if (tx.data.empty() && tx.to && tx.access_list.empty() && tx.authorizations.empty() && high >= 21'000 &&
      (!over.account(*tx.to, target) || target.code_hash == empty_code_hash())) {
    CallOutcome plain = run(21'000);
    if (kind_of(plain.tx) == CallKindOf::none) {
      plain.tx.gas_used = 21'000;
      return plain;
    }
  }
  CallOutcome best = run(high);
  const CallKindOf kind = kind_of(best.tx);
  if (kind != CallKindOf::none) {
    const bool is_short = kind == CallKindOf::out_of_gas ||
                          (kind == CallKindOf::refused && (best.tx.refusal == TxRefusal::intrinsic_gas || best.tx.refusal == TxRefusal::floor_gas));
    if (is_short) error = "gas required exceeds allowance (" + std::to_string(allowance) + ")";
    return best;
  }
  uint64_t low = best.tx.gas_used - 1;
  const auto works = [&](uint64_t gas, bool& fatal) {
    const CallOutcome o = run(gas);
    const CallKindOf k = kind_of(o.tx);
    fatal = k == CallKindOf::stopped;
    if (fatal) best = o;
    return k == CallKindOf::none;
  };
  bool fatal = false;
  const uint64_t guess = (best.tx.gas_used + best.tx.gas_refund + kStipend) / 63 * 64 + 64;
  if (guess < high) {
    if (works(guess, fatal)) high = guess;
    else low = guess;
    if (fatal) return best;
  }
  while (low + 1 < high) {
    // Near enough: within 1.5 % of the bound.
    if (static_cast<double>(high - low) / static_cast<double>(high) < 0.015) break;
    uint64_t mid = low + (high - low) / 2;
    if (mid > low * 2) mid = low * 2;  // most need little more than they use
    if (works(mid, fatal)) high = mid;
    else low = mid;
    if (fatal) return best;
  }
  best.tx.gas_used = high;
  return best;
}

}  // namespace zg
