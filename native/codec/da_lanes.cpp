// The path without vectors, and the choice between all of them.
#include "da_lanes.h"

#include <cstring>

#include "da_field.h"

namespace zg {

void expand_nibbles(uint16_t factor, uint8_t* table) noexcept {
  const Field& f = field();
  for (size_t n = 0; n < 4; n++) {
    uint16_t products[16] = {};
    for (size_t b = 0; b < 4; b++) {
      const uint16_t bit = field_mul(f, factor, static_cast<uint16_t>(1u << (4 * n + b)));
      for (size_t v = 0; v < (size_t{1} << b); v++) products[v + (size_t{1} << b)] = products[v] ^ bit;
    }
    for (size_t v = 0; v < 16; v++) {
      table[32 * n + v] = static_cast<uint8_t>(products[v]);
      table[32 * n + 16 + v] = static_cast<uint8_t>(products[v] >> 8);
    }
  }
}

namespace {

// to += factor · from for one symbol.
inline void add_product(const uint8_t* t, uint8_t lo, uint8_t hi, uint8_t& to_lo, uint8_t& to_hi) noexcept {
  const size_t a = lo & 15;
  const size_t b = lo >> 4;
  const size_t c = hi & 15;
  const size_t d = hi >> 4;
  to_lo ^= static_cast<uint8_t>(t[a] ^ t[32 + b] ^ t[64 + c] ^ t[96 + d]);
  to_hi ^= static_cast<uint8_t>(t[16 + a] ^ t[48 + b] ^ t[80 + c] ^ t[112 + d]);
}

void forward(uint8_t* a, uint8_t* b, size_t size, const uint8_t* table) noexcept {
  for (size_t block = 0; block < size; block += kBlockBytes) {
    for (size_t at = block; at < block + 32; at++) {
      add_product(table, b[at], b[at + 32], a[at], a[at + 32]);
      b[at] ^= a[at];
      b[at + 32] ^= a[at + 32];
    }
  }
}

void backward(uint8_t* a, uint8_t* b, size_t size, const uint8_t* table) noexcept {
  for (size_t block = 0; block < size; block += kBlockBytes) {
    for (size_t at = block; at < block + 32; at++) {
      b[at] ^= a[at];
      b[at + 32] ^= a[at + 32];
      add_product(table, b[at], b[at + 32], a[at], a[at + 32]);
    }
  }
}

void scale(uint8_t* to, const uint8_t* from, size_t size, const uint8_t* table) noexcept {
  for (size_t block = 0; block < size; block += kBlockBytes) {
    for (size_t at = block; at < block + 32; at++) {
      uint8_t lo = 0;
      uint8_t hi = 0;
      add_product(table, from[at], from[at + 32], lo, hi);
      to[at] = lo;
      to[at + 32] = hi;
    }
  }
}

struct List {
  const Lanes* items[5] = {};
  size_t count = 0;

  List() noexcept {
    items[count++] = &kLanesGeneric;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("ssse3")) items[count++] = &kLanesSsse3;
    if (__builtin_cpu_supports("avx2")) {
      items[count++] = &kLanesAvx2;
      if (__builtin_cpu_supports("gfni")) items[count++] = &kLanesGfni;
    }
#endif
  }
};

const List& list() noexcept {
  static const List l;
  return l;
}

}  // namespace

const Lanes kLanesGeneric = {"generic", expand_nibbles, forward, backward, scale};

const Lanes* const* available_lanes() noexcept { return list().items; }

const Lanes* lanes_by_name(const char* name) noexcept {
  const List& l = list();
  for (size_t i = 0; i < l.count; i++) {
    if (std::strcmp(l.items[i]->name, name) == 0) return l.items[i];
  }
  return nullptr;
}

const Lanes* lanes_for(const char* kernels_name) noexcept {
  if (std::strcmp(kernels_name, "generic") == 0) return &kLanesGeneric;
  const List& l = list();
  if (std::strcmp(kernels_name, "avx2") == 0) {
    const Lanes* avx2 = lanes_by_name("avx2");
    return avx2 == nullptr ? l.items[l.count - 1] : avx2;
  }
  return l.items[l.count - 1];
}

}  // namespace zg
