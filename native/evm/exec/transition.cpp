#include "exec/transition.h"

#include <algorithm>

namespace zg {

namespace {

constexpr uint64_t kTxGas = 21'000;
constexpr uint64_t kMaxInitCode = 49'152;      // EIP-3860
constexpr uint64_t kAuthorizationGas = 25'000; // EIP-7702
constexpr int64_t kAuthorizationRefund = 12'500;
constexpr size_t kBlobsPerTx = 6;              // EIP-7594
constexpr U256 kMost{~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}};

// EIP-55, as geth prints addresses in errors.
std::string checksummed(const Address& a) {
  std::string text = to_hex(a);
  const Hash h = keccak(as_bytes(std::string_view(text).substr(2)));
  for (size_t i = 0; i < 40; ++i) {
    const unsigned nibble = (h.b[i / 2] >> (i % 2 == 0 ? 4 : 0)) & 15;
    if (nibble >= 8 && text[2 + i] >= 'a') text[2 + i] = static_cast<char>(text[2 + i] - 32);
  }
  return text;
}

std::string number(uint64_t x) { return std::to_string(x); }

struct DataCount {
  uint64_t zeros = 0, others = 0;
};
DataCount count(const Bytes& data) noexcept {
  DataCount c;
  c.zeros = static_cast<uint64_t>(std::count(data.begin(), data.end(), uint8_t{0}));
  c.others = data.size() - c.zeros;
  return c;
}

// a × b + c, or the largest number when it does not fit.
U256 mul_add(const U256& a, const U256& b, const U256& c) noexcept {
  U256 r;
  return mul_checked(a, b, r) && add_checked(r, c, r) ? r : kMost;
}

struct Fees {
  U256 price;      // effective, a unit of gas
  U256 tip;        // of it, what the fee recipient gets
  U256 upfront;    // taken before execution
};

struct Check {
  WorkingState& state;
  const ChainConfig& config;
  Revision rev;
  const BlockEnv& block;
  const Transaction& tx;
  const TransitionOptions& options;
  const Address& sender_address;
  TxOutcome& out;

  bool refuse(TxRefusal why, std::string text) {
    out.refusal = why;
    out.text = std::move(text);
    return false;
  }
  std::string who() const { return "address " + checksummed(sender_address); }

  bool type() {
    const Revision since[] = {Revision::frontier, Revision::berlin, Revision::london, Revision::cancun, Revision::prague};
    if (tx.type > 4 || rev < since[tx.type]) return refuse(TxRefusal::type_not_supported, "transaction type not supported");
    if (options.is_call) return true;
    if (tx.type == 0 && tx.has_chain_id && rev < Revision::spurious_dragon)
      return refuse(TxRefusal::invalid_signature, "invalid transaction v, r, s values");
    if (tx.has_chain_id && tx.chain_id != config.chain_id)
      return refuse(TxRefusal::wrong_chain,
                    "invalid chain id for signer: have " + to_decimal(tx.chain_id) + " want " + to_decimal(config.chain_id));
    return true;
  }

  bool nonce(const Account& sender) {
    if (options.is_call) return true;
    const uint64_t have = sender.nonce();
    if (tx.nonce < have)
      return refuse(TxRefusal::nonce_too_low, "nonce too low: " + who() + ", tx: " + number(tx.nonce) + " state: " + number(have));
    if (tx.nonce > have)
      return refuse(TxRefusal::nonce_too_high, "nonce too high: " + who() + ", tx: " + number(tx.nonce) + " state: " + number(have));
    if (tx.nonce == ~uint64_t{0})
      return refuse(TxRefusal::nonce_max, "nonce has max value: " + who() + ", nonce: " + number(tx.nonce));
    return true;
  }

