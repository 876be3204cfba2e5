// Tables of a vocabulary: the bytes of all pieces one behind the other, ids by bytes, and merges by pair. Open addressing with
// linear probing, at most three quarters full; built once, then only read.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace zg {

inline uint64_t mix(uint64_t h) {
  h ^= h >> 32;
  h *= 0xd6e8feb86659fd93ull;
  h ^= h >> 32;
  return h;
}

// Salted so that a file cannot be made whose pieces all collide.
inline uint64_t hash_bytes(std::string_view s, uint64_t salt) {
  uint64_t h = salt ^ (s.size() * 0x9e3779b97f4a7c15ull);
  const char* p = s.data();
  size_t n = s.size();
  for (; n >= 8; p += 8, n -= 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    h = mix(h ^ word) + salt;
  }
  uint64_t word = 0;
  if (n > 0) std::memcpy(&word, p, n);
  return mix(h ^ word);
}

// A salt of this process.
uint64_t process_salt() noexcept;

// The bytes that each id stands for.
class Pieces {
 public:
  void reserve(size_t count, size_t bytes) {
    starts_.reserve(count + 1);
    bytes_.reserve(bytes);
  }
  void add(std::string_view piece) {
    bytes_.append(piece);
    starts_.push_back(static_cast<uint32_t>(bytes_.size()));
  }
  std::string_view at(size_t id) const {
    return std::string_view(bytes_).substr(starts_[id], starts_[id + 1] - starts_[id]);
  }
  size_t count() const { return starts_.size() - 1; }
  // Bytes lie in the order of ids: where these are is known only with their start.
  void fetch(size_t id) const { __builtin_prefetch(bytes_.data() + starts_[id]); }

 private:
  std::string bytes_;
  // count + 1 offsets.
  std::vector<uint32_t> starts_ = {0};
};

class PieceTable {
 public:
  PieceTable(const Pieces& pieces) : pieces_(pieces), salt_(process_salt()) {}

  void reserve(size_t count) {
    size_t size = 16;
    while (size * 3 / 4 < count + 1) size *= 2;
    slots_.assign(size, {0, -1});
    mask_ = size - 1;
  }
  // At most as many as reserved. Of equal pieces the last one counts.
  void put(int32_t id) {
    const std::string_view piece = pieces_.at(static_cast<size_t>(id));
    const uint64_t h = hash_bytes(piece, salt_);
    size_t i = h & mask_;
    while (slots_[i].id >= 0 && !matches(slots_[i], h, piece)) i = (i + 1) & mask_;
    slots_[i] = {static_cast<uint32_t>(h >> 32), id};
  }
  // The id of these bytes, or -1.
  int32_t find(std::string_view piece) const { return find(piece, hash(piece)); }
  // The same in steps, for whoever looks up many at once and need not wait for memory: hash all, fetch their slots, fetch what lies there.
  uint64_t hash(std::string_view piece) const { return hash_bytes(piece, salt_); }
  void fetch_slot(uint64_t h) const { __builtin_prefetch(&slots_[h & mask_]); }
  void fetch_piece(uint64_t h) const {
    const int32_t id = slots_[h & mask_].id;
    if (id >= 0) pieces_.fetch(static_cast<size_t>(id));
  }
  int32_t find(std::string_view piece, uint64_t h) const {
    for (size_t i = h & mask_;; i = (i + 1) & mask_) {
      if (slots_[i].id < 0) return -1;
      if (matches(slots_[i], h, piece)) return slots_[i].id;
    }
  }

 private:
  struct Slot {
    uint32_t tag;
    int32_t id;
  };
  bool matches(const Slot& slot, uint64_t h, std::string_view piece) const {
    return slot.tag == static_cast<uint32_t>(h >> 32) && pieces_.at(static_cast<size_t>(slot.id)) == piece;
  }

  const Pieces& pieces_;
  uint64_t salt_;
  size_t mask_ = 0;
  std::vector<Slot> slots_;
};

struct Merge {
  uint64_t pair;
  uint32_t rank;
  int32_t joined;
};
constexpr uint32_t kNoRank = 0xffffffff;

class MergeTable {
 public:
  static uint64_t pair_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  void reserve(size_t count) {
    size_t size = 16;
    while (size * 3 / 4 < count + 1) size *= 2;
    slots_.assign(size, {0, kNoRank, -1});
    mask_ = size - 1;
  }
  void fetch(int32_t left, int32_t right) const { __builtin_prefetch(&slots_[mix(pair_of(left, right) ^ salt_) & mask_], 1); }
  // At most as many as reserved. Of equal pairs the first one counts.
  void put(int32_t left, int32_t right, uint32_t rank, int32_t joined) {
    const uint64_t pair = pair_of(left, right);
    size_t i = mix(pair ^ salt_) & mask_;
    for (; slots_[i].joined >= 0; i = (i + 1) & mask_) {
      if (slots_[i].pair == pair) return;
    }
    slots_[i] = {pair, rank, joined};
  }
  // A merge of rank kNoRank when the two do not merge.
  const Merge& find(int32_t left, int32_t right) const {
    const uint64_t pair = pair_of(left, right);
    for (size_t i = mix(pair ^ salt_) & mask_;; i = (i + 1) & mask_) {
      if (slots_[i].joined < 0 || slots_[i].pair == pair) return slots_[i];
    }
  }

 private:
  uint64_t salt_ = process_salt();
  size_t mask_ = 0;
  std::vector<Merge> slots_;
};

}  // namespace zg
