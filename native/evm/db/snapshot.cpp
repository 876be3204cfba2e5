#include "db/snapshot.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <deque>
#include <unordered_set>

#include "db/state_core.h"

namespace zg {

using namespace db;

namespace {

constexpr std::string_view kMagic = "zg snapshot 1\n";
constexpr size_t kChunkBytes = 256u << 10;
// The largest entry is a code; development may have larger ones than the chain allows.
constexpr size_t kChunkBytesMax = 64u << 20;
constexpr size_t kTrieStep = 20'000;

struct Sum {
  uint8_t b[8] = {};
  void next(uint8_t kind, std::string_view payload) {
    Bytes all(b, b + 8);
    all.push_back(kind);
    for (int i = 0; i < 4; i++) all.push_back(static_cast<uint8_t>(payload.size() >> (8 * i)));
    all.insert(all.end(), payload.begin(), payload.end());
    const Hash h = keccak(all);
    std::memcpy(b, h.b, 8);
  }
};

struct Closer {
  void operator()(FILE* f) const { std::fclose(f); }
};
using File = std::unique_ptr<FILE, Closer>;

class Writer {
 public:
  explicit Writer(FILE* f) : f_(f) { ok_ = std::fwrite(kMagic.data(), 1, kMagic.size(), f_) == kMagic.size(); }
  void chunk(uint8_t kind, std::string_view payload) {
    sum_.next(kind, payload);
    char head[5] = {static_cast<char>(kind)};
    for (int i = 0; i < 4; i++) head[1 + i] = static_cast<char>(payload.size() >> (8 * i));
    ok_ = ok_ && std::fwrite(head, 1, 5, f_) == 5 && std::fwrite(payload.data(), 1, payload.size(), f_) == payload.size() &&
          std::fwrite(sum_.b, 1, 8, f_) == 8;
  }
  void entry(std::string_view key, std::string_view value) {
    append_varint(buffer_, key.size());
    buffer_.append(key);
    append_varint(buffer_, value.size());
    buffer_.append(value);
    entries_++;
    if (buffer_.size() >= kChunkBytes) flush();
  }
  bool finish() {
    flush();
    std::string end;
    for (int i = 0; i < 8; i++) end.push_back(static_cast<char>(entries_ >> (8 * i)));
    chunk('E', end);
    return ok_ && std::fflush(f_) == 0 && ::fsync(fileno(f_)) == 0;
  }
  [[nodiscard]] bool ok() const { return ok_; }

 private:
  void flush() {
    if (!buffer_.empty()) chunk('K', buffer_);
    buffer_.clear();
  }
  FILE* f_;
  bool ok_ = true;
  Sum sum_;
  std::string buffer_;
  uint64_t entries_ = 0;
};

// The tries of a store whose flat values are there and whose keys were added in order so far.
class Rebuilt final : public trie::Source {
 public:
  explicit Rebuilt(KvStore& kv) : kv_(kv) {}
  bool node(const Hash* owner, const trie::Path& path, std::string& record) const override { return kv_.get(trie::node_key(owner, path), record); }
  // The first key with the prefix: those that are not added yet come behind it.
  bool leaf(const Hash* owner, const trie::Path& prefix, Hash& key, Bytes& value) const override {
    Hash lo{};
    for (size_t i = 0; i < prefix.len; i++) lo.b[i / 2] = static_cast<uint8_t>(lo.b[i / 2] | prefix.n[i] << ((i & 1) != 0 ? 0 : 4));
    std::string from = owner == nullptr ? std::string("a") : key1('s', *owner);
    const size_t head = from.size();
    append(from, lo);
    const auto it = kv_.iterator();
    it->seek(from);
    if (!it->valid() || it->key().size() != from.size() || it->key().substr(0, head) != std::string_view(from).substr(0, head)) return false;
    key = hash_at(it->key(), head);
    value.clear();
    return leaf_value(owner != nullptr, it->value(), value);
  }
  static bool leaf_value(bool slot, std::string_view record, Bytes& out) {
    if (slot) {
      U256 x;
      if (!decode_slot(record, x) || x.is_zero()) return false;
      rlp_number(x, out);
      return true;
    }
    Record r;
    if (!decode_account(record, r)) return false;
    rlp_account(r, out);
    return true;
  }