  bool fees(Fees& f) {
    f.price = f.tip = tx.gas_price;
    if (rev < Revision::london) return true;
    const bool free_call = options.is_call && tx.gas_price.is_zero() && tx.max_priority_fee.is_zero();
    if (free_call) return true;
    if (tx.gas_price < block.base_fee)
      return refuse(TxRefusal::fee_below_base, "max fee per gas less than block base fee: " + who() + ", maxFeePerGas: " +
                                                   to_decimal(tx.gas_price) + ", baseFee: " + to_decimal(block.base_fee));
    if (tx.max_priority_fee > tx.gas_price)
      return refuse(TxRefusal::tip_above_fee, "max priority fee per gas higher than max fee per gas: " + who() + ", maxPriorityFeePerGas: " +
                                                  to_decimal(tx.max_priority_fee) + ", maxFeePerGas: " + to_decimal(tx.gas_price));
    f.tip = std::min(tx.max_priority_fee, tx.gas_price - block.base_fee);
    f.price = block.base_fee + f.tip;
    return true;
  }

  bool blobs(uint64_t& blob_gas) {
    if (tx.type != 3) return true;
    if (!tx.to) return refuse(TxRefusal::create_not_allowed, "blob transaction of type create");
    if (tx.blob_hashes.empty()) return refuse(TxRefusal::blob_invalid, "blob transaction missing blob hashes");
    const uint64_t most = config.blobs_at(block.timestamp, rev).max;
    if (tx.blob_hashes.size() > most || (rev >= Revision::osaka && tx.blob_hashes.size() > kBlobsPerTx))
      return refuse(TxRefusal::blob_invalid, "too many blobs in transaction: have " + number(tx.blob_hashes.size()) + ", permitted " +
                                                 number(rev >= Revision::osaka ? std::min<uint64_t>(most, kBlobsPerTx) : most));
    for (size_t i = 0; i < tx.blob_hashes.size(); ++i)
      if (tx.blob_hashes[i].b[0] != 1) return refuse(TxRefusal::blob_invalid, "blob " + number(i) + " has invalid hash version");
    blob_gas = tx.blob_hashes.size() * kGasPerBlob;
    if (blob_gas > options.blob_gas_available) return refuse(TxRefusal::blob_invalid, "blob gas limit reached");
    const bool free_call = options.is_call && tx.max_blob_fee.is_zero();
    if (!free_call && tx.max_blob_fee < block.blob_base_fee)
      return refuse(TxRefusal::blob_fee_below_base, "max fee per blob gas less than block blob gas fee: " + who() + " blobGasFeeCap: " +
                                                        to_decimal(tx.max_blob_fee) + ", blobBaseFee: " + to_decimal(block.blob_base_fee));
    return true;
  }

  bool authorizations() {
    if (tx.type != 4) return true;
    if (!tx.to) return refuse(TxRefusal::create_not_allowed, "EIP-7702 transaction cannot be used to create contract");
    if (tx.authorizations.empty()) return refuse(TxRefusal::authorization_list_empty, "EIP-7702 transaction with empty auth list");
    return true;
  }

  bool balance(const Account& sender, uint64_t blob_gas, Fees& f) {
    U256 want = mul_add(tx.gas_price, tx.gas_limit, tx.value);
    if (blob_gas != 0) want = want == kMost ? kMost : mul_add(tx.max_blob_fee, blob_gas, want);
    const U256 blob_cost = options.is_call && tx.max_blob_fee.is_zero() ? U256{} : mul_add(block.blob_base_fee, blob_gas, {});
    f.upfront = mul_add(f.price, tx.gas_limit, blob_cost);
    if (want != kMost && sender.covers(want)) return true;
    if (options.skip_balance) {
      // Nobody pays then: the balance is short, and the caller does not mind.
      if (!sender.covers(f.upfront)) f = {};
      return true;
    }
    return refuse(TxRefusal::insufficient_funds, "insufficient funds for gas * price + value: " + who() + " have " +
                                                     to_decimal(sender.balance()) + " want " + to_decimal(want));
  }

