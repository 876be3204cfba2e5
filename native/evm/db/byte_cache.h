// A bounded cache from short keys to short values, in shards, for readers of several versions at once.
//
// Each value is good from version `since` up to the shard's version. A commit raises every shard's version and replaces what it changed;
// a reader uses a value only when its own version is not older than `since`, and may add one only when the shard has not moved on past
// it. So nothing stale is ever served and readers never wait for a commit as a whole.
#pragma once

#include <cstdlib>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/types.h"

namespace zg {

class ByteCache {
 public:
  explicit ByteCache(size_t budget_bytes) : shards_(kShards) {
    for (Shard& s : shards_) s.budget = budget_bytes / kShards;
  }
  ~ByteCache() { clear(0); }
  ByteCache(const ByteCache&) = delete;
  ByteCache& operator=(const ByteCache&) = delete;

  // The value at `version`; false when it is not known here.
  bool get(std::string_view key, uint64_t version, std::string& value) {
    const uint64_t h = hash(key);
    Shard& s = shards_[h >> 58];
    const std::lock_guard lock(s.mutex);
    Entry* e = s.find(key, h);
    if (e == nullptr || e->since > version) return false;
    e->used = true;
    value.assign(e->bytes() + e->key_size, e->value_size);
    return true;
  }

  // A value that a reader at `version` found on disk.
  void add(std::string_view key, uint64_t version, std::string_view value) {
    const uint64_t h = hash(key);
    Shard& s = shards_[h >> 58];
    const std::lock_guard lock(s.mutex);
    if (s.version != version || s.find(key, h) != nullptr) return;
    s.insert(key, h, version, value);
  }

  // A commit: first raise, then put what changed, then publish the version to readers.
  void raise(uint64_t version) {
    for (Shard& s : shards_) {
      const std::lock_guard lock(s.mutex);
      s.version = version;
    }
  }
  void put(std::string_view key, uint64_t version, std::string_view value) {
    const uint64_t h = hash(key);
    Shard& s = shards_[h >> 58];
    const std::lock_guard lock(s.mutex);
    s.erase(key, h);
    s.insert(key, h, version, value);
  }
  void erase(std::string_view key) {
    const uint64_t h = hash(key);
    Shard& s = shards_[h >> 58];
    const std::lock_guard lock(s.mutex);
    s.erase(key, h);
  }
  // Of the entries, with what the allocator and the table add.
  [[nodiscard]] size_t bytes() {
    size_t sum = 0;
    for (Shard& s : shards_) {
      const std::lock_guard lock(s.mutex);
      sum += s.bytes;
    }
    return sum;
  }
  // Forgets all, and goes on at `version`.
  void clear(uint64_t version) {
    for (Shard& s : shards_) {
      const std::lock_guard lock(s.mutex);
      for (Entry* e : s.table) std::free(e);
      s.table.clear();
      s.count = s.bytes = s.hand = 0;
      s.version = version;
    }
  }

 private:
  static constexpr size_t kShards = 64;
  static constexpr size_t kOverhead = 16 + 12;  // of the allocator, and of the table at its usual load

  struct Entry {
    uint64_t since;
    uint32_t tag;  // low bits of the hash: place in the table, and a quick no
    uint32_t value_size;
    uint16_t key_size;
    bool used;
    char* bytes() { return reinterpret_cast<char*>(this + 1); }
  };

  static uint64_t hash(std::string_view key) noexcept {
    uint64_t h = key.size();
    size_t i = 0;
    for (; i + 8 <= key.size(); i += 8) h = mix64(h ^ load64(reinterpret_cast<const uint8_t*>(key.data()) + i));
    uint64_t tail = 0;
    if (i < key.size()) std::memcpy(&tail, key.data() + i, key.size() - i);
    return mix64(mix64(h ^ tail));
  }

  struct Shard {
    std::mutex mutex;
    std::vector<Entry*> table;  // open addressing, a power of two, at most 3/4 full
    size_t count = 0, bytes = 0, budget = 0, hand = 0;
    uint64_t version = 0;

    static size_t cost(const Entry* e) { return sizeof(Entry) + e->key_size + e->value_size + kOverhead; }

    size_t place(std::string_view key, uint64_t h) {
      const size_t mask = table.size() - 1;
      size_t i = h & mask;
      for (; table[i] != nullptr; i = (i + 1) & mask) {
        Entry* e = table[i];
        if (e->tag == static_cast<uint32_t>(h) && std::string_view(e->bytes(), e->key_size) == key) break;
      }
      return i;
    }
    Entry* find(std::string_view key, uint64_t h) { return table.empty() ? nullptr : table[place(key, h)]; }

    void insert(std::string_view key, uint64_t h, uint64_t since, std::string_view value) {
      const size_t size = sizeof(Entry) + key.size() + value.size();
      if (size + kOverhead > budget) return;
      while (bytes + size + kOverhead > budget && count > 0) evict();
      if (4 * (count + 1) > 3 * table.size()) grow();
      auto* e = static_cast<Entry*>(std::malloc(size));
      if (e == nullptr) return;
      *e = {since, static_cast<uint32_t>(h), static_cast<uint32_t>(value.size()), static_cast<uint16_t>(key.size()), false};
      std::memcpy(e->bytes(), key.data(), key.size());
      if (!value.empty()) std::memcpy(e->bytes() + key.size(), value.data(), value.size());
      table[place(key, h)] = e;
      count++;
      bytes += cost(e);
    }
    void erase(std::string_view key, uint64_t h) {
      if (table.empty()) return;
      const size_t i = place(key, h);
      if (table[i] != nullptr) remove(i);
    }
    // Takes the entry out and closes the gap, so that searches still end at the first empty place.
    void remove(size_t i) {
      const size_t mask = table.size() - 1;
      bytes -= cost(table[i]);
      count--;
      std::free(table[i]);
      table[i] = nullptr;
      for (size_t j = (i + 1) & mask; table[j] != nullptr; j = (j + 1) & mask) {
        const size_t home = table[j]->tag & mask;
        if (((j - home) & mask) >= ((j - i) & mask)) {
          table[i] = table[j];
          table[j] = nullptr;
          i = j;
        }
      }
    }
    // The clock: an entry that was used since the hand came by last gets another turn.
    void evict() {
      for (;;) {
        hand = (hand + 1) & (table.size() - 1);
        Entry* e = table[hand];
        if (e == nullptr) continue;
        if (e->used) {
          e->used = false;
          continue;
        }
        remove(hand);
        return;
      }
    }
    void grow() {
      std::vector<Entry*> old(table.empty() ? 64 : 2 * table.size(), nullptr);
      old.swap(table);
      const size_t mask = table.size() - 1;
      for (Entry* e : old) {
        if (e == nullptr) continue;
        size_t i = e->tag & mask;
        while (table[i] != nullptr) i = (i + 1) & mask;
        table[i] = e;
      }
      hand = 0;
    }
  };

  std::vector<Shard> shards_;
};

}  // namespace zg
