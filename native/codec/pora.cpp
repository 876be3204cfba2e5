#include "pora.h"

#include <cstring>

#include "blake2b.h"

namespace zg {
namespace {

constexpr size_t kMaxLanes = 8;
constexpr size_t kSealWords = kSealBytes / kHashBytes;

void xor_words(const uint8_t* a, const uint8_t* b, uint8_t* out) noexcept {
  uint64_t x[4];
  uint64_t y[4];
  std::memcpy(x, a, kHashBytes);
  std::memcpy(y, b, kHashBytes);
  for (size_t i = 0; i < 4; i++) x[i] ^= y[i];
  std::memcpy(out, x, kHashBytes);
}

void qualities(size_t first, const uint8_t* seed, const uint8_t* sealed, const uint8_t* pad, uint8_t* out) noexcept {
  uint8_t message[kBlake2bBlockBytes + kSealBytes] = {};
  message[kHashBytes - 1] = static_cast<uint8_t>(first);
  std::memcpy(message + kHashBytes, seed, kPadSeedBytes);
  const uint8_t* part = pad + kSealBytes * (first % 4);
  for (size_t i = 0; i < kSealBytes; i += kHashBytes) xor_words(sealed + i, part + i, message + kBlake2bBlockBytes + i);
  uint8_t hash[kBlake2bBytes];
  blake2b_512(message, sizeof message, hash);
  std::memcpy(out, hash, kHashBytes);
}

}  // namespace

// Serial within a seal, since each mask is the hash of the word before it; so a lane a seal.
void pora_seal(const uint8_t* masks, const uint8_t* data, uint8_t* out, size_t count, const Kernels& k) noexcept {
  uint8_t words[kMaxLanes * kHashBytes] = {};
  uint8_t mask[kMaxLanes * kHashBytes];
  for (size_t first = 0; first < count; first += k.lanes) {
    const size_t lanes = count - first < k.lanes ? count - first : k.lanes;
    std::memcpy(mask, masks + first * kHashBytes, lanes * kHashBytes);
    for (size_t w = 0; w < kSealWords; w++) {
      for (size_t l = 0; l < lanes; l++) {
        const size_t at = (first + l) * kSealBytes + w * kHashBytes;
        xor_words(data + at, mask + l * kHashBytes, words + l * kHashBytes);
        std::memcpy(out + at, words + l * kHashBytes, kHashBytes);
      }
      k.words(words, mask);
    }
  }
}

void pora_unseal(const uint8_t* masks, const uint8_t* data, uint8_t* out, size_t count, const Kernels& k) noexcept {
  // Mask i + 1 is the hash of sealed word i; the hash of the last is not needed.
  uint8_t hashes[kSealBytes];
  for (size_t seal = 0; seal < count; seal++) {
    const uint8_t* from = data + seal * kSealBytes;
    uint8_t* to = out + seal * kSealBytes;
    for (size_t w = 0; w < kSealWords; w += k.lanes) k.words(from + w * kHashBytes, hashes + w * kHashBytes);
    xor_words(from, masks + seal * kHashBytes, to);
    for (size_t w = 1; w < kSealWords; w++) {
      xor_words(from + w * kHashBytes, hashes + (w - 1) * kHashBytes, to + w * kHashBytes);
    }
  }
}

void pora_pads(const uint8_t* miner, const uint8_t* nonces, const uint8_t* subtask, const uint8_t* range, size_t count,
               uint8_t* seeds, uint8_t* pads, uint8_t* recalls, const Kernels& k) noexcept {
  for (size_t i = 0; i < count; i++) {
    uint8_t message[4 * kHashBytes];
    std::memcpy(message, miner, kHashBytes);
    std::memcpy(message + kHashBytes, nonces + i * kHashBytes, kHashBytes);
    std::memcpy(message + 2 * kHashBytes, subtask, kHashBytes);
    std::memcpy(message + 3 * kHashBytes, range, kHashBytes);
    blake2b_512(message, sizeof message, seeds + i * kPadSeedBytes);
  }
  // A pad is a chain of hashes; a lane a pad.
  uint8_t d[kMaxLanes * kPadSeedBytes] = {};
  uint8_t hash[kMaxLanes * kHashBytes];
  for (size_t first = 0; first < count; first += k.lanes) {
    const size_t lanes = count - first < k.lanes ? count - first : k.lanes;
    std::memcpy(d, seeds + first * kPadSeedBytes, lanes * kPadSeedBytes);
    for (size_t at = 0; at < kPadBytes; at += kPadSeedBytes) {
      for (size_t half = 0; half < kPadSeedBytes; half += kHashBytes) {
        k.nodes(d, hash);
        for (size_t l = 0; l < lanes; l++) std::memcpy(d + l * kPadSeedBytes + half, hash + l * kHashBytes, kHashBytes);
      }
      for (size_t l = 0; l < lanes; l++) std::memcpy(pads + (first + l) * kPadBytes + at, d + l * kPadSeedBytes, kPadSeedBytes);
    }
    k.nodes(d, hash);
    std::memcpy(recalls + first * kHashBytes, hash, lanes * kHashBytes);
  }
}

const PoraPath kPoraGeneric = {"generic", 1, qualities};

const PoraPath& pora_for(const Kernels& k) noexcept {
#if defined(__x86_64__)
  if (std::strcmp(k.name, "avx2") == 0) return kPoraAvx2;
  if (std::strncmp(k.name, "avx512", 6) == 0) return kPoraAvx512vl;
#endif
  (void)k;
  return kPoraGeneric;
}

size_t pora_best(uint64_t held, const uint8_t* seed, const uint8_t* sealed, const uint8_t* pad, uint8_t* out,
                 const PoraPath& path) noexcept {
  size_t best = kSegmentSeals;
  uint8_t found[kMaxLanes * kHashBytes];
  for (size_t first = 0; first < kSegmentSeals; first += path.lanes) {
    const uint64_t group = held >> first & ((uint64_t{1} << path.lanes) - 1);
    if (group == 0) continue;
    path.qualities(first, seed, sealed + first * kSealBytes, pad, found);
    for (size_t l = 0; l < path.lanes; l++) {
      if ((group >> l & 1) == 0) continue;
      if (best != kSegmentSeals && std::memcmp(found + l * kHashBytes, out, kHashBytes) >= 0) continue;
      best = first + l;
      std::memcpy(out, found + l * kHashBytes, kHashBytes);
    }
  }
  return best;
}

}  // namespace zg
