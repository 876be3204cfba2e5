#include "grammar.h"

#include <algorithm>
#include <queue>

namespace zg::infer {
namespace {

enum Kind : uint32_t { kEmpty = 0, kBytes = 1, kRule = 2 };

constexpr size_t kMaxMasks = 512;
constexpr uint32_t kMaxShortest = 16'384;
constexpr size_t kMaxStacks = size_t{1} << 18;

uint32_t plus(uint32_t a, uint32_t b) { return a > Grammar::kFar - b ? Grammar::kFar : a + b; }

uint64_t key_of(uint32_t a, uint32_t b) { return uint64_t{a} << 32 | b; }

uint64_t mix(uint64_t h, uint64_t v) {
  h = (h ^ v) * 0x9E3779B97F4A7C15u;
  return h ^ h >> 32;
}

// What a shortest text is made of, best first.
uint32_t rank_of(uint32_t byte) {
  if (byte >= 'a' && byte <= 'z') return 0;
  if (byte >= '0' && byte <= '9') return 1;
  if (byte > ' ' && byte < 0x7f) return 2;
  return byte == ' ' ? 3 : 4;
}

}  // namespace

std::shared_ptr<Grammar> Grammar::load(const uint32_t* words, size_t count, std::shared_ptr<const TokenTrie> trie,
                                       std::string* error) {
  auto grammar = std::make_shared<Grammar>();
  grammar->trie_ = std::move(trie);
  if (!grammar->read(words, count, error)) return nullptr;
  grammar->measure();
  if (grammar->distance_[grammar->start_node_] == kFar) {
    *error = "no text of the grammar ever ends";
    return nullptr;
  }
  grammar->classify();
  grammar->reset();
  return grammar;
}

bool Grammar::read(const uint32_t* words, size_t count, std::string* error) {
  *error = "the automaton is malformed";
  if (count < 4 || words[0] != 3) return false;
  const uint32_t nodes = words[1];
  const uint32_t edges = words[2];
  if (nodes == 0 || nodes > kMaxNodes || edges > kMaxEdges) return false;
  if (count != 4 + size_t{nodes} + (nodes + 1) + size_t{edges} * 3 || words[3] >= nodes) return false;
  start_node_ = words[3];
  const uint32_t* at = words + 4;
  accept_.assign(at, at + nodes);
  at += nodes;
  first_.assign(at, at + nodes + 1);
  at += nodes + 1;
  if (first_[0] != 0 || first_[nodes] != edges || !std::is_sorted(first_.begin(), first_.end())) return false;
  edges_.reserve(edges);
  for (uint32_t i = 0; i < edges; i++, at += 3) {
    const Edge e{at[0] >> 16, at[1], at[2], static_cast<uint8_t>(at[0] >> 8), static_cast<uint8_t>(at[0])};
    if (e.kind > kRule || e.target >= nodes || (e.kind == kRule && e.after >= nodes) || e.low > e.high) return false;
    edges_.push_back(e);
  }
  error->clear();
  return true;
}

// Shortest ways to the end of each rule: Dijkstra's algorithm backwards, where a rule's edge counts when both of its parts do (Knuth 1977).
void Grammar::measure() {
  const size_t nodes = accept_.size();
  distance_.assign(nodes, kFar);
  std::vector<uint32_t> counts(nodes + 1, 0);
  for (const Edge& e : edges_) {
    counts[e.target]++;
    if (e.kind == kRule) counts[e.after]++;
  }
  std::vector<uint32_t> begin(nodes + 1, 0);
  for (size_t i = 0; i < nodes; i++) begin[i + 1] = begin[i] + counts[i];
  std::vector<std::pair<uint32_t, uint32_t>> into(begin[nodes]);
  std::vector<uint32_t> fill(begin.begin(), begin.end() - 1);
  for (uint32_t node = 0; node < nodes; node++) {
    for (uint32_t i = first_[node]; i < first_[node + 1]; i++) {
      into[fill[edges_[i].target]++] = {node, i};
      if (edges_[i].kind == kRule) into[fill[edges_[i].after]++] = {node, i};
    }
  }
  using Item = std::pair<uint32_t, uint32_t>;
  std::priority_queue<Item, std::vector<Item>, std::greater<>> queue;
  std::vector<uint8_t> final(nodes, 0);
  for (uint32_t node = 0; node < nodes; node++) {
    if (accept_[node] != 0) queue.emplace(0, node);
  }
  while (!queue.empty()) {
    const auto [far, node] = queue.top();
    queue.pop();
    if (final[node] != 0) continue;
    final[node] = 1;
    distance_[node] = far;
    for (uint32_t i = begin[node]; i < begin[node + 1]; i++) {
      const auto [from, edge] = into[i];
      if (final[from] != 0) continue;
      const Edge& e = edges_[edge];
      if (e.kind == kRule && (final[e.target] == 0 || final[e.after] == 0)) continue;
      const uint32_t whole = e.kind == kRule    ? plus(distance_[e.target], distance_[e.after])
                             : e.kind == kBytes ? plus(far, 1)
                                                : far;
      if (whole != kFar) queue.emplace(whole, from);
    }
  }
}

// Bytes that no edge tells apart are one class.
void Grammar::classify() {
  bool border[257] = {};
  for (const Edge& e : edges_) {
    if (e.kind != kBytes) continue;
    border[e.low] = true;
    border[e.high + 1] = true;
  }
  uint8_t next = 0;
  representatives_.clear();
  for (uint32_t b = 0; b < 256; b++) {
    if (b > 0 && border[b]) next++;
    class_of_[b] = next;
    if (representatives_.size() <= next) {
      representatives_.push_back(static_cast<uint8_t>(b));
    } else if (rank_of(b) < rank_of(representatives_[next])) {
      representatives_[next] = static_cast<uint8_t>(b);
    }
  }
  std::stable_sort(representatives_.begin(), representatives_.end(), [](uint8_t a, uint8_t b) { return rank_of(a) < rank_of(b); });
}

void Grammar::reset() {
  generation_++;
  stacks_.assign(1, {0, 0, 0, 0});
  stack_ids_.clear();
  configs_.clear();
  config_ids_.clear();
  masks_.clear();
}

void Grammar::trim() {
  if (configs_.size() > kMaxStates || stacks_.size() > kMaxStacks) reset();
}

uint32_t Grammar::push(uint32_t node, uint32_t below) {
  const auto [found, fresh] = stack_ids_.try_emplace(key_of(node, below), static_cast<uint32_t>(stacks_.size()));
  if (fresh) stacks_.push_back({node, below, stacks_[below].depth + 1, plus(distance_[node], stacks_[below].distance)});
  return found->second;
}

bool Grammar::close_over(uint32_t node, uint32_t stack) {
  const auto visit = [this](uint32_t n, uint32_t s) {
    // What never ends is no way to go.
    if (distance_[n] == kFar) return;
    const auto [found, fresh] = seen_.try_emplace(key_of(n, s), seen_round_);
    if (!fresh && found->second == seen_round_) return;
    found->second = seen_round_;
    visited_.push_back({n, s});
  };
  visited_.clear();
  visit(node, stack);
  while (!visited_.empty()) {
    const Pair p = visited_.back();
    visited_.pop_back();
    work_++;
    if (accept_[p.node] != 0) {
      if (p.stack == 0) {
        built_.accept = true;
        built_.distance = 0;
      } else {
        visit(stacks_[p.stack].node, stacks_[p.stack].below);
      }
    }
    bool bytes = false;
    for (uint32_t i = first_[p.node]; i < first_[p.node + 1]; i++) {
      const Edge& e = edges_[i];
      if (e.kind == kEmpty) {
        visit(e.target, p.stack);
      } else if (e.kind == kRule) {
        if (distance_[e.after] == kFar) continue;
        // Nothing is left to do after the rule: it takes this one's place.
        const bool last = accept_[e.after] != 0 && first_[e.after] == first_[e.after + 1];
        if (last) {
          visit(e.target, p.stack);
        } else if (stacks_[p.stack].depth < kMaxStack && stacks_.size() < 2 * kMaxStacks) {
          visit(e.target, push(e.after, p.stack));
        }
      } else {
        bytes = bytes || distance_[e.target] != kFar;
      }
    }
    if (!bytes) continue;
    if (built_.pairs.size() >= kMaxPairs) return false;
    built_.pairs.push_back(p);
    built_.distance = std::min(built_.distance, plus(distance_[p.node], stacks_[p.stack].distance));
  }
  return true;
}

Grammar::State Grammar::intern() {
  std::sort(built_.pairs.begin(), built_.pairs.end(),
            [](const Pair& a, const Pair& b) { return a.node != b.node ? a.node < b.node : a.stack < b.stack; });
  uint64_t hash = built_.accept ? 1 : 2;
  for (const Pair& p : built_.pairs) hash = mix(hash, key_of(p.node, p.stack));
  const auto [from, to] = config_ids_.equal_range(hash);
  for (auto it = from; it != to; ++it) {
    const Config& c = configs_[it->second];
    if (c.accept == built_.accept && c.pairs == built_.pairs) return it->second;
  }
  // Twice the bound: within one mask nothing is dropped.
  if (configs_.size() >= 2 * kMaxStates) return kDead;
  const auto state = static_cast<State>(configs_.size());
  built_.steps.assign(representatives_.size(), 0);
  configs_.push_back(built_);
  config_ids_.emplace(hash, state);
  return state;
}

Grammar::State Grammar::start() {
  built_ = {};
  seen_round_++;
  seen_.clear();
  return close_over(start_node_, 0) ? intern() : kDead;
}

Grammar::State Grammar::step(State state, uint8_t byte) {
  const uint8_t cls = class_of_[byte];
  const uint32_t known = configs_[state].steps[cls];
  if (known != 0) return known == 1 ? kDead : known - 2;
  built_ = {};
  seen_round_++;
  if (seen_.size() > 65'536) seen_.clear();
  bool fits = true;
  // By index: interning may move the states.
  for (size_t i = 0; fits && i < configs_[state].pairs.size(); i++) {
    const Pair p = configs_[state].pairs[i];
    for (uint32_t j = first_[p.node]; fits && j < first_[p.node + 1]; j++) {
      const Edge& e = edges_[j];
      if (e.kind == kBytes && e.low <= byte && byte <= e.high && distance_[e.target] != kFar) fits = close_over(e.target, p.stack);
    }
  }
  State next = kDead;
  if (fits && (built_.accept || !built_.pairs.empty())) next = intern();
  configs_[state].steps[cls] = next == kDead ? 1 : next + 2;
  return next;
}

Grammar::State Grammar::step(State state, std::string_view bytes) {
  for (const char byte : bytes) {
    if (state == kDead) break;
    state = step(state, static_cast<uint8_t>(byte));
  }
  return state;
}

bool Grammar::shortest(State state, std::string* out) {
  if (distance(state) > kMaxShortest) return false;
  for (uint32_t left = distance(state); left > 0; left--) {
    State next = kDead;
    for (const uint8_t byte : representatives_) {
      const State s = step(state, byte);
      if (s == kDead || distance(s) != left - 1) continue;
      next = s;
      out->push_back(static_cast<char>(byte));
      break;
    }
    if (next == kDead) return false;
    state = next;
  }
  return true;
}

const std::vector<uint64_t>* Grammar::mask(State state) {
  const auto known = masks_.find(state);
  if (known != masks_.end()) return &known->second;
  if (masks_.size() >= kMaxMasks) masks_.clear();
  std::vector<uint64_t> bits((trie_->size() + 63) / 64, 0);
  const std::vector<TokenTrie::Node>& nodes = trie_->nodes();
  State path[TokenTrie::kMaxDepth + 1];
  path[0] = state;
  work_ = 0;
  for (uint32_t i = 0; i < nodes.size();) {
    const TokenTrie::Node& node = nodes[i];
    const State next = step(path[node.depth - 1], node.byte);
    if (work_ > kMaxWork || configs_.size() >= 2 * kMaxStates) return nullptr;
    if (next == kDead) {
      i = node.next;
      continue;
    }
    path[node.depth] = next;
    for (uint32_t j = 0; j < node.count; j++) {
      const uint32_t id = trie_->ids()[node.first + j];
      bits[id / 64] |= uint64_t{1} << (id % 64);
    }
    i++;
  }
  return &masks_.emplace(state, std::move(bits)).first->second;
}

}  // namespace zg::infer
