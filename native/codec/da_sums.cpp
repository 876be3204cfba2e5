// Products by tables: for each symbol j and each nibble n of it, the sixteen multiples v · 2^(4n) · r[j] lie ready as 16-byte vectors,
// so that a symbol costs four loads and exclusive ors, whatever the machine. The tables of 16 symbols, half a block, have 16 KiB and
// stay in the first level cache: made once, used for that half block of all rows. Sums are kept as polynomials and turned into Cantor coordinates at the end.
#include "da_sums.h"

#include <cstring>
#include <memory>
#include <new>

#include "da_field.h"

namespace zg {
namespace {

constexpr size_t kStepSymbols = 16;
constexpr size_t kHashesAStep = kStepSymbols / 2;

// Eight symbols side by side.
typedef uint16_t Vector __attribute__((vector_size(16)));

Vector to_polynomials(const Field& f, const uint8_t* symbols) noexcept {
  Vector v;
  for (size_t m = 0; m < 8; m++) {
    v[m] = static_cast<uint16_t>(f.to_polynomial[0][symbols[2 * m]] ^ f.to_polynomial[1][symbols[2 * m + 1]]);
  }
  return v;
}

// Times x.
Vector twice(Vector v) noexcept {
  const Vector top = v >> 15;  // 0 or 1
  return (v << 1) ^ (top * 0x2d);
}

// tables[16·n + v] = v · 2^(4n) · r, all in Cantor coordinates but the result.
void make_tables(Vector r, Vector* tables) noexcept {
  Vector powers[16];
  powers[0] = r;
  for (size_t b = 1; b < 16; b++) powers[b] = twice(powers[b - 1]);
  for (size_t i = 0; i < 16; i++) {
    Vector product = {};
    for (size_t b = 0; b < 16; b++) {
      if ((kCantorBasis[i] >> b & 1) != 0) product ^= powers[b];
    }
    Vector* nibble = tables + 16 * (i / 4);
    const size_t bit = size_t{1} << (i % 4);
    if (bit == 1) nibble[0] = Vector{};
    for (size_t v = 0; v < bit; v++) nibble[v + bit] = nibble[v] ^ product;
  }
}

}  // namespace

void coefficient_seed(const uint8_t* p, uint8_t* seed, const Kernels& k) noexcept {
  static const char domain[] = "zg-da/r/1";
  uint8_t message[sizeof domain - 1 + 48];
  std::memcpy(message, domain, sizeof domain - 1);
  std::memcpy(message + sizeof domain - 1, p, 48);
  k.one(message, sizeof message, seed);
}

bool row_sums(const uint8_t* seed, const uint8_t* const* rows, size_t count, size_t w, uint8_t* out,
              const Kernels& k) noexcept {
  const Field& f = field();
  const std::unique_ptr<Vector[]> sums(new (std::nothrow) Vector[count + 1]());
  if (sums == nullptr) return false;
  alignas(64) Vector tables[kStepSymbols * 64];
  uint8_t r[kHashesAStep * kHashBytes];
  for (size_t step = 0; step < w / 2 / kStepSymbols; step++) {
    hash_stream(seed, step * kHashesAStep, kHashesAStep, r, k);
    for (size_t j = 0; j < kStepSymbols; j++) make_tables(to_polynomials(f, r + 16 * j), tables + 64 * j);
    const size_t from = 64 * (step / 2) + kStepSymbols * (step % 2);
    for (size_t i = 0; i < count; i++) {
      const uint8_t* at = rows[i] + from;
      // The next block of this row comes after all other rows: too late for the machine to see a pattern.
      if (step % 2 == 1 && from + kStepSymbols + 32 < w) __builtin_prefetch(at + 64, 0, 2);
      Vector even = sums[i];
      Vector odd = {};
      for (size_t j = 0; j < kStepSymbols; j++) {
        const Vector* t = tables + 64 * j;
        const size_t lo = at[j];
        const size_t hi = at[32 + j];
        even ^= t[lo & 15] ^ t[16 + (lo >> 4)];
        odd ^= t[32 + (hi & 15)] ^ t[48 + (hi >> 4)];
      }
      sums[i] = even ^ odd;
    }
  }
  for (size_t i = 0; i < count; i++) {
    for (size_t m = 0; m < 8; m++) {
      const uint16_t s = sums[i][m];
      const uint16_t c = f.from_polynomial[0][s & 0xff] ^ f.from_polynomial[1][s >> 8];
      out[16 * i + 2 * m] = static_cast<uint8_t>(c);
      out[16 * i + 2 * m + 1] = static_cast<uint8_t>(c >> 8);
    }
  }
  return true;
}

}  // namespace zg
