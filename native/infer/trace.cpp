#include "trace.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <limits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

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

// The largest of each of so many blocks; `block` is a multiple of eight.
using Maxima = void (*)(const float*, size_t blocks, size_t block, float*);

inline void maxima_in_lanes(const float* x, size_t blocks, size_t block, float* out) {
  for (size_t b = 0; b < blocks; b++, x += block) {
    float lanes[8];
    std::memcpy(lanes, x, sizeof lanes);
    for (size_t i = 8; i < block; i += 8) {
      for (size_t j = 0; j < 8; j++) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
    }
    out[b] = *std::max_element(lanes, lanes + 8);
  }
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void maxima_avx2(const float* x, size_t blocks, size_t block, float* out) {
  for (size_t b = 0; b < blocks; b++, x += block) {
    __m256 most = _mm256_loadu_ps(x);
    for (size_t i = 8; i < block; i += 8) most = _mm256_max_ps(_mm256_loadu_ps(x + i), most);
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    out[b] = _mm_cvtss_f32(_mm_max_ss(half, _mm_shuffle_ps(half, half, 1)));
  }
}
#endif

Maxima widest() noexcept {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2")) return maxima_avx2;
#endif
  return maxima_in_lanes;
}

// Best first.
class Best {
 public:
  void take(const Top& one) {
    if (count_ == kTraceLogits && !before(one, tops_[count_ - 1])) return;
    if (count_ < kTraceLogits) count_++;
    size_t at = count_ - 1;
    for (; at > 0 && before(one, tops_[at - 1]); at--) tops_[at] = tops_[at - 1];
    tops_[at] = one;
  }
  size_t count() const { return count_; }
  const Top& operator[](size_t i) const { return tops_[i]; }

 private:
  Top tops_[kTraceLogits];
  size_t count_ = 0;
};

// The sixteenth largest of the blocks' maxima is a bound: as many logits reach it, and few others do.
Best best_of(const float* logits, size_t count) {
  constexpr size_t kBlocks = 2'048;
  constexpr size_t kBlock = 32;
  static const Maxima maxima = widest();
  const size_t block = kBlock * ((count + kBlock * kBlocks - 1) / (kBlock * kBlocks));
  const size_t blocks = block == 0 ? 0 : count / block;
  float most[kBlocks];
  maxima(logits, blocks, block, most);
  float bound = -std::numeric_limits<float>::infinity();
  if (blocks > kTraceLogits) {
    float sorted[kBlocks];
    std::copy(most, most + blocks, sorted);
    std::nth_element(sorted, sorted + kTraceLogits - 1, sorted + blocks, std::greater<float>());
    bound = sorted[kTraceLogits - 1];
  }
  Best best;
  const auto scan = [&](size_t from, size_t end) {
    // −0 counts as 0 in the order; its bits stay.
    for (size_t i = from; i < end; i++) {
      if (logits[i] >= bound) best.take({logits[i], static_cast<uint32_t>(i)});
    }
  };
  for (size_t b = 0; b < blocks; b++) {
    if (most[b] >= bound) scan(b * block, (b + 1) * block);
  }
  scan(blocks * block, count);
  return best;
}

}  // namespace

Digest hidden_digest(const float* hidden, size_t n) { return hash(hidden, n * sizeof(float)); }

Digest logits_digest(const float* logits, size_t count) {
  const Best best = best_of(logits, count);
  uint32_t words[2 * kTraceLogits];
  for (size_t i = 0; i < best.count(); i++) {
    words[2 * i] = best[i].id;
    words[2 * i + 1] = std::bit_cast<uint32_t>(best[i].value);
  }
  return hash(words, 2 * best.count() * sizeof(uint32_t));
}

Digest next_hash(const Digest& t, uint32_t token, const Digest& logits) {
  uint8_t bytes[68];
  std::memcpy(bytes, t.data(), 32);
  std::memcpy(bytes + 32, &token, 4);
  std::memcpy(bytes + 36, logits.data(), 32);
  return hash(bytes, sizeof bytes);
}

}  // namespace zg::infer
