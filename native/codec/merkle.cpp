#include "merkle.h"

#include <cstring>

namespace zg {
namespace {

constexpr size_t kMaxLanes = 8;

// keccak of 256 zero bytes, the leaf of padding.
struct ZeroLeaf {
  uint8_t hash[kHashBytes];
  ZeroLeaf() noexcept {
    const uint8_t zeros[kSectorBytes] = {};
    keccak256(zeros, kSectorBytes, hash);
  }
};

// Hashes `count` whole sectors. Fewer than a full set of lanes go through a buffer filled up with zeros; a single one does not pay.
void hash_leaves(const uint8_t* data, size_t count, uint8_t* out, const Kernels& k) noexcept {
  size_t i = 0;
  for (; count - i >= k.lanes; i += k.lanes) k.leaves(data + i * kSectorBytes, out + i * kHashBytes);
  const size_t rest = count - i;
  if (rest == 0) return;
  if (rest == 1) return k.one(data + i * kSectorBytes, kSectorBytes, out + i * kHashBytes);
  uint8_t in[kMaxLanes * kSectorBytes] = {};
  uint8_t hashes[kMaxLanes * kHashBytes];
  std::memcpy(in, data + i * kSectorBytes, rest * kSectorBytes);
  k.leaves(in, hashes);
  std::memcpy(out + i * kHashBytes, hashes, rest * kHashBytes);
}

// One level up, in place: out[i] = keccak(pair i) lies before what is still to be read.
void hash_pairs(uint8_t* hashes, size_t pairs, const Kernels& k) noexcept {
  size_t i = 0;
  for (; pairs - i >= k.lanes; i += k.lanes) k.nodes(hashes + i * 2 * kHashBytes, hashes + i * kHashBytes);
  const size_t rest = pairs - i;
  if (rest == 0) return;
  uint8_t in[kMaxLanes * 2 * kHashBytes] = {};
  uint8_t out[kMaxLanes * kHashBytes];
  std::memcpy(in, hashes + i * 2 * kHashBytes, rest * 2 * kHashBytes);
  if (rest == 1) {
    k.one(in, 2 * kHashBytes, out);
  } else {
    k.nodes(in, out);
  }
  std::memcpy(hashes + i * kHashBytes, out, rest * kHashBytes);
}

void one_root(const uint8_t* data, size_t size, size_t leaves, uint8_t* out, const Kernels& k) noexcept {
  static const ZeroLeaf zero;
  // 32 KiB: stays in the first level cache while the sectors stream past it.
  uint8_t hashes[kSegmentSectors * kHashBytes];
  const size_t whole = size / kSectorBytes;
  hash_leaves(data, whole, hashes, k);
  size_t done = whole;
  if (size % kSectorBytes != 0) {
    uint8_t last[kSectorBytes] = {};
    std::memcpy(last, data + whole * kSectorBytes, size % kSectorBytes);
    k.one(last, kSectorBytes, hashes + done * kHashBytes);
    done++;
  }
  for (; done < leaves; done++) std::memcpy(hashes + done * kHashBytes, zero.hash, kHashBytes);
  tree_root(hashes, leaves, k);
  std::memcpy(out, hashes, kHashBytes);
}

}  // namespace

void tree_root(uint8_t* hashes, size_t count, const Kernels& k) noexcept {
  while (count > 1) {
    const size_t pairs = count / 2;
    hash_pairs(hashes, pairs, k);
    // The odd one moves up unchanged, to the place behind the new nodes.
    if (count % 2 == 1) std::memmove(hashes + pairs * kHashBytes, hashes + (count - 1) * kHashBytes, kHashBytes);
    count = pairs + count % 2;
  }
}

void segment_roots(const uint8_t* data, size_t size, size_t last_leaves, uint8_t* out, const Kernels& k) noexcept {
  const size_t count = segment_count(size);
  for (size_t i = 0; i + 1 < count; i++) {
    one_root(data + i * kSegmentBytes, kSegmentBytes, kSegmentSectors, out + i * kHashBytes, k);
  }
  const size_t last = (count - 1) * kSegmentBytes;
  one_root(data == nullptr ? nullptr : data + last, size - last, last_leaves, out + (count - 1) * kHashBytes, k);
}

}  // namespace zg