 private:
  KvStore& kv_;
};

// Adds one trie's leaves in steps, which come in order.
class TrieLoader {
 public:
  TrieLoader(KvStore& kv, const Hash* owner) : kv_(kv), owner_(owner), source_(kv) {}
  bool add(const Hash& key, std::string_view record) {
    values_.emplace_back();
    if (!Rebuilt::leaf_value(owner_ != nullptr, record, values_.back())) return false;
    changes_.push_back({key, false, values_.back()});
    return changes_.size() < kTrieStep || flush();
  }
  bool flush() {
    if (changes_.empty()) return true;
    trie::Update u;
    u.owner = owner_;
    u.changes = changes_;
    u.fresh = first_;
    trie::NodeMap nodes;
    if (!trie::update_tries(source_, {&u, 1}, 1, nodes)) return false;
    first_ = false;
    root = u.root;
    const auto batch = kv_.batch();
    for (const auto& [key, record] : nodes) {
      if (record.empty())
        batch->del(key);
      else
        batch->put(key, record);
    }
    std::string message;
    changes_.clear();
    values_.clear();
    return kv_.write(*batch, false, message);
  }
  Hash root = empty_trie_root();

 private:
  KvStore& kv_;
  const Hash* owner_;
  Rebuilt source_;
  bool first_ = true;
  std::vector<trie::Change> changes_;
  std::deque<Bytes> values_;
};

bool rebuild(KvStore& kv, LoadedSnapshot& out, std::string& message) {
  const auto accounts = kv.iterator(nullptr, false);
  const auto slots = kv.iterator(nullptr, false);
  TrieLoader all(kv, nullptr);
  Record r;
  std::string code;
  for (accounts->seek("a"); accounts->valid() && accounts->key()[0] == 'a'; accounts->next()) {
    const Hash owner = hash_at(accounts->key(), 1);
    if (!decode_account(accounts->value(), r)) {
      message = "an account's record is malformed";
      return false;
    }
    if (r.data.code_hash != empty_code_hash() && !kv.get(key1('c', r.data.code_hash), code)) {
      message = "the code of an account is missing";
      return false;
    }
    TrieLoader storage(kv, &owner);
    const std::string prefix = key1('s', owner);
    bool ok = true;
    for (slots->seek(prefix); ok && slots->valid() && slots->key().starts_with(prefix); slots->next()) ok = storage.add(hash_at(slots->key(), 33), slots->value());
    if (!ok || !storage.flush() || storage.root != r.storage_root) {
      message = "an account's slots do not come to its storage root";
      return false;
    }
    if (!all.add(owner, accounts->value())) {
      message = "the tries cannot be made";
      return false;
    }
  }
  if (!all.flush() || all.root != out.root) {
    message = "the accounts do not come to the stated root";
    return false;
  }
  return true;
}

// One entry of a K chunk into the batch.
bool take(std::string_view key, std::string_view value, KvBatch& batch, LoadedSnapshot& out) {
  if (key.size() == 33 && key[0] == 'a') {
    out.accounts++;
  } else if (key.size() == 65 && key[0] == 's') {
    out.slots++;
  } else if (key.size() == 33 && key[0] == 'c') {
    if (keccak(as_bytes(value)) != hash_at(key, 1)) return false;
    out.codes++;
  } else if (!((value.size() == 20 || value.size() == 32) && key.size() == 33 && key[0] == 'p' && keccak(as_bytes(value)) == hash_at(key, 1))) {
    return false;
  }
  batch.put(key, value);
  return true;
}

}  // namespace

bool save_snapshot(KvStore& kv, const StateView& view, ByteView header, const std::string& path, std::string& message) {
  const auto& any = static_cast<const View&>(view);
  if (any.kind != ViewKind::head) {
    message = "only the present state can be saved";
    return false;
  }
  const auto* at = static_cast<const HeadView&>(any).snapshot.get();
  const std::string part = path + ".part";
  File f(std::fopen(part.c_str(), "wb"));
  const auto fail = [&] {
    message = "cannot write '" + path + "': " + std::strerror(errno);
    f.reset();
    std::remove(part.c_str());
    return false;
  };
  if (!f) return fail();
  Writer w(f.get());
  std::string head;
  append(head, view.root());
  head.append(as_chars(header));
  w.chunk('H', head);
  std::unordered_set<Hash, HashHasher> codes;
  std::string value;
  Record r;
  const auto it = kv.iterator(at, false);
  for (const char kind : {'a', 's', 'p'}) {
    for (it->seek({&kind, 1}); it->valid() && it->key()[0] == kind && w.ok(); it->next()) {
      w.entry(it->key(), it->value());
      if (kind != 'a' || !decode_account(it->value(), r) || r.data.code_hash == empty_code_hash()) continue;
      if (!codes.insert(r.data.code_hash).second) continue;
      const std::string key = key1('c', r.data.code_hash);
      if (!kv.get(key, value, at)) fatal("an account's code is missing");
      w.entry(key, value);
    }
  }
  if (!w.finish()) return fail();
  f.reset();
  if (std::rename(part.c_str(), path.c_str()) != 0) return fail();
  return true;
}

bool load_snapshot(const std::string& path, KvStore& kv, LoadedSnapshot& out, std::string& message) {
  out = LoadedSnapshot{};
  {
    const auto it = kv.iterator();
    for (const char kind : {'S', 'a', 's', 'T', 't', 'k'}) {
      it->seek({&kind, 1});
      if (it->valid() && it->key()[0] == kind) {
        message = "the store is not empty";
        return false;
      }
    }
  }
  File f(std::fopen(path.c_str(), "rb"));
  if (!f) {
    message = "cannot read '" + path + "': " + std::strerror(errno);
    return false;
  }
  message = "the snapshot '" + path + "' is damaged or cut off";
  char magic[14];
  if (std::fread(magic, 1, sizeof magic, f.get()) != sizeof magic || std::string_view(magic, sizeof magic) != kMagic) return false;
  Sum sum;
  std::string payload;
  uint64_t entries = 0;
  for (bool first = true;; first = false) {
    uint8_t head[5];
    if (std::fread(head, 1, 5, f.get()) != 5) return false;
    const size_t size = head[1] | static_cast<size_t>(head[2]) << 8 | static_cast<size_t>(head[3]) << 16 | static_cast<size_t>(head[4]) << 24;
    if (size > kChunkBytesMax || (head[0] == 'H') != first) return false;
    // As much as the file has, not as much as it says.
    payload.clear();
    while (payload.size() < size) {
      const size_t old = payload.size(), more = std::min<size_t>(size - old, 1u << 20);
      payload.resize(old + more);
      if (std::fread(payload.data() + old, 1, more, f.get()) != more) return false;
    }
    uint8_t stated[8];
    sum.next(head[0], payload);
    if (std::fread(stated, 1, 8, f.get()) != 8 || std::memcmp(stated, sum.b, 8) != 0) return false;
    if (head[0] == 'H') {
      if (size < 32) return false;
      out.root = hash_at(payload, 0);
      out.header.assign(payload.begin() + 32, payload.end());
    } else if (head[0] == 'K') {
      const auto batch = kv.batch();
      for (std::string_view in(payload); !in.empty();) {
        uint64_t n = 0, m = 0;
        if (!read_varint(in, n) || n > in.size()) return false;
        const std::string_view key = in.substr(0, n);
        in.remove_prefix(n);
        if (!read_varint(in, m) || m > in.size() || !take(key, in.substr(0, m), *batch, out)) return false;
        in.remove_prefix(m);
        entries++;
      }
      if (!kv.write(*batch, false, message)) return false;
    } else if (head[0] == 'E') {
      if (size != 8) return false;
      uint64_t stated_entries = 0;
      for (size_t i = 8; i-- > 0;) stated_entries = stated_entries << 8 | static_cast<uint8_t>(payload[i]);
      if (stated_entries != entries || std::fgetc(f.get()) != EOF) return false;
      break;
    } else {
      return false;
    }
  }
  if (!rebuild(kv, out, message)) return false;
  const auto batch = kv.batch();
  put_first_head(*batch, out.root);
  message.clear();
  return kv.write(*batch, true, message);
}

}  // namespace zg