  bool gas(uint64_t intrinsic, uint64_t floor) {
    if (tx.gas_limit < intrinsic)
      return refuse(TxRefusal::intrinsic_gas, "intrinsic gas too low: have " + number(tx.gas_limit) + ", want " + number(intrinsic));
    if (tx.gas_limit < floor)
      return refuse(TxRefusal::floor_gas,
                    "insufficient gas for floor data gas cost: have " + number(tx.gas_limit) + ", want " + number(floor));
    if (!tx.to && rev >= Revision::shanghai && tx.data.size() > kMaxInitCode)
      return refuse(TxRefusal::initcode_size, "max initcode size exceeded: code size " + number(tx.data.size()) + " limit " +
                                                  number(kMaxInitCode));
    return true;
  }

  bool sender_code(Account& sender) {
    if (options.is_call || options.any_sender || sender.code_hash() == empty_code_hash()) return true;
    const Code& code = state.code(sender);
    Address target;
    if (rev >= Revision::prague && code.delegation(target)) return true;
    return refuse(TxRefusal::sender_not_eoa,
                  "sender not an eoa: " + who() + ", len(code): " + number(code.size()));
  }

  bool limits() {
    if (rev >= Revision::osaka && tx.gas_limit > kTxGasCap && !options.is_call && !options.any_sender)
      return refuse(TxRefusal::gas_above_cap,
                    "transaction gas limit too high (cap: " + number(kTxGasCap) + ", tx: " + number(tx.gas_limit) + ")");
    if (tx.gas_limit > options.gas_available) return refuse(TxRefusal::gas_above_block, "gas limit reached");
    return true;
  }
};

// EIP-7702: each tuple stands for itself; one that does not hold is skipped.
void apply_authorization(WorkingState& state, const ChainConfig& config, const Authorization& a) {
  if ((!a.chain_id.is_zero() && a.chain_id != config.chain_id) || a.nonce == ~uint64_t{0}) return;
  const auto authority = recover_authority(a);
  if (!authority) return;
  Account& account = state.account(*authority);
  (void)state.warm(account);
  Address target;
  if (account.code_hash() != empty_code_hash() && !state.code(account).delegation(target)) return;
  if (account.nonce() != a.nonce) return;
  if (account.exists) state.add_refund(kAuthorizationRefund);
  if (a.address.is_zero()) {
    if (account.code_hash() != empty_code_hash()) state.set_code(account, Code::empty());
  } else {
    Bytes code{0xef, 0x01, 0x00};
    code.insert(code.end(), a.address.b, a.address.b + 20);
    state.set_code(account, Code::make(std::move(code)));
  }
  state.set_nonce(account, a.nonce + 1);
}

}  // namespace

uint64_t intrinsic_gas(const Transaction& tx, Revision rev) noexcept {
  const DataCount data = count(tx.data);
  uint64_t gas = kTxGas + data.zeros * 4 + data.others * (rev >= Revision::istanbul ? 16 : 68);
  if (!tx.to) {
    if (rev >= Revision::homestead) gas += 32'000;
    if (rev >= Revision::shanghai) gas += 2 * ((tx.data.size() + 31) / 32);
  }
  for (const AccessEntry& e : tx.access_list) gas += 2'400 + 1'900 * e.keys.size();
  return gas + kAuthorizationGas * tx.authorizations.size();
}

uint64_t floor_gas(const Transaction& tx, Revision rev) noexcept {
  if (rev < Revision::prague) return kTxGas;
  const DataCount data = count(tx.data);
  return kTxGas + 10 * (data.zeros + 4 * data.others);
}

