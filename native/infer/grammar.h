// A grammar as a pushdown automaton over bytes, made deterministic as far as it is used: states are sets of (node, stack), built when
// first reached and kept with their transitions and token masks (docs/decisions/0065). lib/infer/grammar makes the automaton.
//
// Not safe for two threads at once: callers hold mutex(). Results do not depend on what was asked before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "token_trie.h"

namespace zg::infer {

class Grammar {
 public:
  using State = uint32_t;
  static constexpr State kDead = UINT32_MAX;
  static constexpr uint32_t kFar = UINT32_MAX;

  static constexpr uint32_t kMaxNodes = 400'000;
  static constexpr uint32_t kMaxEdges = 1'600'000;
  // States that are kept; when there are more all are dropped and built anew as they are needed.
  static constexpr size_t kMaxStates = 16'384;
  // Ways in which one state may go on, and how deep rules nest.
  static constexpr size_t kMaxPairs = 512;
  static constexpr uint32_t kMaxStack = 200;
  // Places visited for one mask: a grammar that needs more is given up rather than holding up everybody's step.
  static constexpr uint64_t kMaxWork = 3'000'000;

  // words: 3, nodes, edges, start · for each node 1 when its rule may end there · for each node its first edge, then the number of edges ·
  // for each edge kind (0 empty, 1 bytes, 2 rule) ≪ 16 ∣ lowest ≪ 8 ∣ highest byte, target, node after the rule.
  // nullptr with the reason when they are malformed or no text of the grammar ever ends.
  static std::shared_ptr<Grammar> load(const uint32_t* words, size_t count, std::shared_ptr<const TokenTrie> trie, std::string* error);

  std::mutex& mutex() { return mutex_; }
  const TokenTrie& trie() const { return *trie_; }

  // Changes when the states were dropped: those of before mean nothing then.
  uint32_t generation() const { return generation_; }
  // Drops the states when there are too many. To be called before a request's turn.
  void trim();
  State start();
  // kDead when no text of the grammar goes on so, or a bound was met.
  State step(State state, uint8_t byte);
  State step(State state, std::string_view bytes);
  // A text of the grammar may end here; it must end here.
  bool accepts(State state) const { return configs_[state].accept; }
  bool ends(State state) const { return configs_[state].pairs.empty(); }
  // Bytes of the shortest way to an end.
  uint32_t distance(State state) const { return configs_[state].distance; }
  // Appends one such way; false when a bound was met.
  bool shortest(State state, std::string* out);
  // Bit t of word t / 64: token t may follow. nullptr when a bound was met. Valid until the next call.
  const std::vector<uint64_t>* mask(State state);

 private:
  struct Edge {
    uint32_t kind;
    uint32_t target;
    uint32_t after;
    uint8_t low;
    uint8_t high;
  };
  struct Pair {
    uint32_t node;
    uint32_t stack;
    bool operator==(const Pair&) const = default;
  };
  struct Stack {
    uint32_t node;
    uint32_t below;
    uint32_t depth;
    uint32_t distance;
  };
  struct Config {
    std::vector<Pair> pairs;
    bool accept = false;
    uint32_t distance = kFar;
    // By class of byte; 0: not known yet, 1: dead, else state + 2.
    std::vector<uint32_t> steps;
  };

  bool read(const uint32_t* words, size_t count, std::string* error);
  void measure();
  void classify();
  void reset();
  uint32_t push(uint32_t node, uint32_t below);
  // Collects into built_ what can be reached without a byte.
  bool close_over(uint32_t node, uint32_t stack);
  State intern();

  std::shared_ptr<const TokenTrie> trie_;
  std::vector<uint32_t> first_;
  std::vector<uint8_t> accept_;
  std::vector<Edge> edges_;
  // Bytes from a node to the end of its rule.
  std::vector<uint32_t> distance_;
  uint32_t start_node_ = 0;
  uint8_t class_of_[256] = {};
  // A byte that stands for its class: one that people can read where there is one. By preference.
  std::vector<uint8_t> representatives_;

  std::mutex mutex_;
  uint32_t generation_ = 0;
  uint64_t work_ = 0;
  std::vector<Stack> stacks_;
  std::unordered_map<uint64_t, uint32_t> stack_ids_;
  std::vector<Config> configs_;
  std::unordered_multimap<uint64_t, State> config_ids_;
  std::unordered_map<State, std::vector<uint64_t>> masks_;
  Config built_;
  std::vector<Pair> visited_;
  std::unordered_map<uint64_t, uint32_t> seen_;
  uint32_t seen_round_ = 0;
};

}  // namespace zg::infer
