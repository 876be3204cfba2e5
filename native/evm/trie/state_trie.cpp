#include "trie/state_trie.h"

#include <algorithm>

#include "base/keccak_batch.h"
#include "crypto/parallel.h"

namespace zg::trie {
namespace {

struct MNode;

// One slot of a branch (or the root) in the mutable tree.
struct Child {
  Kind kind = Kind::none;
  bool dirty = false;      // a leaf whose reference is not right yet
  bool has_value = false;  // a leaf whose key and value are known
  uint8_t ext_len = 0;
  Ref ref;
  MNode* node = nullptr;  // of a branch, once loaded
  const uint8_t* ext = nullptr;
  const Hash* key = nullptr;
  ByteView value;
};

struct MNode {
  const Hash* owner = nullptr;
  bool dirty = false;
  Path path;
  Ref own;  // reference to the branch itself, without its extension
  Child child[16];
};

struct Item {
  const Hash* key;
  ByteView value;
};

// Tries that are updated together on one thread: their hashing is shared.
class Forest {
 public:
  Forest(const Source& source, NodeMap& out) : source_(source), out_(out) {}

  bool failed = false;

  // The root slot of a trie as the source has it.
  void load_root(const Hash* owner, bool fresh, Child& root) {
    owner_ = owner;
    std::string record;
    Path empty;
    if (fresh || !source_.node(owner, empty, record) || record.empty()) return;
    if (is_stub(record)) {
      Stub s;
      if (!decode_stub(record, s)) {
        failed = true;
        return;
      }
      root.kind = s.kind;
      set_ext(root, s.ext.data(), s.ext.size());
    } else {
      root.kind = Kind::branch;
      root.node = decode(record, empty);
    }
  }

  void apply(const Hash* owner, Child& slot, size_t depth, std::span<const Change> changes) {
    owner_ = owner;
    if (!changes.empty()) apply(slot, depth, changes.data(), changes.data() + changes.size());
  }

  // After children of a root branch were changed elsewhere.
  void finish_root(const Hash* owner, Child& root) {
    owner_ = owner;
    root.node->dirty = true;
    collapse(root, 0);
  }

  // Hashes and emits all that is dirty below the slots, which stand at `depth`.
  void hash(std::span<Child* const> slots, size_t depth) {
    leaves_.clear();
    for (auto& l : levels_) l.clear();
    for (Child* c : slots) collect(*c, depth);
    hash_leaves();
    for (size_t d = 65; d-- > 0;)
      if (!levels_[d].empty()) hash_level(levels_[d]);
  }

  void emit_root(const Hash* owner, const Child& root) {
    Path empty;
    if (root.kind == Kind::branch && root.ext_len == 0) return;  // it is a record of its own
    std::string record;
    if (root.kind != Kind::none) {
      Stub s;
      s.kind = root.kind;
      s.ext.assign(root.ext, root.ext + root.ext_len);
      encode_stub(s, record);
    }
    out_[node_key(owner, empty)] = std::move(record);
  }

 private:
  struct LeafJob {
    Child* child;
    size_t depth;
  };

  MNode* make() {
    nodes_.emplace_back();
    nodes_.back().owner = owner_;
    return &nodes_.back();
  }

  void set_ext(Child& c, const uint8_t* nibbles, size_t count) {
    c.ext_len = static_cast<uint8_t>(count);
    if (count == 0) {
      c.ext = nullptr;
      return;
    }
    bytes_.emplace_back(nibbles, nibbles + count);
    c.ext = bytes_.back().data();
  }

  MNode* decode(const std::string& record, const Path& path) {
    if (!decode_branch(record, scratch_)) failed = true;
    MNode* n = make();
    n->path = path;
    for (size_t i = 0; i < 16; i++) {
      Child& c = n->child[i];
      c.kind = failed ? Kind::none : scratch_.kind[i];
      if (c.kind == Kind::none) continue;
      c.ref = scratch_.ref[i];
      if (!scratch_.ext[i].empty()) set_ext(c, scratch_.ext[i].data(), scratch_.ext[i].size());
    }
    return n;
  }

  // The branch of a slot; `at` is its path with the extension.
  MNode* load(Child& c, const Path& at) {
    if (c.node != nullptr) return c.node;
    if (!source_.node(owner_, at, record_) || record_.empty()) {
      failed = true;
      record_.clear();
      c.node = make();
      c.node->path = at;
      return c.node;
    }
    return c.node = decode(record_, at);
  }

