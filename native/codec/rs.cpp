// The field, the matrices, the path without vectors, and the choice between all of them.
#include "rs.h"

#include <cstring>

namespace zg {
namespace {

constexpr uint32_t kPolynomial = 0x11d;

// The matrix that takes a byte to factor · byte, as the instruction wants it: byte 7 − i selects the inputs of output bit i.
uint64_t affine(const uint8_t* products) noexcept {
  uint64_t m = 0;
  for (size_t b = 0; b < 8; b++) {
    const uint8_t image = products[1u << b];
    for (size_t i = 0; i < 8; i++) {
      if ((image >> i & 1) != 0) m |= uint64_t{1} << (8 * (7 - i) + b);
    }
  }
  return m;
}

void dot(const uint8_t* coefficients, size_t rows, size_t cols, const uint8_t* const* in, uint8_t* const* out,
         size_t size) noexcept {
  const RsTables& t = rs_tables();
  for (size_t r = 0; r < rows; r++) {
    uint8_t* to = out[r];
    std::memset(to, 0, size);
    for (size_t c = 0; c < cols; c++) {
      const uint8_t* products = t.product[coefficients[r * cols + c]];
      const uint8_t* from = in[c];
      for (size_t i = 0; i < size; i++) to[i] ^= products[from[i]];
    }
  }
}

struct List {
  const RsPath* items[5] = {};
  size_t count = 0;

  List() noexcept {
    items[count++] = &kRsGeneric;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) {
      items[count++] = &kRsAvx2;
      if (__builtin_cpu_supports("gfni")) {
        items[count++] = &kRsGfni;
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) items[count++] = &kRsGfni512;
      }
    }
#endif
  }
};

const List& list() noexcept {
  static const List l;
  return l;
}

// row[target] += factor · row[source] over `size` coefficients.
void add_row(uint8_t* target, const uint8_t* source, uint8_t factor, size_t size) noexcept {
  if (factor == 0) return;
  const uint8_t* products = rs_tables().product[factor];
  for (size_t i = 0; i < size; i++) target[i] ^= products[source[i]];
}

// Coefficients of shard `index` from the data shards, k of them.
void generator_row(size_t k, size_t index, uint8_t* out) noexcept {
  if (index < k) {
    std::memset(out, 0, k);
    out[index] = 1;
    return;
  }
  const RsTables& t = rs_tables();
  for (size_t j = 0; j < k; j++) out[j] = t.inverse[index ^ j];
}

}  // namespace

RsTables::RsTables() noexcept {
  uint8_t exp[510];
  uint8_t log[256] = {};
  uint32_t x = 1;
  for (size_t i = 0; i < 255; i++) {
    exp[i] = exp[i + 255] = static_cast<uint8_t>(x);
    log[x] = static_cast<uint8_t>(i);
    x <<= 1;
    if (x >= 256) x ^= kPolynomial;
  }
  for (size_t a = 0; a < 256; a++) {
    for (size_t b = 0; b < 256; b++) product[a][b] = a == 0 || b == 0 ? uint8_t{0} : exp[log[a] + log[b]];
    inverse[a] = a == 0 ? uint8_t{0} : exp[255 - log[a]];
    for (size_t v = 0; v < 16; v++) {
      nibbles[a][v] = product[a][v];
      nibbles[a][16 + v] = product[a][v << 4];
    }
    matrix[a] = affine(product[a]);
  }
}

const RsTables& rs_tables() noexcept {
  static const RsTables t;
  return t;
}

const RsPath kRsGeneric = {"generic", dot};

const RsPath* const* available_rs() noexcept { return list().items; }

const RsPath* rs_by_name(const char* name) noexcept {
  const List& l = list();
  for (size_t i = 0; i < l.count; i++) {
    if (std::strcmp(l.items[i]->name, name) == 0) return l.items[i];
  }
  return nullptr;
}

const RsPath* rs_for(const char* kernels_name) noexcept {
  if (std::strcmp(kernels_name, "generic") == 0) return &kRsGeneric;
  const List& l = list();
  const RsPath* avx2 = rs_by_name("avx2");
  return std::strcmp(kernels_name, "avx2") == 0 && avx2 != nullptr ? avx2 : l.items[l.count - 1];
}

void rs_parity_matrix(size_t k, size_t m, uint8_t* out) noexcept {
  for (size_t i = 0; i < m; i++) generator_row(k, k + i, out + i * k);
}

void rs_recovery_matrix(size_t k, const uint16_t* have, const uint16_t* wanted, size_t count, uint8_t* out,
                        uint8_t* work) noexcept {
  const RsTables& t = rs_tables();
  // Gauss and Jordan: [G | 1] to [1 | G⁻¹]. Any k rows of the generator are independent, so a pivot is always found.
  uint8_t* left = work;
  uint8_t* right = work + k * k;
  std::memset(right, 0, k * k);
  for (size_t r = 0; r < k; r++) {
    generator_row(k, have[r], left + r * k);
    right[r * k + r] = 1;
  }
  for (size_t c = 0; c < k; c++) {
    size_t pivot = c;
    while (pivot + 1 < k && left[pivot * k + c] == 0) pivot++;
    if (pivot != c) {
      for (size_t i = 0; i < k; i++) {
        const uint8_t l = left[c * k + i];
        left[c * k + i] = left[pivot * k + i];
        left[pivot * k + i] = l;
        const uint8_t r = right[c * k + i];
        right[c * k + i] = right[pivot * k + i];
        right[pivot * k + i] = r;
      }
    }
    const uint8_t* scale = t.product[t.inverse[left[c * k + c]]];
    for (size_t i = 0; i < k; i++) {
      left[c * k + i] = scale[left[c * k + i]];
      right[c * k + i] = scale[right[c * k + i]];
    }
    for (size_t r = 0; r < k; r++) {
      const uint8_t factor = left[r * k + c];
      if (r == c || factor == 0) continue;
      add_row(left + r * k, left + c * k, factor, k);
      add_row(right + r * k, right + c * k, factor, k);
    }
  }
  uint8_t row[kMaxShards];
  for (size_t w = 0; w < count; w++) {
    generator_row(k, wanted[w], row);
    std::memset(out + w * k, 0, k);
    for (size_t j = 0; j < k; j++) add_row(out + w * k, right + j * k, row[j], k);
  }
}

}  // namespace zg
