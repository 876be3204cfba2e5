// The parts of the state store that its views share (state_store.h says what it is; records.h where things lie).
//
// The trie on disk may be older than the flat values: changed nodes gather in memory (`dirty`) and are written with a commit when they
// are many, so that an idle block writes no nodes at all. After a crash the tries are brought up to the flat state by the history.
//
// Locks: `tries` is held shared by whoever reads or updates tries, and alone for the moment in which a commit moves its nodes in;
// `head_mutex` guards only the pointer. Flat reads take neither.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <shared_mutex>

#include "db/byte_cache.h"
#include "db/records.h"
#include "db/state_store.h"
#include "trie/state_trie.h"

namespace zg::db {

class HeadView;

struct Core {
  Core(KvStore& store, const StateStore::Options& o)
      : kv(store), options(o), accounts(o.cache_bytes / 4), slots(o.cache_bytes / 4), nodes(o.cache_bytes / 2) {}

  KvStore& kv;
  const StateStore::Options options;
  ByteCache accounts;  // address → record; empty: no such account
  ByteCache slots;     // address ‖ slot → value; empty: zero
  ByteCache nodes;     // database key → record; empty: none

  mutable std::shared_mutex tries;
  trie::NodeMap dirty;           // newer than the disk; empty: deleted
  size_t dirty_bytes = 0;
  uint64_t trie_version = 0;     // of the nodes on disk
  std::atomic<uint64_t> oldest = 0;  // first version whose state can be read
  // Versions come again after an undoing; caches and views go by stamps, which only grow, and by the number of undoings.
  std::atomic<uint64_t> stamp = 0;
  std::atomic<uint64_t> epoch = 0;

  [[nodiscard]] std::shared_ptr<const HeadView> head() const {
    const std::lock_guard lock(head_mutex);
    return current;
  }
  void publish(std::shared_ptr<const HeadView> view) {
    {
      const std::lock_guard lock(head_mutex);
      current.swap(view);
    }
    // The old one is let go here, outside of the lock.
  }

 private:
  mutable std::mutex head_mutex;
  std::shared_ptr<const HeadView> current;
};

// The head of a store that begins with a whole state: version 1, without a past.
void put_first_head(KvBatch& batch, const Hash& root);

// Says what is wrong and stops the process: the store is damaged in a way that no answer may be built on.
[[noreturn]] void fatal(const char* what);

enum class ViewKind : uint8_t { head, history, layer };

class View : public StateView {
 public:
  View(std::shared_ptr<Core> core, ViewKind k) : core_(std::move(core)), kind(k) {}
  virtual bool record(const Address& address, Record& out) const = 0;
  bool account(const Address& address, AccountData& out) const override;
  bool storage_root(const Address& address, Hash& out) const override;
  bool has_storage(const Address& address) const override;
  std::shared_ptr<const Code> code(const Hash& code_hash) const override;
  bool proof(const Address& address, std::span<const U256> slots, AccountProof& out, std::string& message) const override;
  bool each_account(const Hash&, const std::function<bool(const Hash&, const Bytes&, const AccountData&)>&) const override { return false; }
  bool each_slot(const Address&, const Hash&, const std::function<bool(const Hash&, const Bytes&, const U256&)>&) const override { return false; }

 protected:
  std::shared_ptr<Core> core_;

 public:
  const ViewKind kind;
};

// The durable state after a version: a snapshot of the database, and the caches.
class HeadView final : public View {
 public:
  HeadView(std::shared_ptr<Core> core, uint64_t version, const Hash& root)
      : View(std::move(core), ViewKind::head), version_(version), root_(root), stamp_(core_->stamp), epoch(core_->epoch), snapshot(core_->kv.snapshot()) {}
  bool record(const Address& address, Record& out) const override;
  U256 storage(const Address& address, const U256& slot) const override;
  [[nodiscard]] const Hash& root() const override { return root_; }
  [[nodiscard]] uint64_t version() const override { return version_; }
  bool each_account(const Hash& start, const std::function<bool(const Hash&, const Bytes&, const AccountData&)>& fn) const override;
  bool each_slot(const Address& address, const Hash& start, const std::function<bool(const Hash&, const Bytes&, const U256&)>& fn) const override;
  // Straight from the database, by hash.
  bool record_by_hash(const Hash& account, Record& out) const;
  [[nodiscard]] U256 slot_by_hash(const Hash& account, const Hash& slot) const;

 private:
  const uint64_t version_;
  const Hash root_;
  const uint64_t stamp_;

