// Roots of whole tries, built from sorted keys in one walk without a tree in memory: a range of keys with a common prefix is one node.
#include "trie/trie.h"

#include <algorithm>

#include "trie/node.h"

namespace zg {
namespace {

using Pair = std::pair<Bytes, Bytes>;

class Builder {
 public:
  explicit Builder(std::span<const Pair> sorted) : pairs_(sorted) {}

  Hash root() {
    if (pairs_.empty()) return empty_trie_root();
    node(0, pairs_.size(), 0);
    return keccak(rlp_);
  }
  // The reference to the node over all pairs, which agree in `depth` nibbles.
  trie::Ref ref(size_t depth) {
    node(0, pairs_.size(), depth);
    return trie::ref_of(rlp_);
  }

 private:
  [[nodiscard]] uint8_t nibble(size_t i, size_t at) const {
    const uint8_t x = pairs_[i].first[at >> 1];
    return (at & 1) != 0 ? x & 15 : x >> 4;
  }
  [[nodiscard]] size_t nibbles(size_t i) const { return 2 * pairs_[i].first.size(); }

  // The node over [lo, hi), whose keys agree in `depth` nibbles: its RLP in rlp_. As deep as the longest common prefix of keys.
  void node(size_t lo, size_t hi, size_t depth) {
    if (hi - lo == 1) {
      std::vector<uint8_t> rest;
      for (size_t i = depth; i < nibbles(lo); i++) rest.push_back(nibble(lo, i));
      rlp_.clear();
      trie::rlp_leaf(rest.data(), rest.size(), pairs_[lo].second, rlp_);
      return;
    }
    // Sorted: what the first and the last share, all share.
    const size_t end = std::min(nibbles(lo), nibbles(hi - 1));
    size_t common = depth;
    while (common < end && nibble(lo, common) == nibble(hi - 1, common)) common++;
    if (common > depth) {
      std::vector<uint8_t> ext;
      for (size_t i = depth; i < common; i++) ext.push_back(nibble(lo, i));
      branch(lo, hi, common);
      const trie::Ref child = trie::ref_of(rlp_);
      rlp_.clear();
      trie::rlp_extension(ext.data(), ext.size(), child, rlp_);
      return;
    }
    branch(lo, hi, depth);
  }

  void branch(size_t lo, size_t hi, size_t depth) {
    trie::Ref refs[16];
    ByteView value;
    // A key that ends here comes first.
    if (nibbles(lo) == depth) value = pairs_[lo++].second;
    for (size_t i = lo; i < hi;) {
      const uint8_t x = nibble(i, depth);
      size_t j = i + 1;
      while (j < hi && nibble(j, depth) == x) j++;
      node(i, j, depth + 1);
      refs[x] = trie::ref_of(rlp_);
      i = j;
    }
    rlp_.clear();
    trie::rlp_branch(refs, value, rlp_);
  }

  std::span<const Pair> pairs_;
  Bytes rlp_;
};

}  // namespace

Hash trie_root(std::span<const std::pair<Bytes, Bytes>> sorted) { return Builder(sorted).root(); }

void HashedRoot::close() {
  const trie::Ref r = Builder(pairs_).ref(1);
  refs_[open_].assign(r.b, r.b + r.len);
  pairs_.clear();
  closed_++;
}

void HashedRoot::add(const Hash& key, Bytes value) {
  const uint8_t x = key.b[0] >> 4;
  if (!pairs_.empty() && x != open_) close();
  open_ = x;
  pairs_.emplace_back(Bytes(key.b, key.b + 32), std::move(value));
}

Hash HashedRoot::finish() {
  // All below one nibble, or nothing: no branch at the root.
  if (closed_ == 0) return trie_root(pairs_);
  close();
  trie::Ref refs[16];
  for (size_t i = 0; i < 16; i++) {
    refs[i].len = static_cast<uint8_t>(refs_[i].size());
    if (!refs_[i].empty()) std::memcpy(refs[i].b, refs_[i].data(), refs_[i].size());
  }
  Bytes rlp;
  trie::rlp_branch(refs, {}, rlp);
  return keccak(rlp);
}

Hash ordered_root(std::span<const Bytes> values) {
  std::vector<Pair> pairs(values.size());
  for (size_t i = 0; i < values.size(); i++) {
    Bytes& key = pairs[i].first;
    if (i == 0) {
      key = {0x80};
    } else {
      uint8_t be[8];
      size_t n = 0;
      for (size_t x = i; x != 0; x >>= 8) be[7 - n++] = static_cast<uint8_t>(x);
      trie::rlp_string({be + 8 - n, n}, key);
    }
    pairs[i].second = values[i];
  }
  std::sort(pairs.begin(), pairs.end(), [](const Pair& a, const Pair& b) { return a.first < b.first; });
  return trie_root(pairs);
}

}  // namespace zg
