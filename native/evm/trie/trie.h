// Merkle-Patricia tries (Yellow Paper, appendix D).
#pragma once

#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "base/types.h"

namespace zg {

// Root over values at keys rlp(0), rlp(1), …: transactions, receipts, withdrawals.
Hash ordered_root(std::span<const Bytes> values);
// Root over sorted, distinct keys of equal or unequal length (no key a prefix of another unless the trie allows it: values in branches are supported).
// Empty values are not allowed. For fixtures and whole states.
Hash trie_root(std::span<const std::pair<Bytes, Bytes>> sorted);

// The root over keys of 32 bytes that come in order, each once; holds a sixteenth of them at a time when they are many.
class HashedRoot {
 public:
  void add(const Hash& key, Bytes value);
  // Once, at the end.
  Hash finish();

 private:
  void close();
  std::vector<std::pair<Bytes, Bytes>> pairs_;  // of the open first nibble
  Bytes refs_[16];
  size_t closed_ = 0;
  uint8_t open_ = 0;
};

}  // namespace zg
