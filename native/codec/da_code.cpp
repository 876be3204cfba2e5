// Let s_j be the polynomial that vanishes on 0 … 2^j − 1. In the Cantor basis s_j(n) = n >> j for a number n. A polynomial of degree
// < 2^(j+1) is f0 + s_j·f1, and on the 2^(j+1) points from `base` on s_j takes two values only, t = base >> j and then t + 1:
//
//   values in the first half   f0 + t·f1          in the second half   the same + f1
//
// so one level of the transform is one butterfly with the factor t for each pair of rows. All t are even and below 3 072.
//
// Decoding. R: the k points known, E: the others of 0 … 4k − 1. Λ = Π over E of (x − e). f·Λ has degree < 4k and is known at all of
// 0 … 4k − 1: it is 0 on E. At e in E its derivative is f(e)·Λ'(e). Since Π over v ≠ 0 of a subspace is 1 in this basis,
//
//   Λ(c) = 1 / Π over R without c of (c − r)          1 / Λ'(e) = Π over R of (e − r)
//
// Let I_b be the coefficients of the k values from b·k on, b = 0 … 3 (I_3 = 0). Two levels up the coefficients of f·Λ are C_0 = I_0,
// C_1 = I_0 + I_1 and C_2 = I_0 + I_2 + 2·I_2. As s_j' = 1, the coefficient i < k of the derivative is
//
//   D_i = Σ over bits j that i lacks of I_0[i + 2^j]  +  C_1[i]  +  C_2[i]  =  (the same sum)  +  I_1[i]  +  3·I_2[i]
//
// and those k alone decide the values at 0 … k − 1. So a decode costs up to three inverse transforms and one forward one.
#include "da_code.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>

#include "da_field.h"

namespace zg {
namespace {

// Rows of one work buffer together have about this size, so that two of them stay in the second level cache.
constexpr size_t kStripBytes = 256 * 1024;
constexpr size_t kMaxStrip = 4096;

struct Free {
  void operator()(uint8_t* p) const noexcept { std::free(p); }
};
using Buffer = std::unique_ptr<uint8_t[], Free>;

Buffer buffer_of(size_t size) noexcept {
  // A multiple of the alignment, as aligned_alloc wants it: sizes here are multiples of 64.
  return Buffer(static_cast<uint8_t*>(std::aligned_alloc(kBlockBytes, size)));
}

size_t strip_of(size_t k, size_t w) noexcept {
  size_t strip = kStripBytes / k;
  if (strip > kMaxStrip) strip = kMaxStrip;
  return strip < w ? strip : w;
}

// Expanded factors t = 0, 2, … 3 070, once for each path.
struct Twiddles {
  static constexpr size_t kCount = 3 * kMaxRows / 2;
  std::unique_ptr<uint8_t[]> tables{new uint8_t[kCount * kFactorBytes]};
  explicit Twiddles(const Lanes& lanes) noexcept {
    for (size_t i = 0; i < kCount; i++) lanes.expand(static_cast<uint16_t>(2 * i), tables.get() + i * kFactorBytes);
  }
  const uint8_t* of(size_t t) const noexcept { return tables.get() + t / 2 * kFactorBytes; }
};

const Twiddles& twiddles(const Lanes& lanes) noexcept {
  static std::mutex mutex;
  static std::unique_ptr<Twiddles> made[8];
  const std::lock_guard<std::mutex> lock(mutex);
  size_t i = 0;
  while (available_lanes()[i] != &lanes) i++;
  if (made[i] == nullptr) made[i].reset(new Twiddles(lanes));
  return *made[i];
}

struct Transform {
  const Lanes& lanes;
  const Twiddles& factors;
  size_t k;
  size_t strip;  // bytes between rows of a work buffer

