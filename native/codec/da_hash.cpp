#include "da_hash.h"

#include <cstring>

namespace zg {
namespace {

constexpr size_t kMaxLanes = 8;
constexpr size_t kSectors = kLineBytes / kSectorBytes;  // 128
constexpr size_t kLevels = 7;
// Rows that climb their trees together, so that few lanes run empty at the top.
constexpr size_t kGroup = 16;

// Sectors that do not make a full set of lanes in their row wait here for those of other rows.
class Gather {
 public:
  explicit Gather(const Kernels& k) noexcept : k_(k) {}

  void add(const uint8_t* sector, size_t size, uint8_t* out) noexcept {
    uint8_t* slot = in_ + count_ * kSectorBytes;
    std::memcpy(slot, sector, size);
    std::memset(slot + size, 0, kSectorBytes - size);
    out_[count_++] = out;
    if (count_ == k_.lanes) flush();
  }

  // The last sector of a row that is so long that the tag lies in it.
  void add_tagged(const uint8_t* sector, size_t size, const uint8_t* tag, uint8_t* out) noexcept {
    uint8_t whole[kSectorBytes] = {};
    std::memcpy(whole, sector, size);
    std::memcpy(whole + kSectorBytes - kTagBytes, tag, kTagBytes);
    add(whole, kSectorBytes, out);
  }

  void flush() noexcept {
    if (count_ == 0) return;
    uint8_t hashes[kMaxLanes * kHashBytes];
    if (count_ < k_.lanes) std::memset(in_ + count_ * kSectorBytes, 0, (k_.lanes - count_) * kSectorBytes);
    k_.leaves(in_, hashes);
    for (size_t i = 0; i < count_; i++) std::memcpy(out_[i], hashes + i * kHashBytes, kHashBytes);
    count_ = 0;
  }

 private:
  const Kernels& k_;
  uint8_t in_[kMaxLanes * kSectorBytes];
  uint8_t* out_[kMaxLanes];
  size_t count_ = 0;
};

// What the trees of all rows of a blob share: roots of zero sectors, and the right edge, whose last leaf is zeros and the tag.
struct Edges {
  uint8_t zero[kLevels][kHashBytes];
  uint8_t tail[kLevels][kHashBytes];

  Edges(const uint8_t* tag, const Kernels& k) noexcept {
    uint8_t sector[kSectorBytes] = {};
    k.one(sector, sizeof sector, zero[0]);
    std::memcpy(sector + kSectorBytes - kTagBytes, tag, kTagBytes);
    k.one(sector, sizeof sector, tail[0]);
    uint8_t pair[2 * kHashBytes];
    for (size_t h = 1; h < kLevels; h++) {
      std::memcpy(pair, zero[h - 1], kHashBytes);
      std::memcpy(pair + kHashBytes, zero[h - 1], kHashBytes);
      k.one(pair, sizeof pair, zero[h]);
      std::memcpy(pair + kHashBytes, tail[h - 1], kHashBytes);
      k.one(pair, sizeof pair, tail[h]);
    }
  }
};

// out[i] = keccak(pair i), in place or not: out lies at or before what is still to be read.
void hash_all_pairs(const uint8_t* in, size_t pairs, uint8_t* out, const Kernels& k) noexcept {
  size_t i = 0;
  for (; pairs - i >= k.lanes; i += k.lanes) k.nodes(in + i * 2 * kHashBytes, out + i * kHashBytes);
  const size_t rest = pairs - i;
  if (rest == 0) return;
  uint8_t from[kMaxLanes * 2 * kHashBytes] = {};
  uint8_t to[kMaxLanes * kHashBytes];
  std::memcpy(from, in + i * 2 * kHashBytes, rest * 2 * kHashBytes);
  if (rest == 1) {
    k.one(from, 2 * kHashBytes, to);
  } else {
    k.nodes(from, to);
  }
  std::memcpy(out + i * kHashBytes, to, rest * kHashBytes);
}

// Roots of up to kGroup rows. Only nodes over data are hashed, `used` of each row; at each level an odd last one gets its neighbour
// from the edges, so that the nodes of all rows lie in pairs one behind the other.
void group_roots(const uint8_t* tag, const Edges& edges, const uint8_t* const* rows, size_t count, size_t w, uint8_t* out,
                 const Kernels& k) noexcept {
  uint8_t nodes[kGroup * kSectors * kHashBytes];  // 64 KiB
  size_t used = (w + kSectorBytes - 1) / kSectorBytes;
  size_t width = kSectors;
  size_t stride = used + used % 2;
  Gather gather(k);
  for (size_t row = 0; row < count; row++) {
    uint8_t* to = nodes + row * stride * kHashBytes;
    const uint8_t* data = rows[row];
    const size_t whole = w / kSectorBytes;
    size_t i = 0;
    for (; whole - i >= k.lanes; i += k.lanes) k.leaves(data + i * kSectorBytes, to + i * kHashBytes);
    for (; i < used; i++) {
      const size_t size = i < whole ? kSectorBytes : w % kSectorBytes;
      if (i == kSectors - 1) {
        gather.add_tagged(data + i * kSectorBytes, size, tag, to + i * kHashBytes);
      } else {
        gather.add(data + i * kSectorBytes, size, to + i * kHashBytes);
      }
    }
  }
  gather.flush();
  for (size_t h = 0; h < kLevels; h++) {
    if (used % 2 == 1) {
      const uint8_t* neighbour = used == width - 1 ? edges.tail[h] : edges.zero[h];
      for (size_t row = 0; row < count; row++) {
        std::memcpy(nodes + (row * stride + used) * kHashBytes, neighbour, kHashBytes);
      }
    }
    hash_all_pairs(nodes, count * stride / 2, nodes, k);
    used = stride / 2;
    width /= 2;
    stride = h + 1 == kLevels ? used : used + used % 2;
    if (stride == used) continue;
    // Makes room for the neighbours, last row first.
    for (size_t row = count; row-- > 1;) {
      std::memmove(nodes + row * stride * kHashBytes, nodes + row * used * kHashBytes, used * kHashBytes);
    }
  }
  std::memcpy(out, nodes, count * kHashBytes);
}

}  // namespace

void row_roots(const uint8_t* tag, const uint8_t* const* rows, size_t count, size_t w, uint8_t* out,
               const Kernels& k) noexcept {
  const Edges edges(tag, k);
  for (size_t i = 0; i < count; i += kGroup) {
    const size_t n = count - i < kGroup ? count - i : kGroup;
    group_roots(tag, edges, rows + i, n, w, out + i * kHashBytes, k);
  }
}

void hash_stream(const uint8_t* seed, uint64_t first, size_t count, uint8_t* out, const Kernels& k) noexcept {
  size_t i = 0;
  for (; count - i >= k.lanes; i += k.lanes) k.stream(seed, first + i, out + i * kHashBytes);
  if (i == count) return;
  uint8_t hashes[kMaxLanes * kHashBytes];
  k.stream(seed, first + i, hashes);
  std::memcpy(out + i * kHashBytes, hashes, (count - i) * kHashBytes);
}

void tree_nodes(uint8_t* out, size_t n, const Kernels& k) noexcept {
  uint8_t* level = out;
  for (; n > 1; n /= 2) {
    hash_all_pairs(level, n / 2, level + n * kHashBytes, k);
    level += n * kHashBytes;
  }
}

}  // namespace zg