  void set_leaf(Child& c, const Hash* key, ByteView value) {
    c.kind = Kind::leaf;
    c.dirty = c.has_value = true;
    c.node = nullptr;
    set_ext(c, nullptr, 0);
    c.key = key;
    c.value = value;
  }

  // A leaf of the parent state, by the path of its slot.
  Item find_leaf(const Path& prefix) {
    Hash key;
    Bytes value;
    if (!source_.leaf(owner_, prefix, key, value)) failed = true;
    hashes_.push_back(key);
    bytes_.push_back(std::move(value));
    return {&hashes_.back(), bytes_.back()};
  }

  void apply(Child& c, size_t depth, const Change* lo, const Change* hi) {
    if (c.kind == Kind::branch) {
      apply_branch(c, depth, lo, hi);
      return;
    }
    if (c.kind == Kind::leaf && hi - lo == 1 && lo->existed && !lo->value.empty()) {
      set_leaf(c, &lo->key, lo->value);
      return;
    }
    // An empty slot or a leaf: everything that is there afterwards is known, and built anew.
    std::vector<Item> items;
    items.reserve(static_cast<size_t>(hi - lo) + 1);
    bool touched = false;
    for (const Change* x = lo; x != hi; x++) {
      touched |= x->existed;
      if (!x->value.empty()) items.push_back({&x->key, x->value});
    }
    if (c.kind == Kind::leaf && !touched) {
      const Item old = c.has_value ? Item{c.key, c.value} : find_leaf(Path::of(lo->key, depth));
      items.insert(std::upper_bound(items.begin(), items.end(), old, [](const Item& a, const Item& b) { return *a.key < *b.key; }), old);
    }
    build(c, depth, items.data(), items.data() + items.size());
  }

  void build(Child& c, size_t depth, const Item* lo, const Item* hi) {
    if (lo == hi) {
      c = Child{};
      return;
    }
    if (hi - lo == 1) {
      set_leaf(c, lo->key, lo->value);
      return;
    }
    size_t common = depth;
    while (common < 63 && Path::nibble(*lo->key, common) == Path::nibble(*hi[-1].key, common)) common++;
    const Path path = Path::of(*lo->key, common);
    MNode* n = make();
    n->path = path;
    n->dirty = true;
    c = Child{};
    c.kind = Kind::branch;
    c.node = n;
    set_ext(c, path.n + depth, common - depth);
    for (const Item* i = lo; i != hi;) {
      const uint8_t x = Path::nibble(*i->key, common);
      const Item* j = i + 1;
      while (j != hi && Path::nibble(*j->key, common) == x) j++;
      build(n->child[x], common + 1, i, j);
      i = j;
    }
  }

  void apply_branch(Child& c, size_t depth, const Change* lo, const Change* hi) {
    size_t same = 0;
    while (same < c.ext_len && Path::nibble(lo->key, depth + same) == c.ext[same] && Path::nibble(hi[-1].key, depth + same) == c.ext[same]) same++;
    Path at = Path::of(lo->key, depth);
    if (same < c.ext_len) {
      // Some change leaves the extension: a branch comes between.
      Path full = at;
      for (size_t i = 0; i < c.ext_len; i++) full.push(c.ext[i]);
      for (size_t i = 0; i < same; i++) at.push(c.ext[i]);
      load(c, full)->dirty = true;  // its own reference is needed, without the extension
      MNode* between = make();
      between->path = at;
      Child& below = between->child[c.ext[same]];
      below.kind = Kind::branch;
      below.node = c.node;
      set_ext(below, c.ext + same + 1, c.ext_len - same - 1);
      c.node = between;
      set_ext(c, c.ext, same);
    } else {
      for (size_t i = 0; i < c.ext_len; i++) at.push(c.ext[i]);
      load(c, at);
    }
    MNode& n = *c.node;
    n.dirty = true;
    const size_t d = n.path.len;
    for (const Change* i = lo; i != hi;) {
      const uint8_t x = Path::nibble(i->key, d);
      const Change* j = i + 1;
      while (j != hi && Path::nibble(j->key, d) == x) j++;
      apply(n.child[x], d + 1, i, j);
      i = j;
    }
    collapse(c, depth);
  }