  // Coefficients to values at points shift … shift + k − 1, in place, on the first `size` bytes of each row.
  void evaluate(uint8_t* rows, size_t shift, size_t size) const noexcept {
    for (size_t half = k / 2; half >= 1; half /= 2) {
      for (size_t base = 0; base < k; base += 2 * half) {
        const size_t t = (shift + base) / half;
        for (size_t i = base; i < base + half; i++) {
          uint8_t* a = rows + i * strip;
          uint8_t* b = a + half * strip;
          if (t == 0) {
            add_bytes(b, a, size);
          } else {
            lanes.forward(a, b, size, factors.of(t));
          }
        }
      }
    }
  }

  // Values at points shift … shift + k − 1 to coefficients, in place.
  void interpolate(uint8_t* rows, size_t shift, size_t size) const noexcept {
    for (size_t half = 1; half < k; half *= 2) {
      for (size_t base = 0; base < k; base += 2 * half) {
        const size_t t = (shift + base) / half;
        for (size_t i = base; i < base + half; i++) {
          uint8_t* a = rows + i * strip;
          uint8_t* b = a + half * strip;
          if (t == 0) {
            add_bytes(b, a, size);
          } else {
            lanes.backward(a, b, size, factors.of(t));
          }
        }
      }
    }
  }
};

// The expanded factors by which rows are multiplied before and after, and where each known row lies.
struct Locator {
  std::unique_ptr<uint8_t[]> before{new (std::nothrow) uint8_t[kMaxRows * kFactorBytes]};
  std::unique_ptr<uint8_t[]> after{new (std::nothrow) uint8_t[kMaxRows * kFactorBytes]};
  int16_t slot[3 * kMaxRows];  // of a code row in the list, or −1
  bool uses[3] = {};           // whether block b has a known row

  bool prepare(const uint16_t* indexes, size_t k, const Lanes& lanes) noexcept {
    if (before == nullptr || after == nullptr) return false;
    const Field& f = field();
    for (size_t c = 0; c < 3 * k; c++) slot[c] = -1;
    for (size_t i = 0; i < k; i++) {
      slot[indexes[i]] = static_cast<int16_t>(i);
      uses[indexes[i] / k] = true;
    }
    for (size_t i = 0; i < k; i++) {
      const uint32_t log = log_product(f, indexes, k, indexes[i]);
      lanes.expand(f.exp[kFieldOrder - log], before.get() + i * kFactorBytes);
    }
    for (size_t e = 0; e < k; e++) {
      if (slot[e] >= 0) continue;
      lanes.expand(f.exp[log_product(f, indexes, k, static_cast<uint16_t>(e))], after.get() + e * kFactorBytes);
    }
    return true;
  }

