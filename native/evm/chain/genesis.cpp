#include "chain/genesis.h"

#include <algorithm>
#include <unordered_set>

#include "base/rlp.h"
#include "crypto/sha256.h"
#include "exec/block_parts.h"

namespace zg {

namespace {

constexpr size_t kAccountsMax = 4'000'000;
constexpr size_t kForksMax = 32;

// Up to 32 bytes, leading zeros or not.
U256 word(rlp::Reader& r) {
  const ByteView v = r.bytes();
  if (v.size() > 32) {
    r.fail();
    return {};
  }
  return U256::from_be(v);
}

struct Fork {
  std::string_view name;
  Revision rev;
};
constexpr Fork kBlockForks[] = {{"homesteadBlock", Revision::homestead},           {"eip150Block", Revision::tangerine_whistle},
                                {"eip158Block", Revision::spurious_dragon},        {"byzantiumBlock", Revision::byzantium},
                                {"constantinopleBlock", Revision::constantinople}, {"petersburgBlock", Revision::petersburg},
                                {"istanbulBlock", Revision::istanbul},             {"berlinBlock", Revision::berlin},
                                {"londonBlock", Revision::london},                 {"mergeNetsplitBlock", Revision::paris}};
constexpr Fork kTimeForks[] = {{"shanghaiTime", Revision::shanghai},
                               {"cancunTime", Revision::cancun},
                               {"pragueTime", Revision::prague},
                               {"osakaTime", Revision::osaka}};

struct BlobParts {
  std::vector<std::pair<std::string, uint64_t>> times;         // bpo1 …
  std::vector<std::pair<std::string, BlobSchedule>> schedules; // by fork
};

bool read_schedules(rlp::Reader list, BlobParts& out) {
  while (list.ok() && !list.empty()) {
    rlp::Reader item = list.list();
    const std::string fork(as_chars(item.bytes()));
    rlp::Reader s = item.list();
    BlobSchedule schedule;
    schedule.target = s.u64();
    schedule.max = s.u64();
    schedule.update_fraction = s.u64();
    if (!s.done() || !item.done() || out.schedules.size() >= kForksMax || schedule.update_fraction == 0) return false;
    out.schedules.emplace_back(fork, schedule);
  }
  return list.done();
}

const char* read_config(rlp::Reader r, ChainConfig& c) {
  c.block_of.fill(kNever);
  c.time_of.fill(kNever);
  c.block_of[0] = 0;
  const ChainConfig defaults = ChainConfig::all_at(Revision::osaka, U256{1});
  c.blobs = defaults.blobs;
  BlobParts blobs;
  bool has_id = false;
  while (r.ok() && !r.empty()) {
    rlp::Reader entry = r.list();
    const std::string name(as_chars(entry.bytes()));
    if (name == "blobSchedule") {
      if (!read_schedules(entry.list(), blobs) || !entry.done()) return "config: blobSchedule is malformed";
      continue;
    }
    if (name == "depositContractAddress") {
      c.deposit_contract = entry.address();
      if (!entry.done()) return "config: depositContractAddress is no address";
      continue;
    }
    const U256 value = entry.u256();
    if (!entry.done()) return "config: a value is no number";
    const uint64_t n = value.saturated();
    const auto fork = std::find_if(std::begin(kBlockForks), std::end(kBlockForks), [&](const Fork& f) { return f.name == name; });
    const auto time = std::find_if(std::begin(kTimeForks), std::end(kTimeForks), [&](const Fork& f) { return f.name == name; });
    if (fork != std::end(kBlockForks)) c.block_of[static_cast<size_t>(fork->rev)] = n;
    else if (time != std::end(kTimeForks)) c.time_of[static_cast<size_t>(time->rev)] = n;
    else if (name == "chainId") c.chain_id = value, has_id = true;
    else if (name == "terminalTotalDifficulty") c.terminal_total_difficulty = value;
    else if (name == "daoForkBlock") c.dao_block = n;
    else if (name == "daoForkSupport") c.dao_fork = n != 0;
    else if (name == "minGasChargeBps") c.min_gas_charge_bps = n;
    else if (name == "nonDecreasingTime") c.non_decreasing_time = n != 0;
    else if (name == "gasLimitFloor") c.gas_limit_floor = n;
    else if (name.starts_with("bpo") && name.ends_with("Time") && blobs.times.size() < kForksMax)
      blobs.times.emplace_back(name.substr(0, name.size() - 4), n);
    // Other names change nothing that is executed: difficulty bombs, EIP-155's own block, …
  }
  if (!r.done() || !has_id) return "config: malformed, or without a chain id";
  if (c.min_gas_charge_bps > 10'000) return "config: minGasChargeBps is above 10000";
  if (c.terminal_total_difficulty && c.terminal_total_difficulty->is_zero()) c.block_of[static_cast<size_t>(Revision::paris)] = 0;
  for (const auto& [fork, schedule] : blobs.schedules) {
    if (const auto rev = revision_named(fork == "cancun" ? "Cancun" : fork == "prague" ? "Prague" : fork == "osaka" ? "Osaka" : "")) {
      c.blobs[static_cast<size_t>(*rev)] = schedule;
      continue;
    }
    const auto at = std::find_if(blobs.times.begin(), blobs.times.end(), [&](const auto& t) { return t.first == fork; });
    if (at != blobs.times.end()) c.blob_forks.push_back({at->second, schedule});
  }
  std::sort(c.blob_forks.begin(), c.blob_forks.end(), [](const auto& a, const auto& b) { return a.time < b.time; });
  return nullptr;
}

}  // namespace

const char* decode_genesis(ByteView in, Genesis& out) {
  rlp::Reader r(rlp::single(in));
  rlp::Reader config = r.list();
  rlp::Reader header = r.list();
  rlp::Reader alloc = r.list();
  if (!r.done()) return "genesis: malformed";
  if (const char* why = read_config(config, out.config)) return why;
  Header& h = out.header;
  h.timestamp = header.u64();
  h.gas_limit = header.u64();
  h.difficulty = header.u256();
  header.fixed(h.nonce, 8);
  const ByteView extra = header.bytes();
  h.extra_data.assign(extra.begin(), extra.end());
  h.mix_hash = header.hash();
  h.beneficiary = header.address();
  const U256 base_fee = header.u256();
  const uint64_t excess = header.u64(), used = header.u64();
  if (!header.done() || h.extra_data.size() > 32 || h.gas_limit < out.config.gas_limit_floor) return "genesis: the header is malformed";
  h.ommers_hash = empty_ommers_hash();
  h.transactions_root = empty_trie_root();
  h.receipts_root = empty_trie_root();
  const Revision rev = out.config.revision_at(0, h.timestamp);
  if (rev >= Revision::london) h.base_fee = base_fee;
  if (rev >= Revision::shanghai) h.withdrawals_root = empty_trie_root();
  if (rev >= Revision::cancun) {
    h.blob_gas_used = used;
    h.excess_blob_gas = excess;
    h.parent_beacon_root = Hash{};
  }
  if (rev >= Revision::prague) h.requests_hash = requests_hash({});
  std::unordered_set<Address, AddressHasher> seen;
  while (alloc.ok() && !alloc.empty()) {
    rlp::Reader a = alloc.list();
    GenesisAccount account;
    account.address = a.address();
    account.account.nonce = a.u64();
    account.account.balance = a.u256();
    const ByteView code = a.bytes();
    account.code.assign(code.begin(), code.end());
    rlp::Reader slots = a.list();
    while (slots.ok() && !slots.empty()) {
      rlp::Reader s = slots.list();
      const U256 slot = word(s), value = word(s);
      if (!s.done()) return "genesis: a slot of the alloc is malformed";
      account.storage.emplace_back(slot, value);
    }
    if (!slots.done() || !a.done()) return "genesis: an account of the alloc is malformed";
    if (!seen.insert(account.address).second) return "genesis: the alloc names an account twice";
    if (seen.size() > kAccountsMax) return "genesis: the alloc has too many accounts";
    out.alloc.push_back(std::move(account));
  }
  if (!alloc.done()) return "genesis: the alloc is malformed";
  out.config_bytes.assign(in.begin(), in.end());
  return nullptr;
}

}  // namespace zg