  // A branch with one child or none is no branch.
  void collapse(Child& c, size_t depth) {
    MNode& n = *c.node;
    size_t count = 0, last = 0;
    for (size_t i = 0; i < 16; i++)
      if (n.child[i].kind != Kind::none) {
        count++;
        last = i;
      }
    if (count >= 2) return;
    out_[node_key(owner_, n.path)].clear();
    if (count == 0) {
      c = Child{};
      return;
    }
    Child& only = n.child[last];
    Path at = n.path;
    at.push(static_cast<uint8_t>(last));
    if (only.kind == Kind::leaf) {
      const Item leaf = only.has_value ? Item{only.key, only.value} : find_leaf(at);
      c = Child{};
      set_leaf(c, leaf.key, leaf.value);
      return;
    }
    for (size_t i = 0; i < only.ext_len; i++) at.push(only.ext[i]);
    MNode* below = load(only, at);
    below->dirty = true;
    c = Child{};
    c.kind = Kind::branch;
    c.node = below;
    set_ext(c, at.n + depth, at.len - depth);
  }

  void collect(Child& c, size_t depth) {
    if (c.kind == Kind::leaf) {
      if (c.dirty) leaves_.push_back({&c, depth});
      return;
    }
    if (c.kind != Kind::branch || c.node == nullptr || !c.node->dirty) return;
    levels_[c.node->path.len].push_back(&c);
    for (Child& x : c.node->child) collect(x, c.node->path.len + 1u);
  }

  // Hashes the RLPs in buffer_, which end at ends_, into refs_.
  void hash_buffer() {
    jobs_.clear();
    refs_.resize(ends_.size());
    size_t at = 0;
    for (size_t i = 0; i < ends_.size(); i++) {
      const size_t size = ends_[i] - at;
      if (size < 32) {
        std::memcpy(refs_[i].b, buffer_.data() + at, size);
        refs_[i].len = static_cast<uint8_t>(size);
      } else {
        refs_[i].len = 32;
        jobs_.push_back({buffer_.data() + at, size, refs_[i].b});
      }
      at = ends_[i];
    }
    keccak_batch(jobs_);
  }

  void hash_leaves() {
    for (size_t lo = 0; lo < leaves_.size(); lo += kChunk) {
      const size_t hi = std::min(leaves_.size(), lo + kChunk);
      buffer_.clear();
      ends_.clear();
      for (size_t i = lo; i < hi; i++) {
        const Path key = Path::of(*leaves_[i].child->key);
        rlp_leaf(key.n + leaves_[i].depth, 64 - leaves_[i].depth, leaves_[i].child->value, buffer_);
        ends_.push_back(buffer_.size());
      }
      hash_buffer();
      for (size_t i = lo; i < hi; i++) {
        leaves_[i].child->ref = refs_[i - lo];
        leaves_[i].child->dirty = false;
      }
    }
  }

  void hash_level(std::vector<Child*>& level) {
    for (size_t lo = 0; lo < level.size(); lo += kChunk) {
      const size_t hi = std::min(level.size(), lo + kChunk);
      buffer_.clear();
      ends_.clear();
      for (size_t i = lo; i < hi; i++) {
        MNode& n = *level[i]->node;
        Ref refs[16];
        for (size_t k = 0; k < 16; k++)
          if (n.child[k].kind != Kind::none) refs[k] = n.child[k].ref;
        rlp_branch(refs, {}, buffer_);
        ends_.push_back(buffer_.size());
        emit(n);
        n.dirty = false;
      }
      hash_buffer();
      for (size_t i = lo; i < hi; i++) level[i]->ref = level[i]->node->own = refs_[i - lo];
    }
    buffer_.clear();
    ends_.clear();
    with_ext_.clear();
    for (Child* c : level) {
      if (c->ext_len == 0) continue;
      rlp_extension(c->ext, c->ext_len, c->node->own, buffer_);
      ends_.push_back(buffer_.size());
      with_ext_.push_back(c);
    }
    hash_buffer();
    for (size_t i = 0; i < with_ext_.size(); i++) with_ext_[i]->ref = refs_[i];
  }

  void emit(const MNode& n) {
    for (size_t i = 0; i < 16; i++) {
      const Child& c = n.child[i];
      scratch_.kind[i] = c.kind;
      if (c.kind == Kind::none) {
        scratch_.ext[i].clear();
        continue;
      }
      scratch_.ref[i] = c.ref;
      if (c.ext_len == 0)
        scratch_.ext[i].clear();
      else
        scratch_.ext[i].assign(c.ext, c.ext + c.ext_len);
    }
    encode_branch(scratch_, out_[node_key(n.owner, n.path)]);
  }