  // log of Π over R without x of (x − r).
  static uint32_t log_product(const Field& f, const uint16_t* indexes, size_t k, uint16_t x) noexcept {
    uint32_t sum = 0;
    for (size_t i = 0; i < k; i++) {
      if (indexes[i] != x) sum += f.log[indexes[i] ^ x];
    }
    return sum % kFieldOrder;
  }
};

// I_0 to its part of the derivative, in place: a row is made of later rows, which are still as they were.
void derive(uint8_t* rows, size_t k, size_t strip, size_t size) noexcept {
  for (size_t i = 0; i < k; i++) {
    uint8_t* to = rows + i * strip;
    std::memset(to, 0, size);
    for (size_t bit = 1; bit < k; bit *= 2) {
      if ((i & bit) == 0) add_bytes(to, rows + (i + bit) * strip, size);
    }
  }
}

}  // namespace

bool encode_rows(const uint8_t* const* rows, size_t k, size_t w, uint8_t* parity, const Lanes& lanes) noexcept {
  const size_t strip = strip_of(k, w);
  const Buffer coefficients = buffer_of(k * strip);
  const Buffer values = buffer_of(k * strip);
  if (coefficients == nullptr || values == nullptr) return false;
  const Transform transform{lanes, twiddles(lanes), k, strip};
  for (size_t from = 0; from < w; from += strip) {
    const size_t size = w - from < strip ? w - from : strip;
    for (size_t i = 0; i < k; i++) std::memcpy(coefficients.get() + i * strip, rows[i] + from, size);
    transform.interpolate(coefficients.get(), 0, size);
    for (size_t block = 1; block <= 2; block++) {
      std::memcpy(values.get(), coefficients.get(), k * strip);
      transform.evaluate(values.get(), block * k, size);
      uint8_t* out = parity + (block - 1) * k * w + from;
      for (size_t i = 0; i < k; i++) std::memcpy(out + i * w, values.get() + i * strip, size);
    }
  }
  return true;
}

bool decode_rows(const uint16_t* indexes, const uint8_t* const* rows, size_t k, size_t w, uint8_t* out,
                 const Lanes& lanes) noexcept {
  const size_t strip = strip_of(k, w);
  const Buffer sum = buffer_of(k * strip);
  const Buffer work = buffer_of(k * strip);
  const std::unique_ptr<Locator> locator(new (std::nothrow) Locator);
  if (sum == nullptr || work == nullptr || locator == nullptr || !locator->prepare(indexes, k, lanes)) return false;
  const Transform transform{lanes, twiddles(lanes), k, strip};
  alignas(64) uint8_t three[kFactorBytes];
  lanes.expand(3, three);
  for (size_t from = 0; from < w; from += strip) {
    const size_t size = w - from < strip ? w - from : strip;
    std::memset(sum.get(), 0, k * strip);
    for (size_t block = 0; block < 3; block++) {
      if (!locator->uses[block]) continue;
      for (size_t i = 0; i < k; i++) {
        const int16_t slot = locator->slot[block * k + i];
        uint8_t* to = work.get() + i * strip;
        if (slot < 0) {
          std::memset(to, 0, size);
        } else {
          const size_t s = static_cast<size_t>(slot);
          lanes.scale(to, rows[s] + from, size, locator->before.get() + s * kFactorBytes);
        }
      }
      transform.interpolate(work.get(), block * k, size);
      if (block == 0) derive(work.get(), k, strip, size);
      for (size_t i = 0; i < k; i++) {
        uint8_t* row = work.get() + i * strip;
        if (block == 2) lanes.scale(row, row, size, three);
        add_bytes(sum.get() + i * strip, row, size);
      }
    }
    transform.evaluate(sum.get(), 0, size);
    for (size_t e = 0; e < k; e++) {
      const int16_t slot = locator->slot[e];
      if (slot >= 0) {
        std::memcpy(out + e * w + from, rows[slot] + from, size);
      } else {
        lanes.scale(out + e * w + from, sum.get() + e * strip, size, locator->after.get() + e * kFactorBytes);
      }
    }
  }
  return true;
}

bool extend_z(const uint8_t* z, size_t k, uint8_t* out, const Lanes& lanes) noexcept {
  // Eight symbols lie apart as low and high bytes in a block of their own; the other 24 stay zero.
  const Buffer rows = buffer_of(k * kBlockBytes);
  const Buffer parity = buffer_of(2 * k * kBlockBytes);
  const std::unique_ptr<const uint8_t*[]> pointers(new (std::nothrow) const uint8_t*[k]);
  if (rows == nullptr || parity == nullptr || pointers == nullptr) return false;
  std::memset(rows.get(), 0, k * kBlockBytes);
  for (size_t i = 0; i < k; i++) {
    uint8_t* row = rows.get() + i * kBlockBytes;
    pointers[i] = row;
    for (size_t m = 0; m < 8; m++) {
      row[m] = z[16 * i + 2 * m];
      row[32 + m] = z[16 * i + 2 * m + 1];
    }
  }
  if (!encode_rows(pointers.get(), k, kBlockBytes, parity.get(), lanes)) return false;
  std::memcpy(out, z, 16 * k);
  for (size_t i = 0; i < 2 * k; i++) {
    for (size_t m = 0; m < 8; m++) {
      out[16 * (k + i) + 2 * m] = parity[i * kBlockBytes + m];
      out[16 * (k + i) + 2 * m + 1] = parity[i * kBlockBytes + 32 + m];
    }
  }
  return true;
}

}  // namespace zg
