// Block tests: a genesis, blocks in order, some of them invalid, some on side chains; which one is the head at the end?
#include <charconv>
#include <memory>
#include <unordered_map>

#include "exec/block.h"
#include "exec/conformance_parts.h"

namespace zg {

namespace {

// A fork's name in a network's name; blob-parameter forks come after Osaka and are numbered.
struct Stage {
  Revision rev = Revision::frontier;
  unsigned bpo = 0;
};

using Schedules = std::unordered_map<std::string, BlobSchedule>;

bool stage_named(std::string_view name, Stage& out) {
  if (name.substr(0, 3) == "BPO" && name.size() == 4 && name[3] >= '1' && name[3] <= '9') {
    out = {Revision::osaka, static_cast<unsigned>(name[3] - '0')};
    return true;
  }
  if (name == "ArrowGlacier" || name == "GrayGlacier") name = "London";
  if (name == "Dao") name = "Homestead";
  const auto rev = revision_named(name);
  if (rev) out = {*rev, 0};
  return rev.has_value();
}

// Everything up to a stage, from genesis on.
void config_of(const Stage& stage, const U256& chain_id, const Schedules& schedules, ChainConfig& c) {
  c = ChainConfig::all_at(stage.rev, chain_id);
  for (size_t i = 0; i < kRevisions; ++i) {
    const auto it = schedules.find(std::string(name_of(static_cast<Revision>(i))));
    if (it != schedules.end()) c.blobs[i] = it->second;
  }
  c.non_decreasing_time = false;
  static constexpr uint8_t kDeposits[20] = {0x00, 0x00, 0x00, 0x00, 0x21, 0x9a, 0xb5, 0x40, 0x35, 0x6c,
                                            0xbb, 0x83, 0x9c, 0xbe, 0x05, 0x30, 0x3d, 0x77, 0x05, 0xfa};
  c.deposit_contract = Address::from(kDeposits);
}

bool add_bpo(ChainConfig& c, unsigned number, uint64_t time, const Schedules& schedules) {
  if (number == 0) return true;
  const auto it = schedules.find("BPO" + std::to_string(number));
  if (it == schedules.end()) return false;
  c.blob_forks.push_back({time, it->second});
  return true;
}

// "Prague", "BerlinToLondonAt5", "PragueToOsakaAtTime15k", "ArrowGlacierToParisAtDiffC0000".
bool config_named(std::string_view network, const U256& chain_id, const Schedules& schedules, ChainConfig& c) {
  const size_t to = network.find("To");
  const size_t at = network.rfind("At");
  Stage first;
  if (to == std::string_view::npos || at == std::string_view::npos || at < to) {
    if (!stage_named(network, first)) return false;
    config_of(first, chain_id, schedules, c);
    return add_bpo(c, first.bpo, 0, schedules);
  }
  Stage second;
  const std::string_view second_name = network.substr(to + 2, at - to - 2);
  if (!stage_named(network.substr(0, to), first) || !stage_named(second_name, second)) return false;
  config_of(first, chain_id, schedules, c);
  if (!add_bpo(c, first.bpo, 0, schedules)) return false;
  std::string_view when = network.substr(at + 2);
  int base = 10;
  const bool by_time = when.substr(0, 4) == "Time";
  const bool by_difficulty = when.substr(0, 4) == "Diff";
  if (by_time || by_difficulty) when.remove_prefix(4);
  if (by_difficulty) base = 16;
  uint64_t factor = 1;
  if (by_time && !when.empty() && when.back() == 'k') {
    factor = 1'000;
    when.remove_suffix(1);
  }
  uint64_t from = 0;
  if (std::from_chars(when.data(), when.data() + when.size(), from, base).ec != std::errc{}) return false;
  from *= factor;
  if (by_difficulty) {
    c.terminal_total_difficulty = U256(from);
    return true;
  }
  if (second_name == "Dao") {
    c.dao_fork = true;
    c.dao_block = from;
    return true;
  }
  if (second.bpo != 0) return add_bpo(c, second.bpo, from, schedules);
  for (size_t i = static_cast<size_t>(first.rev) + 1; i <= static_cast<size_t>(second.rev); ++i)
    (by_time ? c.time_of : c.block_of)[i] = from;
  return true;
}

struct Node {
  Block block;
  const Node* parent = nullptr;
  U256 total_difficulty;
  std::shared_ptr<const MemoryState> state;
};

// The chain under a block that is being checked.
class Line : public BlockHashes, public Ancestry {
 public:
  explicit Line(const Node* parent) : parent_(parent) {}
  Hash block_hash(uint64_t number) const override {
    for (const Node* n = parent_; n != nullptr; n = n->parent)
      if (n->block.header.number == number) return n->block.hash;
    return {};
  }
  const Block* ancestor(uint64_t depth) const override {
    const Node* n = parent_;
    for (uint64_t i = 1; n != nullptr && i < depth; ++i) n = n->parent;
    return n == nullptr ? nullptr : &n->block;
  }

