// Nodes of a Merkle-Patricia trie as this store keeps them, and their RLP (Yellow Paper, appendix D).
//
// Only branches are kept, each under its path. What a parent knows of a child:
//
//   leaf     the reference to it (its hash, or its RLP when that is shorter than 32 bytes); its key and value stand in the flat state
//   branch   the reference, and the nibbles between the two when an extension stands there; the branch itself has its own record
//
// so a state of a million accounts has 330 thousand records, and a value is stored once. Depth 0 is a branch record, or a *stub* that says
// that the whole trie is one leaf, or an extension and a branch.
#pragma once

#include <vector>

#include "base/types.h"

namespace zg::trie {

// What a branch or an extension holds of the node below it: 32 bytes of hash, or shorter RLP itself. Length 0: nothing.
struct Ref {
  uint8_t len = 0;
  uint8_t b[32];
  [[nodiscard]] ByteView view() const noexcept { return {b, len}; }
};

enum class Kind : uint8_t { none, leaf, branch };

// Up to 64 nibbles, one a byte.
struct Path {
  uint8_t len = 0;
  uint8_t n[64];

  static Path of(const Hash& h, size_t count = 64) noexcept {
    Path p;
    p.len = static_cast<uint8_t>(count);
    for (size_t i = 0; i < count; i++) p.n[i] = nibble(h, i);
    return p;
  }
  static uint8_t nibble(const Hash& h, size_t i) noexcept {
    return (i & 1) != 0 ? h.b[i >> 1] & 15 : h.b[i >> 1] >> 4;
  }
  void push(uint8_t x) noexcept { n[len++] = x; }
};

// The record of one branch. Children without `kind` are absent.
struct Branch {
  Kind kind[16] = {};
  Ref ref[16];
  // Nibbles between this child and its branch; nearly always none.
  Bytes ext[16];
};

// The stub at depth 0: the whole trie below one reference.
struct Stub {
  Kind kind = Kind::none;
  Bytes ext;
};

void encode_branch(const Branch& b, std::string& out);
void encode_stub(const Stub& s, std::string& out);
// Both refuse what encode does not write. A record is a stub when its first byte says so.
[[nodiscard]] bool is_stub(std::string_view record) noexcept;
bool decode_branch(std::string_view record, Branch& out);
bool decode_stub(std::string_view record, Stub& out);

// ---- RLP, appended to `out`
void rlp_string(ByteView s, Bytes& out);
void rlp_list_head(size_t payload, Bytes& out);
[[nodiscard]] size_t rlp_string_size(ByteView s) noexcept;
// The hex-prefix encoding of nibbles (appendix C) as an RLP string.
void rlp_compact(const uint8_t* nibbles, size_t count, bool leaf, Bytes& out);
// Whole nodes. `value` of a leaf is the bytes that become its RLP string.
void rlp_leaf(const uint8_t* nibbles, size_t count, ByteView value, Bytes& out);
void rlp_extension(const uint8_t* nibbles, size_t count, const Ref& child, Bytes& out);
// `refs` of 16; `value` as above, empty for none.
void rlp_branch(const Ref* refs, ByteView value, Bytes& out);
// The reference to a node whose RLP is `rlp`.
Ref ref_of(ByteView rlp) noexcept;

}  // namespace zg::trie
