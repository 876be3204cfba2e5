#include "prefix.h"

#include <algorithm>
#include <cstring>

namespace zg::infer {

size_t PrefixCache::Hash::operator()(const Key& k) const {
  uint64_t h = reinterpret_cast<uintptr_t>(k.parent) * 0x9E3779B97F4A7C15u;
  for (const uint32_t t : k.tokens) h = ((h ^ t) * 0xD6E8FEB86659FD93u) ^ (h >> 29);
  return static_cast<size_t>(h ^ (h >> 32));
}

PrefixCache::~PrefixCache() {
  for (const auto& [key, node] : nodes_) pages_->forget(node->page);
}

PrefixCache::Node* PrefixCache::enter(const std::string& salt) {
  std::unique_ptr<Node>& root = roots_[salt];
  if (root == nullptr) {
    root = std::make_unique<Node>();
    root->salt = salt;
  }
  root->sequences++;
  return root.get();
}

void PrefixCache::leave(Node* root) {
  root->sequences--;
  drop_root(root);
}

void PrefixCache::drop_root(Node* root) {
  if (root->sequences == 0 && root->children == 0) roots_.erase(std::string(root->salt));
}

PrefixCache::Node* PrefixCache::find(Node* at, const uint32_t* tokens) {
  Key key{at, {}};
  std::copy_n(tokens, key.tokens.size(), key.tokens.begin());
  const auto found = nodes_.find(key);
  if (found == nodes_.end()) return nullptr;
  Node* node = found->second.get();
  const uint64_t now = ++clock_;
  if (node->children == 0) {
    ends_.erase({node->used, node});
    ends_.insert({now, node});
  }
  node->used = now;
  return node;
}

PrefixCache::Node* PrefixCache::insert(Node* at, const uint32_t* tokens, uint32_t page) {
  if (Node* known = find(at, tokens)) return known;
  Key key{at, {}};
  std::copy_n(tokens, key.tokens.size(), key.tokens.begin());
  auto node = std::make_unique<Node>();
  Node* out = node.get();
  out->parent = at;
  out->tokens = key.tokens;
  out->page = page;
  out->used = ++clock_;
  pages_->keep(page);
  if (at->children++ == 0 && at->parent != nullptr) ends_.erase({at->used, at});
  ends_.insert({out->used, out});
  nodes_.emplace(key, std::move(node));
  return out;
}

uint32_t PrefixCache::evict(uint32_t count) {
  uint32_t done = 0;
  for (auto it = ends_.begin(); it != ends_.end() && done < count;) {
    Node* node = it->second;
    ++it;
    // A page that lost its last child was not used for longer than that one: it is the next.
    while (done < count && node->parent != nullptr && node->children == 0 && pages_->idle(node->page)) {
      Node* parent = node->parent;
      ends_.erase({node->used, node});
      erase(node);
      done++;
      if (parent->parent == nullptr) {
        drop_root(parent);
        break;
      }
      node = parent;
    }
  }
  return done;
}

// The node is out of ends_ already.
void PrefixCache::erase(Node* node) {
  Node* parent = node->parent;
  pages_->forget(node->page);
  nodes_.erase(Key{parent, node->tokens});
  if (--parent->children == 0 && parent->parent != nullptr) ends_.insert({parent->used, parent});
}

}  // namespace zg::infer
