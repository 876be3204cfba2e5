// Beginnings that requests share (inference.md 8): full pages of the cache by what lies in them. A page is found by the page before it and
// its own 16 tokens, compared as they are, so no collision of hashes can hand out another's page. Trees of different salts share nothing: the
// time to a first token would tell what others asked. Not safe for several threads; the scheduler's own.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>

#include "cpu/layout.h"
#include "cpu/pages.h"

namespace zg::infer {

class PrefixCache {
 public:
  using Tokens = std::array<uint32_t, ZG_PAGE>;
  // A full page, or (without parent) where a salt's tree begins. Stays while a sequence holds its page, or has entered the tree.
  struct Node {
    Node* parent = nullptr;
    Tokens tokens{};
    uint32_t page = 0;
    uint32_t children = 0;
    uint64_t used = 0;
    // Of a tree's beginning: sequences in it, and its name.
    uint32_t sequences = 0;
    std::string salt;
  };

  explicit PrefixCache(cpu::Pages* pages) : pages_(pages) {}
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // The tree of a salt; every enter() wants a leave().
  Node* enter(const std::string& salt);
  void leave(Node* root);
  // The page behind `at` that holds these 16 tokens, or nullptr.
  Node* find(Node* at, const uint32_t* tokens);
  // Remembers a full page. When such a page is known already, that one is returned: it holds the same.
  Node* insert(Node* at, const uint32_t* tokens, uint32_t page);
  // Forgets up to so many pages that no sequence uses, those first that were not used for longest, ends before beginnings.
  uint32_t evict(uint32_t count);
  size_t size() const { return nodes_.size(); }

 private:
  struct Key {
    const Node* parent;
    Tokens tokens;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    size_t operator()(const Key& k) const;
  };
  void erase(Node* node);
  void drop_root(Node* root);

  cpu::Pages* const pages_;
  uint64_t clock_ = 0;
  std::unordered_map<Key, std::unique_ptr<Node>, Hash> nodes_;
  std::unordered_map<std::string, std::unique_ptr<Node>> roots_;
  // Nodes without children by their last use.
  std::set<std::pair<uint64_t, Node*>> ends_;
};

}  // namespace zg::infer
