#include "trace.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "../codec/keccak.h"
#include "largest.h"

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

Best best_of(const float* logits, size_t count) {
  Best best;
  if (count == 0) return best;
  const Largest largest(default_level(), logits, count);
  // −0 counts as 0 in the order; its bits stay.
  largest.each(largest.bound(kTraceLogits), [&](uint32_t i) { best.take({logits[i], i}); });
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
