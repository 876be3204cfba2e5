// Mutations of bytes, blind and by RLP structure, from a seeded generator. For exec_fuzz.cpp.
#pragma once

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "base/rlp.h"

namespace zg::test {

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : rng_(seed) {}
  uint64_t below(uint64_t n) { return n == 0 ? 0 : rng_() % n; }

  // One to four changes; half of the time on the items of an RLP tree, so that what is around them stays well formed.
  Bytes mutate(ByteView seed, ByteView other) {
    Bytes out(seed.begin(), seed.end());
    for (uint64_t n = 1 + below(4); n > 0; --n) {
      if (below(2) == 0) out = structured(out);
      else blind(out, other);
    }
    if (out.size() > kBytesMax) out.resize(kBytesMax);
    return out;
  }

 private:
  static constexpr size_t kBytesMax = 1u << 20;
  static constexpr size_t kItemsMax = 20'000;
  static constexpr unsigned kDepthMax = 64;

  struct Node {
    bool is_list = false;
    Bytes text;
    std::vector<Node> items;
  };

  void blind(Bytes& b, ByteView other) {
    static constexpr uint8_t kEdges[] = {0, 1, 0x7f, 0x80, 0x81, 0xb7, 0xb8, 0xbf, 0xc0, 0xc1, 0xf7, 0xf8, 0xff};
    const size_t at = below(b.size() + 1);
    switch (below(8)) {
      case 0:
        if (at < b.size()) b[at] ^= static_cast<uint8_t>(1u << below(8));
        break;
      case 1:
        if (at < b.size()) b[at] = kEdges[below(sizeof kEdges)];
        break;
      case 2:
        if (at < b.size()) b[at] = static_cast<uint8_t>(rng_());
        break;
      case 3: b.insert(b.begin() + static_cast<ptrdiff_t>(at), kEdges[below(sizeof kEdges)]); break;
      case 4: b.erase(b.begin() + static_cast<ptrdiff_t>(at), b.begin() + static_cast<ptrdiff_t>(std::min(b.size(), at + 1 + below(8)))); break;
      case 5: b.resize(at); break;
      case 6: {  // a piece of itself again
        const size_t n = std::min<size_t>(b.size() - at, 1 + below(64));
        const Bytes piece(b.begin() + static_cast<ptrdiff_t>(at), b.begin() + static_cast<ptrdiff_t>(at + n));
        const size_t to = below(b.size() + 1);
        b.insert(b.begin() + static_cast<ptrdiff_t>(to), piece.begin(), piece.end());
        break;
      }
      default: {  // a piece of another seed
        const size_t from = below(other.size() + 1), n = std::min<size_t>(other.size() - from, 1 + below(96));
        b.insert(b.begin() + static_cast<ptrdiff_t>(at), other.begin() + static_cast<ptrdiff_t>(from),
                 other.begin() + static_cast<ptrdiff_t>(from + n));
      }
    }
  }

  static bool parse(const rlp::Item& item, Node& out, unsigned depth, size_t& count) {
    if (depth > kDepthMax || ++count > kItemsMax) return false;
    out.is_list = item.is_list;
    if (!item.is_list) {
      out.text.assign(item.payload.begin(), item.payload.end());
      return true;
    }
    for (ByteView in = item.payload; !in.empty();) {
      const auto next = rlp::next(in);
      out.items.emplace_back();
      if (!next || !parse(*next, out.items.back(), depth + 1, count)) return false;
    }
    return true;
  }
  static void write(const Node& n, rlp::Writer& w) {
    if (!n.is_list) return w.bytes(n.text);
    const size_t at = w.open();
    for (const Node& i : n.items) write(i, w);
    w.close(at);
  }
  Node& any(Node& root) {
    Node* at = &root;
    while (at->is_list && !at->items.empty() && below(8) != 0) at = &at->items[below(at->items.size())];
    return *at;
  }
  void change(Node& n, Node& root) {
    switch (below(9)) {
      case 0: n.text.clear(); break;
      case 1: n.text.assign(1 + below(40), 0xff); break;
      case 2: n.text.insert(n.text.begin(), 0); break;
      case 3: n.text.resize(below(2 * n.text.size() + 2)); break;
      case 4: n.is_list = !n.is_list; break;
      case 5:
        if (!n.items.empty()) n.items.erase(n.items.begin() + static_cast<ptrdiff_t>(below(n.items.size())));
        break;
      case 6:
        if (!n.items.empty()) {
          const Node copy = n.items[below(n.items.size())];
          n.items.insert(n.items.begin() + static_cast<ptrdiff_t>(below(n.items.size() + 1)), copy);
        }
        break;
      case 7: {
        const Node copy = any(root);
        n = copy;
        break;
      }
      default:
        if (!n.text.empty()) n.text[below(n.text.size())] = static_cast<uint8_t>(rng_());
    }
  }
  Bytes structured(const Bytes& in) {
    // A typed transaction has a byte before its list.
    const size_t skip = in.size() > 1 && in[0] < 0x80 && in[1] >= 0xc0 ? 1 : 0;
    const auto whole = rlp::single(ByteView(in).subspan(skip));
    Node root;
    size_t count = 0;
    if (!whole || !parse(*whole, root, 0, count)) {
      Bytes out = in;
      blind(out, in);
      return out;
    }
    change(any(root), root);
    rlp::Writer w;
    w.out.assign(in.begin(), in.begin() + static_cast<ptrdiff_t>(skip));
    write(root, w);
    return std::move(w.out);
  }

  std::mt19937_64 rng_;
};

}  // namespace zg::test
