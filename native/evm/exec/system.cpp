// What a block does beside its transactions: system contracts, withdrawals, rewards, requests.
#include "crypto/sha256.h"
#include "exec/block_parts.h"

namespace zg {

namespace {

constexpr Address address_of(std::array<uint8_t, 20> b) noexcept {
  Address a{};
  for (size_t i = 0; i < 20; ++i) a.b[i] = b[i];
  return a;
}
constexpr Address kBeaconRoots = address_of({0x00, 0x0f, 0x3d, 0xf6, 0xd7, 0x32, 0x80, 0x7e, 0xf1, 0x31,
                                             0x9f, 0xb7, 0xb8, 0xbb, 0x85, 0x22, 0xd0, 0xbe, 0xac, 0x02});
constexpr Address kHistory = address_of({0x00, 0x00, 0xf9, 0x08, 0x27, 0xf1, 0xc5, 0x3a, 0x10, 0xcb,
                                         0x7a, 0x02, 0x33, 0x5b, 0x17, 0x53, 0x20, 0x00, 0x29, 0x35});
constexpr Address kWithdrawalRequests = address_of({0x00, 0x00, 0x09, 0x61, 0xef, 0x48, 0x0e, 0xb5, 0x5e, 0x80,
                                                    0xd1, 0x9a, 0xd8, 0x35, 0x79, 0xa6, 0x4c, 0x00, 0x70, 0x02});
constexpr Address kConsolidations = address_of({0x00, 0x00, 0xbb, 0xdd, 0xc7, 0xce, 0x48, 0x86, 0x42, 0xfb,
                                                0x57, 0x9f, 0x8b, 0x00, 0xf3, 0xa5, 0x90, 0x00, 0x72, 0x51});
// DepositEvent(bytes,bytes,bytes,bytes,bytes)
constexpr uint8_t kDepositTopic[32] = {0x64, 0x9b, 0xbc, 0x62, 0xd0, 0xe3, 0x13, 0x42, 0xaf, 0xea, 0x4e, 0x5c, 0xd8, 0x2d, 0x40, 0x49,
                                       0xe7, 0xe1, 0xee, 0x91, 0x2f, 0xc0, 0x88, 0x9a, 0xa7, 0x90, 0x80, 0x3b, 0xe3, 0x90, 0x38, 0xc5};

// A word of ABI data that holds a small number.
bool word_is(ByteView data, size_t at, uint64_t value) { return U256::from_be(data.data() + at) == U256(value); }

// Data of a deposit event: five byte strings of fixed sizes at fixed places (EIP-6110). False: the layout is another one.
bool read_deposit(ByteView data, Bytes& out) {
  static constexpr struct {
    size_t offset, size;
  } kParts[5] = {{160, 48}, {256, 32}, {320, 8}, {384, 96}, {512, 8}};
  if (data.size() != 576) return false;
  for (size_t i = 0; i < 5; ++i) {
    if (!word_is(data, 32 * i, kParts[i].offset) || !word_is(data, kParts[i].offset, kParts[i].size)) return false;
    const uint8_t* from = data.data() + kParts[i].offset + 32;
    out.insert(out.end(), from, from + kParts[i].size);
  }
  return true;
}

}  // namespace

BlockEnv env_of(const Header& h, const ChainConfig& config, Revision rev, const BlockHashes& hashes) {
  BlockEnv env;
  env.number = h.number;
  env.timestamp = h.timestamp;
  env.gas_limit = h.gas_limit;
  env.coinbase = h.beneficiary;
  env.prev_randao = rev >= Revision::paris ? U256::from(h.mix_hash) : h.difficulty;
  if (h.base_fee) env.base_fee = *h.base_fee;
  if (h.excess_blob_gas) env.blob_base_fee = blob_base_fee(*h.excess_blob_gas, config.blobs_at(h.timestamp, rev).update_fraction);
  env.chain_id = config.chain_id;
  env.hashes = &hashes;
  return env;
}

void before_block(WorkingState& state, const Header& h, Revision rev, const BlockEnv& env, const Precompiles& precompiles) {
  if (rev >= Revision::cancun && h.parent_beacon_root) (void)system_call(state, rev, env, precompiles, kBeaconRoots, *h.parent_beacon_root);
  if (rev >= Revision::prague) (void)system_call(state, rev, env, precompiles, kHistory, h.parent_hash);
}

void credit_withdrawals(WorkingState& state, std::span<const Withdrawal> withdrawals, Revision rev) {
  if (withdrawals.empty()) return;
  state.begin_transaction();
  for (const Withdrawal& w : withdrawals) state.add_balance(state.account(w.address), U256(w.amount_gwei) * U256(1'000'000'000));
  state.finish_transaction(rev);
}

void pay_rewards(WorkingState& state, const Block& block, Revision rev) {
  if (rev >= Revision::paris) return;
  // 5, 3 (EIP-649) and 2 (EIP-1234) ether.
  const uint64_t ether = rev >= Revision::constantinople ? 2 : rev >= Revision::byzantium ? 3 : 5;
  const U256 reward = U256(ether) * U256(1'000'000'000'000'000'000);
  U256 own = reward;
  state.begin_transaction();
  for (const Header& o : block.ommers) {
    state.add_balance(state.account(o.beneficiary), (reward >> 3) * U256(8 + o.number - block.header.number));
    own = own + (reward >> 5);
  }
  state.add_balance(state.account(block.header.beneficiary), own);
  state.finish_transaction(rev);
}

std::string collect_requests(WorkingState& state, const ChainConfig& config, Revision rev, const BlockEnv& env, const Precompiles& precompiles,
                             std::span<const Receipt> receipts, std::vector<Bytes>& out) {
  if (rev < Revision::prague) return {};
  Bytes deposits{0x00};
  for (const Receipt& r : receipts)
    for (const Log& log : r.logs) {
      if (log.address != config.deposit_contract || log.topics.empty() || std::memcmp(log.topics[0].b, kDepositTopic, 32) != 0) continue;
      if (!read_deposit(log.data, deposits)) return "invalid deposit log: unexpected layout";
    }
  if (deposits.size() > 1) out.push_back(std::move(deposits));
  const struct {
    Address contract;
    uint8_t type;
    const char* name;
  } calls[] = {{kWithdrawalRequests, 0x01, "withdrawal requests"}, {kConsolidations, 0x02, "consolidation requests"}};
  for (const auto& call : calls) {
    const auto result = system_call(state, rev, env, precompiles, call.contract, {});
    if (!result) return std::string("system call to ") + call.name + " failed: there is no code";
    if (result->status != Status::success) return std::string("system call to ") + call.name + " failed";
    if (result->output.empty()) continue;
    Bytes request{call.type};
    request.insert(request.end(), result->output.begin(), result->output.end());
    out.push_back(std::move(request));
  }
  return {};
}

Hash requests_hash(std::span<const Bytes> requests) {
  Bytes all;
  for (const Bytes& r : requests) {
    const Hash h = sha256(r);
    all.insert(all.end(), h.b, h.b + 32);
  }
  return sha256(all);
}

}  // namespace zg