TxOutcome run_transaction(WorkingState& state, const ChainConfig& config, Revision rev, const BlockEnv& block, const Precompiles& precompiles,
                          const Transaction& tx, const TransitionOptions& options) {
  TxOutcome out;
  const Address& sender_address = options.sender != nullptr ? *options.sender : tx.sender;
  Account& sender = state.account(sender_address);
  Check check{state, config, rev, block, tx, options, sender_address, out};
  Fees fees;
  uint64_t blob_gas = 0;
  const uint64_t intrinsic = intrinsic_gas(tx, rev);
  const uint64_t floor = floor_gas(tx, rev);
  if (!check.type() || !check.nonce(sender) || !check.fees(fees) || !check.blobs(blob_gas) || !check.authorizations() ||
      !check.balance(sender, blob_gas, fees) || !check.gas(intrinsic, floor) || !check.sender_code(sender) || !check.limits())
    return out;

  state.begin_transaction();
  if (!state.has_always_warm()) state.always_warm(precompiles.addresses(rev));
  (void)state.sub_balance(sender, fees.upfront);
  // At 2^64 − 1 only a call gets here, and begins again at 0 as in geth.
  state.set_nonce(sender, sender.nonce() + 1);
  if (rev >= Revision::berlin) {
    (void)state.warm(sender);
    if (tx.to) (void)state.warm(state.account(*tx.to));
    if (rev >= Revision::shanghai) (void)state.warm(state.account(block.coinbase));
    for (const AccessEntry& e : tx.access_list) {
      Account& account = state.account(e.address);
      (void)state.warm(account);
      for (const U256& key : e.keys) (void)state.warm(account, state.slot(account, key));
    }
  }
  for (const Authorization& a : tx.authorizations) apply_authorization(state, config, a);
  if (rev >= Revision::prague && tx.to) {
    Account& to = state.account(*tx.to);
    Address target;
    if (to.code_hash() != empty_code_hash() && state.code(to).delegation(target)) (void)state.warm(state.account(target));
  }

  const TxEnv env{sender_address, fees.price, tx.blob_hashes};
  Evm evm(rev, state, block, env, precompiles, options.tracer, EvmLimits{options.stop});
  Message message;
  message.kind = tx.to ? CallKind::call : CallKind::create;
  message.gas = tx.gas_limit - intrinsic;
  message.sender = sender_address;
  if (tx.to) message.recipient = message.code_address = *tx.to;
  message.value = tx.value;
  message.input = tx.data;
  Result result = evm.run(message);

  uint64_t used = tx.gas_limit - result.gas_left;
  const auto refund = static_cast<uint64_t>(std::max<int64_t>(state.refund(), 0));
  out.gas_refund = std::min(refund, used / (rev >= Revision::london ? 5 : 2));
  out.gas_peak = rev >= Revision::prague ? std::max(used, floor) : used;
  used -= out.gas_refund;
  if (rev >= Revision::prague) used = std::max(used, floor);
  if (config.min_gas_charge_bps != 0) {
    const unsigned __int128 least = static_cast<unsigned __int128>(tx.gas_limit) * std::min<uint64_t>(config.min_gas_charge_bps, 10'000);
    used = std::max(used, static_cast<uint64_t>(least / 10'000));
  }
  if (tx.gas_limit != used && !fees.price.is_zero()) state.add_balance(sender, fees.price * U256(tx.gas_limit - used));
  if (!(options.is_call && fees.tip.is_zero())) state.add_balance(state.account(block.coinbase), fees.tip * U256(used));

  out.status = result.status;
  out.gas_used = used;
  out.gas_price = fees.price;
  out.output = std::move(result.output);
  if (!tx.to) out.created = result.created;
  if (options.before_finish != nullptr) options.before_finish(options.context, state);
  out.logs = std::move(state.logs());
  state.finish_transaction(rev);
  return out;
}

std::optional<Result> system_call(WorkingState& state, Revision rev, const BlockEnv& block, const Precompiles& precompiles, const Address& to,
                                  ByteView input) {
  constexpr uint64_t kGas = 30'000'000;
  Address system;
  std::memset(system.b, 0xff, 20);
  system.b[19] = 0xfe;
  Account& account = state.account(to);
  if (account.code_hash() == empty_code_hash()) return std::nullopt;
  state.begin_transaction();
  if (!state.has_always_warm()) state.always_warm(precompiles.addresses(rev));
  (void)state.warm(account);
  const TxEnv env{system, {}, {}};
  Evm evm(rev, state, block, env, precompiles);
  Message message;
  message.gas = kGas;
  message.sender = system;
  message.recipient = message.code_address = to;
  message.input = input;
  Result result = evm.run(message);
  state.finish_transaction(rev);
  return result;
}

}  // namespace zg