 private:
  const Node* parent_;
};

class Importer {
 public:
  Importer(ChainConfig config, Block genesis, MemoryState state) : config_(std::move(config)) {
    auto node = std::make_unique<Node>();
    node->total_difficulty = genesis.header.difficulty;
    node->block = std::move(genesis);
    node->state = std::make_shared<const MemoryState>(std::move(state));
    head_ = node.get();
    nodes_[head_->block.hash] = std::move(node);
  }

  std::string import(ByteView raw) {
    auto node = std::make_unique<Node>();
    if (const char* why = decode_block(raw, node->block)) return why;
    const Block& block = node->block;
    if (nodes_.contains(block.hash)) return {};
    const auto parent = nodes_.find(block.header.parent_hash);
    if (parent == nodes_.end()) return "unknown ancestor";
    node->parent = parent->second.get();
    ChainConfig config = config_;
    // The merge happens behind the block that reaches the total difficulty (EIP-3675).
    if (config.terminal_total_difficulty && node->parent->total_difficulty >= *config.terminal_total_difficulty)
      config.block_of[static_cast<size_t>(Revision::paris)] = block.header.number;
    const Line line(node->parent);
    const MemoryState& before = *node->parent->state;
    const BlockOutcome outcome = execute_block(before, node->parent->block.header, block, config, precompiles_, line,
                                               [&](const StateDiff& diff) { return before.root_with(diff); }, 1, &line);
    if (!outcome.error.empty()) return outcome.error;
    auto after = std::make_shared<MemoryState>(before);
    after->apply(outcome.diff);
    node->state = std::move(after);
    node->total_difficulty = node->parent->total_difficulty + block.header.difficulty;
    // The heaviest chain; after the merge the one that grew last.
    if (node->total_difficulty > head_->total_difficulty ||
        (node->total_difficulty == head_->total_difficulty && block.header.difficulty.is_zero()))
      head_ = node.get();
    nodes_[block.hash] = std::move(node);
    return {};
  }

  [[nodiscard]] const Node& head() const { return *head_; }

 private:
  ChainConfig config_;
  Precompiles precompiles_;
  std::unordered_map<Hash, std::unique_ptr<Node>, HashHasher> nodes_;
  const Node* head_;
};

Bytes answer(const Hash& hash, const Hash& root, const std::vector<std::string>& errors, std::string_view error) {
  rlp::Writer w;
  const size_t at = w.open();
  w.hash(hash);
  w.hash(root);
  const size_t list = w.open();
  for (const std::string& e : errors) w.bytes(as_bytes(e));
  w.close(list);
  w.bytes(as_bytes(error));
  w.close(at);
  return std::move(w.out);
}

}  // namespace

Bytes run_block_request(ByteView request) {
  rlp::Reader r(rlp::single(request));
  const std::string_view network = as_chars(r.bytes());
  const U256 chain_id = r.u256();
  Schedules schedules;
  rlp::Reader list = r.list();
  while (list.ok() && !list.empty()) {
    rlp::Reader fields = list.list();
    const std::string name(as_chars(fields.bytes()));
    BlobSchedule s;
    s.target = fields.u64();
    s.max = fields.u64();
    s.update_fraction = fields.u64();
    if (!fields.done()) return {};
    schedules[name] = s;
  }
  const ByteView genesis_bytes = r.bytes();
  MemoryState pre;
  if (!list.done() || !read_accounts(r, pre)) return {};
  rlp::Reader blocks = r.list();
  if (!r.done()) return {};
  ChainConfig config;
  if (!config_named(network, chain_id, schedules, config)) return answer({}, {}, {}, "unknown network");
  Block genesis;
  if (const char* why = decode_block(genesis_bytes, genesis)) return answer({}, {}, {}, why);
  if (pre.root() != genesis.header.state_root) return answer(genesis.hash, pre.root(), {}, "the genesis state has another root");
  Importer importer(std::move(config), std::move(genesis), std::move(pre));
  std::vector<std::string> errors;
  while (blocks.ok() && !blocks.empty()) errors.push_back(importer.import(blocks.bytes()));
  if (!blocks.done()) return {};
  const Node& head = importer.head();
  return answer(head.block.hash, head.state->root(), errors, {});
}

}  // namespace zg