 public:
  const uint64_t epoch;
  const std::shared_ptr<const KvSnapshot> snapshot;
};

// The state after an older version: the first change behind it, or the value of a head.
class HistoryView final : public View {
 public:
  HistoryView(std::shared_ptr<Core> core, uint64_t version, const Hash& root, std::shared_ptr<const HeadView> head)
      : View(std::move(core), ViewKind::history), version_(version), root_(root), head_(std::move(head)) {}
  bool record(const Address& address, Record& out) const override;
  U256 storage(const Address& address, const U256& slot) const override;
  [[nodiscard]] const Hash& root() const override { return root_; }
  [[nodiscard]] uint64_t version() const override { return version_; }
  [[nodiscard]] uint64_t epoch() const { return head_->epoch; }
  bool each_account(const Hash& start, const std::function<bool(const Hash&, const Bytes&, const AccountData&)>& fn) const override;
  bool each_slot(const Address& address, const Hash& start, const std::function<bool(const Hash&, const Bytes&, const U256&)>& fn) const override;

 private:
  // Keys prefix ‖ hash with their values at the version, by hash from `start`.
  void each_key(const std::string& prefix, const Hash& start, const std::function<bool(const Hash&, std::string_view)>& fn) const;
  // The value of a key; false: unchanged since, ask the head.
  bool before(const std::string& key, std::string& value) const;
  const uint64_t version_;
  const Hash root_;
  const std::shared_ptr<const HeadView> head_;
  // Making an iterator costs more than a seek: they are lent.
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<KvIterator>> free_;
};

// What a version's undoing brings back, by hash; sorted, for the tries.
struct Undo {
  uint64_t version = 0;       // the state this leads to
  uint64_t from = 0;          // the head it starts at
  Hash root{};
  std::map<Hash, std::optional<Record>> accounts;
  std::map<Hash, std::map<Hash, U256>> slots;
  trie::NodeMap nodes;        // of the tries there, where they differ
  size_t keys = 0;
};
// Gathers the values of `version` that differ from `head`. False: history is missing, or more than `max_keys`.
bool gather_undo(const Core& core, const HeadView& head, uint64_t version, size_t max_keys, Undo& out, std::string& message);
// Makes the tries of that state over those in memory and on disk, which must be at `head`; the lock is held.
bool undo_tries(Core& core, const HeadView& head, Undo& undo, std::string& message);

// Tries of a view: its layers, the undoing if its base is not the head, then memory and disk. Valid while the lock is held.
class TrieReader final : public trie::Source {
 public:
  TrieReader(Core& core, const HeadView& head) : core_(core), head_(head) {}
  bool node(const Hash* owner, const trie::Path& path, std::string& record) const override;
  bool leaf(const Hash* owner, const trie::Path& prefix, Hash& key, Bytes& value) const override;
  bool record_by_hash(const Hash& account, Record& out) const;
  [[nodiscard]] U256 slot_by_hash(const Hash& account, const Hash& slot) const;
  // Newest first; kept alive by `holds`.
  std::vector<const StateLayer*> layers;
  const Undo* undo = nullptr;
  std::vector<std::shared_ptr<const StateView>> holds;

 private:
  Core& core_;
  const HeadView& head_;
};

// Fills `reader` for `view`; makes an undoing in `undo` when its base is not the present head. Held lock as above.
bool bind_reader(Core& core, const HeadView& head, const View& view, TrieReader& reader, std::unique_ptr<Undo>& undo, std::string& message);

}  // namespace zg::db

namespace zg {

class StateLayer final : public db::View {
 public:
  struct SlotAt {
    Hash hash;
    uint32_t index;
  };
  StateLayer(std::shared_ptr<db::Core> core, std::shared_ptr<const StateView> parent, StateDiff d);

  bool record(const Address& address, db::Record& out) const override;
  U256 storage(const Address& address, const U256& slot) const override;
  std::shared_ptr<const Code> code(const Hash& code_hash) const override;
  [[nodiscard]] const Hash& root() const override { return root_; }
  [[nodiscard]] uint64_t version() const override { return parent()->version(); }

  // The state below; once the layer is durable, a head view of the state itself.
  [[nodiscard]] std::shared_ptr<const StateView> parent() const {
    const std::lock_guard lock(mutex_);
    return parent_;
  }
  [[nodiscard]] bool durable() const { return durable_.load(std::memory_order_acquire); }
  void settle(std::shared_ptr<const StateView> head);
  [[nodiscard]] const AccountChange* find(const Address& address) const noexcept;
  [[nodiscard]] const AccountChange* find_hash(const Hash& hash, uint32_t& index) const noexcept;
  // All slots of before are gone.
  [[nodiscard]] bool cleared(uint32_t index) const noexcept { return diff.accounts[index].storage_cleared || !diff.accounts[index].exists; }

  const StateDiff diff;
  Hash root_{};
  std::vector<Hash> hashes;                    // of the addresses, in the order of the diff
  std::vector<uint32_t> by_hash;               // indices, sorted by hash
  std::vector<std::vector<SlotAt>> slots;      // of each account, sorted by hash
  std::vector<Hash> roots, roots_before;       // storage roots
  trie::NodeMap nodes;

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const StateView> parent_;
  std::atomic<bool> durable_ = false;
  std::vector<uint32_t> table_;  // address → index + 1
};

}  // namespace zg
