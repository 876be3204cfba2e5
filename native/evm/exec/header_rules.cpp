// Rules of headers and bodies that need no execution (Yellow Paper 4.3.4; EIP-100, 779, 1559, 3675, 4844, 4895, 7918, 7934).
#include <algorithm>

#include "base/rlp.h"
#include "exec/block_parts.h"

namespace zg {

namespace {

constexpr uint64_t kMostGasLimit = (uint64_t{1} << 63) - 1;
constexpr uint64_t kFirstBaseFee = 1'000'000'000;
constexpr size_t kMostBlockBytes = 8'388'608;  // EIP-7934
constexpr uint64_t kBlobBaseCost = 8'192;      // EIP-7918
constexpr uint64_t kDaoExtraBlocks = 10;

std::string differs(const char* what, const std::string& have, const std::string& want) {
  return std::string("invalid ") + what + ": have " + have + ", want " + want;
}
std::string number(uint64_t x) { return std::to_string(x); }

std::string check_gas_limit(const Header& parent, const Header& h, const ChainConfig& config, Revision rev) {
  uint64_t from = parent.gas_limit;
  // The first block with a base fee has twice the room (EIP-1559).
  if (rev >= Revision::london && !parent.base_fee) from = from > kMostGasLimit / 2 ? kMostGasLimit : from * 2;
  const uint64_t move = h.gas_limit > from ? h.gas_limit - from : from - h.gas_limit;
  if (h.gas_limit > kMostGasLimit) return "invalid gas limit: " + number(h.gas_limit) + " is too large";
  if (move >= from / 1024) return "invalid gas limit: have " + number(h.gas_limit) + ", parent " + number(from) + " ± " + number(from / 1024);
  if (h.gas_limit < config.gas_limit_floor) return "invalid gas limit: below " + number(config.gas_limit_floor);
  if (h.gas_used > h.gas_limit) return "invalid gas used: have " + number(h.gas_used) + ", gas limit " + number(h.gas_limit);
  return {};
}

std::string check_extra(const Header& h, const ChainConfig& config) {
  if (h.extra_data.size() > 32) return "extra-data too long: " + number(h.extra_data.size()) + " > 32";
  if (config.dao_fork && config.dao_block != kNever && h.number >= config.dao_block && h.number - config.dao_block < kDaoExtraBlocks &&
      as_chars(h.extra_data) != "dao-hard-fork")
    return "bad DAO pro-fork extra-data";
  return {};
}

std::string check_fields(const Header& h, Revision rev) {
  const bool cancun = rev >= Revision::cancun;
  if (h.base_fee.has_value() != (rev >= Revision::london)) return "header has a wrong set of fields: base fee";
  if (h.withdrawals_root.has_value() != (rev >= Revision::shanghai)) return "header has a wrong set of fields: withdrawals root";
  if (h.blob_gas_used.has_value() != cancun || h.excess_blob_gas.has_value() != cancun || h.parent_beacon_root.has_value() != cancun)
    return "header has a wrong set of fields: blob gas, beacon root";
  if (h.requests_hash.has_value() != (rev >= Revision::prague)) return "header has a wrong set of fields: requests hash";
  return {};
}

std::string check_merged(const Header& h) {
  static constexpr uint8_t kZeros[8] = {};
  if (!h.difficulty.is_zero()) return "invalid difficulty: have " + to_decimal(h.difficulty) + ", want 0";
  if (std::memcmp(h.nonce, kZeros, 8) != 0) return "invalid nonce: it must be zero after the merge";
  if (h.ommers_hash != empty_ommers_hash()) return "invalid uncle hash: there are none after the merge";
  return {};
}

}  // namespace

U256 next_base_fee(const Header& parent) noexcept {
  if (!parent.base_fee) return kFirstBaseFee;
  const U256& base = *parent.base_fee;
  const uint64_t target = parent.gas_limit / 2;
  if (parent.gas_used == target || target == 0) return base;
  const bool up = parent.gas_used > target;
  const uint64_t apart = up ? parent.gas_used - target : target - parent.gas_used;
  // Base fees are far below 2^192, so the product fits.
  const U256 step = divmod(divmod(base * U256(apart), target).quotient, 8).quotient;
  if (up) return base + std::max(step, U256(1));
  return step > base ? U256{} : base - step;
}

uint64_t next_excess_blob_gas(const Header& parent, const ChainConfig& config, uint64_t timestamp) noexcept {
  if (!parent.excess_blob_gas || !parent.blob_gas_used) return 0;
  const Revision rev = config.revision_at(parent.number + 1, timestamp);
  const BlobSchedule now = config.blobs_at(timestamp, rev);
  const uint64_t target = now.target * kGasPerBlob;
  const uint64_t sum = *parent.excess_blob_gas + *parent.blob_gas_used;
  if (sum < *parent.excess_blob_gas) return ~uint64_t{0};
  if (sum < target) return 0;
  if (rev >= Revision::osaka && parent.base_fee && now.max != 0) {
    // EIP-7918: while execution gas is dearer than blobs, the excess does not fall.
    const U256 blob_fee = blob_base_fee(*parent.excess_blob_gas, now.update_fraction);
    U256 execution, blobs;
    const bool fits = mul_checked(*parent.base_fee, kBlobBaseCost, execution) && mul_checked(blob_fee, kGasPerBlob, blobs);
    if (fits && execution > blobs)
      return *parent.excess_blob_gas +
             static_cast<uint64_t>(static_cast<unsigned __int128>(*parent.blob_gas_used) * (now.max - now.target) / now.max);
  }
  return sum - target;
}

U256 next_difficulty(const Header& parent, const ChainConfig& config, uint64_t timestamp, bool parent_has_ommers) noexcept {
  constexpr uint64_t kLeast = 131'072;
  const uint64_t number = parent.number + 1;
  const Revision rev = config.revision_at(number, timestamp);
  const uint64_t passed = timestamp > parent.timestamp ? timestamp - parent.timestamp : 0;
  const U256 unit = parent.difficulty >> 11;
  int64_t factor;
  if (rev < Revision::homestead) {
    factor = passed < 13 ? 1 : -1;
  } else {
    const bool byzantium = rev >= Revision::byzantium;
    const int64_t up = byzantium && parent_has_ommers ? 2 : 1;
    factor = std::max<int64_t>(up - static_cast<int64_t>(std::min<uint64_t>(passed / (byzantium ? 9 : 10), 1'000)), -99);
  }
  U256 d = factor >= 0 ? parent.difficulty + unit * U256(static_cast<uint64_t>(factor))
                       : parent.difficulty - unit * U256(static_cast<uint64_t>(-factor));
  d = std::max(d, U256(kLeast));
  // The bomb, and how far forks have put it off (EIP-649, 1234, 2384, 3554).
  const uint64_t delay = rev >= Revision::london ? 9'700'000
                         : rev >= Revision::berlin ? 9'000'000
                         : rev >= Revision::constantinople ? 5'000'000
                         : rev >= Revision::byzantium ? 3'000'000 : 0;
  const uint64_t counted = number > delay ? number - delay : 0;
  const uint64_t period = counted / 100'000;
  if (period > 1) d = std::max(d + (U256(1) << static_cast<unsigned>(std::min<uint64_t>(period - 2, 256))), U256(kLeast));
  return d;
}

std::string check_header(const Header& parent, const Header& h, const ChainConfig& config, Revision rev, bool parent_has_ommers) {
  if (h.number != parent.number + 1) return differs("number", number(h.number), number(parent.number + 1));
  const bool late = config.non_decreasing_time ? h.timestamp >= parent.timestamp : h.timestamp > parent.timestamp;
  if (!late) return "invalid timestamp: " + number(h.timestamp) + ", parent's is " + number(parent.timestamp);
  if (auto why = check_extra(h, config); !why.empty()) return why;
  if (auto why = check_fields(h, rev); !why.empty()) return why;
  if (auto why = check_gas_limit(parent, h, config, rev); !why.empty()) return why;
  if (rev >= Revision::paris) {
    if (auto why = check_merged(h); !why.empty()) return why;
  } else if (const U256 want = next_difficulty(parent, config, h.timestamp, parent_has_ommers); h.difficulty != want) {
    return differs("difficulty", to_decimal(h.difficulty), to_decimal(want));
  }
  if (rev >= Revision::london)
    if (const U256 want = next_base_fee(parent); *h.base_fee != want) return differs("baseFee", to_decimal(*h.base_fee), to_decimal(want));
  if (rev >= Revision::cancun) {
    const BlobSchedule blobs = config.blobs_at(h.timestamp, rev);
    if (*h.blob_gas_used > blobs.max * kGasPerBlob) return "blob gas used " + number(*h.blob_gas_used) + " exceeds maximum allowance";
    if (*h.blob_gas_used % kGasPerBlob != 0) return "blob gas used " + number(*h.blob_gas_used) + " is no multiple of a blob's";
    if (const uint64_t want = next_excess_blob_gas(parent, config, h.timestamp); *h.excess_blob_gas != want)
      return differs("excessBlobGas", number(*h.excess_blob_gas), number(want));
  }
  return {};
}

std::string check_body(const Block& block, const ChainConfig& config, Revision rev) {
  const Header& h = block.header;
  (void)config;
  if (rev >= Revision::osaka) {
    if (const size_t size = encode_block(block).size(); size > kMostBlockBytes)
      return "block RLP-encoded size exceeds maximum: " + number(size) + " > " + number(kMostBlockBytes);
  }
  if (ommers_hash_of(block.ommers) != h.ommers_hash) return "uncle root hash mismatch";
  if (block.withdrawals.has_value() != h.withdrawals_root.has_value()) return "withdrawals are missing, or there before their fork";
  if (h.withdrawals_root && withdrawals_root(*block.withdrawals) != *h.withdrawals_root) return "withdrawals root hash mismatch";
  if (transactions_root(block.transactions) != h.transactions_root) return "transaction root hash mismatch";
  uint64_t blobs = 0;
  for (const Transaction& tx : block.transactions) blobs += tx.blob_hashes.size();
  if (h.blob_gas_used && *h.blob_gas_used != blobs * kGasPerBlob) return differs("blobGasUsed", number(*h.blob_gas_used), number(blobs * kGasPerBlob));
  return {};
}

std::string check_ommers(const Block& block, const ChainConfig& config, const Ancestry* ancestry) {
  if (block.ommers.empty()) return {};
  if (ancestry == nullptr) return "blocks with uncles cannot be checked here";
  if (block.ommers.size() > 2) return "too many uncles";
  constexpr uint64_t kGenerations = 7;
  std::vector<const Block*> past;
  std::vector<Hash> used{block.hash};
  for (uint64_t depth = 1; depth <= kGenerations; ++depth) {
    const Block* b = ancestry->ancestor(depth);
    if (b == nullptr) break;
    past.push_back(b);
    used.push_back(b->hash);
    for (const Header& o : b->ommers) used.push_back(hash_of(o));
  }
  for (const Header& o : block.ommers) {
    const Hash hash = hash_of(o);
    if (std::find(used.begin(), used.end(), hash) != used.end()) return "duplicate uncle, or uncle is ancestor";
    used.push_back(hash);
    const auto parent = std::find_if(past.begin(), past.end(), [&](const Block* b) { return b->hash == o.parent_hash; });
    if (parent == past.end() || (*parent)->hash == block.header.parent_hash) return "uncle's parent is not ancestor";
    const Revision rev = config.revision_at(o.number, o.timestamp);
    if (auto why = check_header((*parent)->header, o, config, rev, !(*parent)->ommers.empty()); !why.empty()) return "uncle: " + why;
  }
  return {};
}

}  // namespace zg
