#include "rs_sum.h"

#include <cstring>
#include <memory>
#include <new>

namespace zg {
namespace {

// Bytes of a row of the shard, see shard_sum.
constexpr size_t kRowBytes = 512;

// What X^16 … X^30 are: folds the upper half of a product of polynomials into the lower.
void reduce(uint8_t* wide, uint8_t* out) noexcept {
  const uint8_t* six = rs_tables().product[6];
  for (size_t i = 30; i >= 16; i--) {
    wide[i - 16] ^= six[wide[i]];
    wide[i - 15] ^= wide[i];
    wide[i - 13] ^= wide[i];
  }
  std::memcpy(out, wide, kTowerBytes);
}

// Multiplication by one element, by tables: 16 look-ups of 16 bytes.
struct Multiplier {
  uint64_t table[16][256][2];  // table[i][v] = v · X^i · factor

  void make(const uint8_t* factor) noexcept {
    uint8_t base[kTowerBytes];  // X^i · factor
    std::memcpy(base, factor, kTowerBytes);
    const RsTables& t = rs_tables();
    for (size_t i = 0; i < 16; i++) {
      table[i][0][0] = table[i][0][1] = 0;
      for (size_t b = 0; b < 8; b++) {
        const size_t bit = size_t{1} << b;
        uint8_t image[kTowerBytes];
        for (size_t n = 0; n < kTowerBytes; n++) image[n] = t.product[bit][base[n]];
        uint64_t word[2];
        std::memcpy(word, image, sizeof word);
        for (size_t v = 0; v < bit; v++) {
          table[i][bit + v][0] = table[i][v][0] ^ word[0];
          table[i][bit + v][1] = table[i][v][1] ^ word[1];
        }
      }
      const uint8_t top = base[15];
      std::memmove(base + 1, base, 15);
      base[0] = t.product[6][top];
      base[1] ^= top;
      base[3] ^= top;
    }
  }

  // element = element · factor.
  void apply(uint8_t* element) const noexcept {
    uint64_t sum[2] = {0, 0};
    for (size_t i = 0; i < kTowerBytes; i++) {
      sum[0] ^= table[i][element[i]][0];
      sum[1] ^= table[i][element[i]][1];
    }
    std::memcpy(element, sum, sizeof sum);
  }
};

struct Work {
  Multiplier step;
  uint8_t last[kRowBytes];                                         // the last row, filled with zeros
  uint8_t sums[kTowerBytes][kRowBytes];                            // coefficient n of the sum of column b
  uint8_t powers[kTowerBytes * (kMaxShardBytes / kRowBytes + 1)];  // coefficient n of (rho^kRowBytes)^row
  const uint8_t* rows[kMaxShardBytes / kRowBytes + 1];
};

}  // namespace

void tower_mul(const uint8_t* a, const uint8_t* b, uint8_t* out) noexcept {
  const RsTables& t = rs_tables();
  uint8_t wide[31] = {};
  for (size_t i = 0; i < kTowerBytes; i++) {
    for (size_t j = 0; j < kTowerBytes; j++) wide[i + j] ^= t.product[a[i]][b[j]];
  }
  reduce(wide, out);
}

// With i = row · 512 + b the sum is Σ_b rho^b Σ_row (rho^512)^row · data[i]. The inner sums, for all b at once, are 16 linear
// combinations of the rows, which is what the code's own kernels do; the outer one is 512 steps of Horner's rule.
bool shard_sum(const uint8_t* rho, const uint8_t* data, size_t size, uint8_t* out, const RsPath& path) noexcept {
  const std::unique_ptr<Work> w(new (std::nothrow) Work);
  if (w == nullptr) return false;
  uint8_t stride[kTowerBytes];
  std::memcpy(stride, rho, kTowerBytes);
  for (size_t n = 1; n < kRowBytes; n *= 2) tower_mul(stride, stride, stride);

  const size_t rows = (size + kRowBytes - 1) / kRowBytes;
  for (size_t r = 0; r < rows; r++) w->rows[r] = data + r * kRowBytes;
  if (size % kRowBytes != 0) {
    std::memset(w->last, 0, kRowBytes);
    std::memcpy(w->last, data + (rows - 1) * kRowBytes, size % kRowBytes);
    w->rows[rows - 1] = w->last;
  }
  w->step.make(stride);
  uint8_t power[kTowerBytes] = {1};
  for (size_t r = 0; r < rows; r++) {
    for (size_t n = 0; n < kTowerBytes; n++) w->powers[n * rows + r] = power[n];
    w->step.apply(power);
  }
  uint8_t* targets[kTowerBytes];
  for (size_t n = 0; n < kTowerBytes; n++) targets[n] = w->sums[n];
  path.dot(w->powers, kTowerBytes, rows, w->rows, targets, kRowBytes);

  w->step.make(rho);
  uint8_t sum[kTowerBytes] = {};
  for (size_t b = kRowBytes; b-- > 0;) {
    w->step.apply(sum);
    for (size_t n = 0; n < kTowerBytes; n++) sum[n] ^= w->sums[n][b];
  }
  std::memcpy(out, sum, kTowerBytes);
  return true;
}

}  // namespace zg
