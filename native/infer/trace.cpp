#include "trace.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "../codec/keccak.h"

namespace zg::infer {
namespace {

static_assert(std::endian::native == std::endian::little, "floats are hashed as they lie in memory");

using Hash = void (*)(const uint8_t*, size_t, uint8_t*) noexcept;

Hash fastest() noexcept {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) return keccak256_avx512vl;
  if (__builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2")) return keccak256_bmi2;
#endif
  return keccak256;
}

Digest hash(const void* data, size_t size) {
  static const Hash one = fastest();
  Digest out;
  one(static_cast<const uint8_t*>(data), size, out.data());
  return out;
}

struct Top {
  float value;
  uint32_t id;
};
bool before(const Top& a, const Top& b) { return a.value > b.value || (a.value == b.value && a.id < b.id); }

}  // namespace

Digest hidden_digest(const float* hidden, size_t n) { return hash(hidden, n * sizeof(float)); }

Digest logits_digest(const float* logits, size_t count) {
  constexpr size_t kStride = 64;
  Top best[kTraceLogits];
  size_t kept = 0;
  for (size_t from = 0; from < count; from += kStride) {
    const size_t end = std::min(count, from + kStride);
    if (kept == kTraceLogits) {
      // Most stretches hold none of the largest: their maximum says so.
      float lanes[8];
      std::fill(lanes, lanes + 8, logits[from]);
      size_t i = from;
      for (; i + 8 <= end; i += 8) {
        for (size_t j = 0; j < 8; j++) lanes[j] = logits[i + j] > lanes[j] ? logits[i + j] : lanes[j];
      }
      for (; i < end; i++) lanes[0] = logits[i] > lanes[0] ? logits[i] : lanes[0];
      if (*std::max_element(lanes, lanes + 8) <= best[kept - 1].value) continue;
    }
    for (size_t i = from; i < end; i++) {
      // −0 counts as 0 in the order; its bits stay.
      const Top one{logits[i], static_cast<uint32_t>(i)};
      if (kept == kTraceLogits && !before(one, best[kept - 1])) continue;
      if (kept < kTraceLogits) kept++;
      size_t at = kept - 1;
      for (; at > 0 && before(one, best[at - 1]); at--) best[at] = best[at - 1];
      best[at] = one;
    }
  }
  uint32_t words[2 * kTraceLogits];
  for (size_t i = 0; i < kept; i++) {
    words[2 * i] = best[i].id;
    words[2 * i + 1] = std::bit_cast<uint32_t>(best[i].value);
  }
  return hash(words, 2 * kept * sizeof(uint32_t));
}

Digest next_hash(const Digest& t, uint32_t token, const Digest& logits) {
  uint8_t bytes[68];
  std::memcpy(bytes, t.data(), 32);
  std::memcpy(bytes + 32, &token, 4);
  std::memcpy(bytes + 36, logits.data(), 32);
  return hash(bytes, sizeof bytes);
}

}  // namespace zg::infer
