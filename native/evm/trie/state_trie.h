// The state's tries, kept by path: updates from a sorted diff in one pass, and proofs.
//
// An update goes down once with its sorted changes, loads the branches on the way into a small mutable tree, changes its shape, then hashes
// what is dirty from the deepest level up, many nodes at a time. Values are not in the trie: the flat state has them.
#pragma once

#include <deque>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>

#include "trie/node.h"

namespace zg::trie {

// Where the parent state stands. Thread safe. `owner`: hash of the account whose storage it is; null for the trie of accounts.
class Source {
 public:
  virtual ~Source() = default;
  virtual bool node(const Hash* owner, const Path& path, std::string& record) const = 0;
  // The only leaf whose key begins with `prefix`: its key, and the value as the trie holds it.
  virtual bool leaf(const Hash* owner, const Path& prefix, Hash& key, Bytes& value) const = 0;
};

struct Change {
  Hash key;
  bool existed = false;  // in the parent state
  ByteView value;        // empty: deleted. Lives until the update is done.
};

// Records by database key; an empty record is a deleted one.
using NodeMap = std::unordered_map<std::string, std::string>;

// The database key of a node: 'T' or 't' and the owner, the depth, the nibbles packed.
std::string node_key(const Hash* owner, const Path& path);
std::string storage_node_prefix(const Hash& owner);

struct Update {
  const Hash* owner = nullptr;
  std::span<const Change> changes;  // sorted by key, distinct
  bool fresh = false;               // from the empty trie, whatever the source has
  Hash root{};                      // out; unset when nothing changed
  bool changed = false;             // out
};

// Runs updates of distinct tries on up to `threads` threads; nodes go to `out`. False: the source lacks a node that it should have.
bool update_tries(const Source& source, std::span<Update> updates, unsigned threads, NodeMap& out);

// The nodes from the root to `key` (or to where it would be), embedded ones left out, as eth_getProof wants them. False: a node is missing.
bool prove(const Source& source, const Hash* owner, const Hash& key, std::vector<Bytes>& nodes);

}  // namespace zg::trie
