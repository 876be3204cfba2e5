// The chain's state on disk and above it (chain.md 6.1).
//
//   disk    flat values: account and slot by hashed key, one look-up     trie nodes by path     history: what each version changed
//   memory  layers, one for each block that is not durable yet, each on the one before     caches of hot accounts, slots, upper trie nodes
//
// A *version* counts changes of the durable state: each committed block is one, and so is each development write. The history keeps for
// each version the values before it, by key and version; a read at an old version finds the first change after it (one seek) or the
// present value. Tries exist for the present only; a proof or a root of the past is made by undoing history in memory, up to a bound.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/types.h"
#include "db/kv.h"
#include "state/diff.h"
#include "state/reader.h"

namespace zg {

struct AccountProof {
  bool exists = false;
  AccountData account;
  Hash storage_root{};
  std::vector<Bytes> nodes;  // from the root down
  struct SlotProof {
    U256 key, value;
    std::vector<Bytes> nodes;
  };
  std::vector<SlotProof> slots;
};

// State at one point: a reader that also knows its root.
class StateView : public StateReader {
 public:
  [[nodiscard]] virtual const Hash& root() const = 0;
  // Of the durable version under or at it.
  [[nodiscard]] virtual uint64_t version() const = 0;
  virtual bool storage_root(const Address& address, Hash& out) const = 0;
  // False when the history needed for it is beyond the bound or pruned; `message` says so.
  virtual bool proof(const Address& address, std::span<const U256> slots, AccountProof& out, std::string& message) const = 0;
  // Accounts in order of hashed address, from `start` (a hash); false from `fn` ends it. False: not of this view (a layer).
  virtual bool each_account(const Hash& start, const std::function<bool(const Hash& address_hash, const Bytes& preimage, const AccountData& account)>& fn) const = 0;
  virtual bool each_slot(const Address& address, const Hash& start, const std::function<bool(const Hash& slot_hash, const Bytes& preimage, const U256& value)>& fn) const = 0;
};

// A block's change on its parent, root computed, not durable yet. Is itself a view.
class StateLayer;

// Views and layers stand on the KvStore: let them go before it.
class StateStore {
 public:
  struct Options {
    bool archive = true;                 // keep history for ever; else the last `history` versions and what prepare() names
    uint64_t history = 128;
    uint64_t proof_window = 10'000;      // versions back for which proofs are made
    size_t cache_bytes = 96u << 20;
    bool preimages = true;               // keep addresses and slots by hash (dumps, accountRange)
    unsigned threads = 2;                // for roots
  };
  // False: the store is damaged; message says what.
  static bool open(KvStore& kv, const Options& options, std::unique_ptr<StateStore>& out, std::string& message);
  virtual ~StateStore() = default;

  // The durable head. An empty store has the empty root and version 0.
  [[nodiscard]] virtual std::shared_ptr<const StateView> head() const = 0;
  // After version v; null when pruned or beyond the head.
  [[nodiscard]] virtual std::shared_ptr<const StateView> at(uint64_t version) const = 0;

  // The state after `diff` on `parent` (the head, or a layer on it): computes the root. Thread safe; touches nothing durable. Null when
  // the parent was undone, or is too far behind the head for its tries to be made.
  virtual std::shared_ptr<StateLayer> apply(std::shared_ptr<const StateView> parent, StateDiff diff) = 0;
  // Puts everything of a layer that stands directly on the durable head into a batch. The caller writes the batch with sync together with its own entries.
  // The state after `keep_from` and later ones stay readable: development writes are versions too, so a number of blocks is a larger one of versions.
  virtual void prepare(const StateLayer& layer, KvBatch& batch, uint64_t keep_from = UINT64_MAX) = 0;
  // The batch is durable: the layer is the head now, version + 1.
  virtual void committed(const std::shared_ptr<StateLayer>& layer) = 0;
  // Undo: a batch that takes the durable state back to after `version`, and then `reverted`. False when history is missing.
  virtual bool prepare_revert(uint64_t version, KvBatch& batch, std::string& message) = 0;
  virtual void reverted() = 0;
  // Bytes in memory: the caches, and nodes of tries that are newer than the disk.
  struct Memory {
    size_t accounts = 0, slots = 0, nodes = 0, dirty = 0;
  };
  [[nodiscard]] virtual Memory memory() const = 0;
  // Recomputes the root from flat values alone: scrub after a crash, tests.
  virtual Hash recompute_root() const = 0;
};

const StateView& view_of(const StateLayer& layer);
std::shared_ptr<const StateView> as_view(const std::shared_ptr<StateLayer>& layer);

}  // namespace zg
