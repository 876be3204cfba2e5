#include "token_trie.h"

#include <algorithm>

namespace zg::infer {

std::shared_ptr<const TokenTrie> TokenTrie::build(const std::vector<std::string_view>& pieces) {
  auto trie = std::make_shared<TokenTrie>();
  trie->size_ = pieces.size();
  trie->starts_.reserve(pieces.size() + 1);
  for (const std::string_view piece : pieces) {
    trie->starts_.push_back(static_cast<uint32_t>(trie->bytes_.size()));
    trie->bytes_.insert(trie->bytes_.end(), piece.begin(), piece.end());
  }
  trie->starts_.push_back(static_cast<uint32_t>(trie->bytes_.size()));
  std::vector<uint32_t>& ids = trie->ids_;
  for (uint32_t id = 0; id < pieces.size(); id++) {
    if (!pieces[id].empty() && pieces[id].size() <= kMaxDepth) ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end(), [&](uint32_t a, uint32_t b) { return pieces[a] != pieces[b] ? pieces[a] < pieces[b] : a < b; });
  // The nodes on the path of the token before.
  std::vector<uint32_t> path;
  std::string_view last;
  const auto close = [&](size_t depth) {
    for (; path.size() > depth; path.pop_back()) trie->nodes_[path.back()].next = static_cast<uint32_t>(trie->nodes_.size());
  };
  for (uint32_t i = 0; i < ids.size(); i++) {
    const std::string_view piece = pieces[ids[i]];
    size_t shared = 0;
    while (shared < piece.size() && shared < last.size() && piece[shared] == last[shared]) shared++;
    close(shared);
    for (size_t d = shared; d < piece.size(); d++) {
      path.push_back(static_cast<uint32_t>(trie->nodes_.size()));
      trie->nodes_.push_back({0, 0, 0, static_cast<uint16_t>(d + 1), static_cast<uint8_t>(piece[d])});
    }
    Node& node = trie->nodes_[path.back()];
    if (node.count == 0) node.first = i;
    node.count++;
    last = piece;
  }
  close(0);
  size_t single = 0;
  for (const Node& node : trie->nodes_) single += node.depth == 1 && node.count > 0;
  trie->every_byte_ = single == 256;
  return trie;
}

bool TokenTrie::split(std::string_view bytes, std::vector<uint32_t>* out) const {
  while (!bytes.empty()) {
    uint32_t best = UINT32_MAX;
    size_t best_size = 0;
    uint32_t at = 0;
    auto end = static_cast<uint32_t>(nodes_.size());
    size_t depth = 0;
    while (at < end && depth < bytes.size()) {
      const Node& node = nodes_[at];
      if (node.byte != static_cast<uint8_t>(bytes[depth])) {
        at = node.next;
        continue;
      }
      depth++;
      if (node.count > 0) {
        best = ids_[node.first];
        best_size = depth;
      }
      end = node.next;
      at++;
    }
    if (best == UINT32_MAX) return false;
    out->push_back(best);
    bytes.remove_prefix(best_size);
  }
  return true;
}

}  // namespace zg::infer