  static constexpr size_t kChunk = 128;
  const Source& source_;
  NodeMap& out_;
  const Hash* owner_ = nullptr;
  // Deques: what is in them stays where it is.
  std::deque<MNode> nodes_;
  std::deque<Bytes> bytes_;
  std::deque<Hash> hashes_;
  std::string record_;
  Branch scratch_;
  std::vector<LeafJob> leaves_;
  std::vector<Child*> levels_[65];
  std::vector<Child*> with_ext_;
  Bytes buffer_;
  std::vector<size_t> ends_;
  std::vector<Ref> refs_;
  std::vector<HashJob> jobs_;
};

// work(0) to work(shares - 1) on the process's pool of threads.
template <class F>
void each_share(unsigned shares, F&& work) {
  parallel_for(
      shares, 1,
      [&](size_t begin, size_t end) {
        for (size_t t = begin; t < end; t++) work(static_cast<unsigned>(t));
      },
      shares);
}

Hash root_hash(const Child& root) {
  if (root.kind == Kind::none) return empty_trie_root();
  if (root.ref.len == 32) return Hash::from(root.ref.b);
  return keccak(root.ref.view());
}

void finish(Forest& forest, Update& u, const Child& root) {
  forest.emit_root(u.owner, root);
  u.root = root_hash(root);
  u.changed = true;
}

// Small tries on one thread.
bool run_small(const Source& source, std::span<Update* const> updates, NodeMap& out) {
  Forest forest(source, out);
  std::vector<Child> roots(updates.size());
  std::vector<Child*> slots;
  for (size_t i = 0; i < updates.size(); i++) {
    Update& u = *updates[i];
    forest.load_root(u.owner, u.fresh, roots[i]);
    forest.apply(u.owner, roots[i], 0, u.changes);
    slots.push_back(&roots[i]);
  }
  forest.hash(slots, 0);
  for (size_t i = 0; i < updates.size(); i++) finish(forest, *updates[i], roots[i]);
  return !forest.failed;
}

void merge(NodeMap& from, NodeMap& into) {
  if (into.empty()) {
    into.swap(from);
    return;
  }
  while (!from.empty()) {
    auto done = into.insert(from.extract(from.begin()));
    if (!done.inserted) done.position->second = std::move(done.node.mapped());
  }
}

// One large trie: the sixteen subtrees of its root branch, dealt to threads by number of changes.
bool run_large(const Source& source, Update& u, unsigned threads, NodeMap& out) {
  Forest top(source, out);
  Child root;
  top.load_root(u.owner, u.fresh, root);
  if (root.kind != Kind::branch || root.ext_len != 0) {
    Update* one[] = {&u};
    return run_small(source, one, out);
  }
  std::vector<std::vector<std::pair<uint8_t, std::span<const Change>>>> dealt(threads);
  std::vector<size_t> load(threads);
  for (size_t i = 0; i < u.changes.size();) {
    const uint8_t x = u.changes[i].key.b[0] >> 4;
    size_t j = i + 1;
    while (j < u.changes.size() && u.changes[j].key.b[0] >> 4 == x) j++;
    const auto to = static_cast<size_t>(std::min_element(load.begin(), load.end()) - load.begin());
    dealt[to].push_back({x, u.changes.subspan(i, j - i)});
    load[to] += j - i;
    i = j;
  }
  std::vector<NodeMap> outs(threads);
  // Nodes of a subtree may be needed again when the root collapses: forests live until then.
  std::vector<std::unique_ptr<Forest>> forests;
  for (unsigned t = 0; t < threads; t++) forests.push_back(std::make_unique<Forest>(source, outs[t]));
  const auto work = [&](unsigned t) {
    std::vector<Child*> slots;
    for (auto& [x, range] : dealt[t]) {
      forests[t]->apply(u.owner, root.node->child[x], 1, range);
      slots.push_back(&root.node->child[x]);
    }
    forests[t]->hash(slots, 1);
  };
  each_share(threads, work);
  for (unsigned t = 0; t < threads; t++) {
    top.failed |= forests[t]->failed;
    merge(outs[t], out);
  }
  top.finish_root(u.owner, root);
  Child* slots[] = {&root};
  top.hash(slots, 0);
  finish(top, u, root);
  return !top.failed;
}

}  // namespace

std::string storage_node_prefix(const Hash& owner) {
  std::string k(1, 't');
  k.append(as_chars(owner));
  return k;
}

std::string node_key(const Hash* owner, const Path& path) {
  std::string k;
  k.reserve(2 + (owner != nullptr ? 32 : 0) + path.len / 2 + 1u);
  if (owner == nullptr) {
    k.push_back('T');
  } else {
    k.push_back('t');
    k.append(reinterpret_cast<const char*>(owner->b), 32);
  }
  k.push_back(static_cast<char>(path.len));
  for (size_t i = 0; i < path.len; i += 2) k.push_back(static_cast<char>(path.n[i] << 4 | (i + 1 < path.len ? path.n[i + 1] : 0)));
  return k;
}

bool update_tries(const Source& source, std::span<Update> updates, unsigned threads, NodeMap& out) {
  // Below this a thread costs more than it saves.
  constexpr size_t kWorthThreads = 256;
  bool ok = true;
  std::vector<Update*> small;
  size_t changes = 0;
  for (Update& u : updates) {
    if (u.changes.empty() && !u.fresh) continue;
    if (threads > 1 && u.changes.size() >= kWorthThreads) {
      ok &= run_large(source, u, threads, out);
    } else {
      small.push_back(&u);
      changes += u.changes.size();
    }
  }
  if (small.empty()) return ok;
  if (threads < 2 || changes < kWorthThreads) return run_small(source, small, out) && ok;
  // Consecutive shares of about equal work.
  std::vector<NodeMap> outs(threads);
  std::vector<char> good(threads, 1);
  std::vector<std::span<Update* const>> shares;
  size_t at = 0, done = 0;
  for (unsigned t = 0; t < threads; t++) {
    const size_t begin = at;
    while (at < small.size() && (t + 1 == threads || done < changes * (t + 1) / threads)) done += small[at++]->changes.size();
    shares.push_back(std::span<Update* const>(small).subspan(begin, at - begin));
  }
  each_share(threads, [&](unsigned t) { good[t] = run_small(source, shares[t], outs[t]) ? 1 : 0; });
  for (unsigned t = 0; t < threads; t++) {
    ok &= good[t] != 0;
    merge(outs[t], out);
  }
  return ok;
}

bool prove(const Source& source, const Hash* owner, const Hash& key, std::vector<Bytes>& nodes) {
  const Path path = Path::of(key);
  Path at;
  std::string record;
  if (!source.node(owner, at, record) || record.empty()) return true;  // the empty trie
  Kind kind = Kind::branch;
  Bytes ext;
  if (is_stub(record)) {
    Stub s;
    if (!decode_stub(record, s)) return false;
    kind = s.kind;
    ext = s.ext;
  }
  Branch b;
  // Embedded nodes are inside their parent already; the root never is.
  const auto add = [&](Bytes&& rlp) {
    if (rlp.size() >= 32 || nodes.empty()) nodes.push_back(std::move(rlp));
  };
  for (;;) {
    if (kind == Kind::leaf) {
      Hash found;
      Bytes value, rlp;
      if (!source.leaf(owner, at, found, value)) return false;
      const Path full = Path::of(found);
      rlp_leaf(full.n + at.len, 64u - at.len, value, rlp);
      add(std::move(rlp));
      return true;
    }
    const size_t depth = at.len;
    for (const uint8_t x : ext) at.push(x);
    if (!source.node(owner, at, record) || !decode_branch(record, b)) return false;
    Ref refs[16];
    for (size_t i = 0; i < 16; i++)
      if (b.kind[i] != Kind::none) refs[i] = b.ref[i];
    Bytes rlp;
    rlp_branch(refs, {}, rlp);
    if (!ext.empty()) {
      Bytes between;
      rlp_extension(ext.data(), ext.size(), ref_of(rlp), between);
      add(std::move(between));
      if (std::memcmp(ext.data(), path.n + depth, ext.size()) != 0) return true;  // it leaves here
    }
    add(std::move(rlp));
    const uint8_t x = path.n[at.len];
    if (b.kind[x] == Kind::none) return true;
    kind = b.kind[x];
    ext = b.ext[x];
    at.push(x);
  }
}

}  // namespace zg::trie
