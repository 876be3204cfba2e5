#include "tiles.h"

#include <algorithm>

namespace zg::simt {
namespace {

template <Type T>
void lay_row(const uint8_t* row, size_t columns, size_t segment, uint32_t r, uint8_t* out) {
  const size_t first = segment * kSegment;
  const auto line = [&](int l) { return out + 256 * l + 16 * r; };
  uint8_t* tail = out + Tile<T>::kLines * 256 + r * Tile<T>::kTail;
  if constexpr (Tile<T>::kFloat) {
    const size_t size = det::type_shape(T).bytes;
    const size_t n = std::min<size_t>(kSegment, columns - first);
    const size_t per_line = 16 / size;
    for (size_t c = 0; c < n; c++) {
      memcpy(line(static_cast<int>(c / per_line)) + c % per_line * size, row + (first + c) * size, size);
    }
    return;
  }
  const size_t blocks = std::min<size_t>(8, (columns - first) / 32);
  const uint32_t bytes = det::type_shape(T).bytes;
  const uint8_t* super = row + segment * bytes;
  for (size_t b = 0; b < blocks; b++) {
    const auto bi = static_cast<int>(b);
    det::Block w;
    det::unpack_block(T, row, segment * 8 + b, &w);
    // Quants as they are stored: never negative but for Q8_0 and the tables.
    uint8_t q[32];
    for (int i = 0; i < 32; i++) q[i] = static_cast<uint8_t>(w.q[i] + Tile<T>::kOffset);
    if constexpr (T == Type::kQ8_0) {
      memcpy(line(2 * bi), q, 16);
      memcpy(line(2 * bi + 1), q + 16, 16);
    } else if constexpr (Tile<T>::kTable) {
      // The codes themselves.
      const uint8_t* codes = T == Type::kIQ4_XS ? super + 8 + 16 * b : row + (segment * 8 + b) * bytes + (T == Type::kIQ4_NL ? 2 : 1);
      memcpy(line(bi), codes, 16);
    } else if constexpr (Tile<T>::kNibbles) {
      for (int i = 0; i < 16; i++) line(bi)[i] = static_cast<uint8_t>((q[i] & 15) | (q[i + 16] & 15) << 4);
    }
    if constexpr (Tile<T>::kFifth || T == Type::kQ3_K) {
      uint32_t bits = 0;
      for (int i = 0; i < 32; i++) bits |= uint32_t{q[i]} >> (T == Type::kQ3_K ? 2 : 4) << 31 >> (31 - i);
      memcpy(line((T == Type::kQ3_K ? 4 : 8) + bi / 4) + 4 * (b % 4), &bits, 4);
    }
    if constexpr (Tile<T>::kHalves) {
      // Two bits a column: byte j of a word holds columns j, 4 + j, 8 + j, 12 + j of a half.
      uint8_t* two = line((T == Type::kQ6_K ? 8 : 0) + bi / 2) + 8 * (b % 2);
      memset(two, 0, 8);
      for (int i = 0; i < 32; i++) {
        const int value = T == Type::kQ6_K ? q[i] >> 4 : q[i] & 3;
        two[4 * (i / 16) + i % 4] = static_cast<uint8_t>(two[4 * (i / 16) + i % 4] | value << 2 * (i % 16 / 4));
      }
    }
    // Scales.
    if constexpr (T == Type::kQ8_0 || T == Type::kQ4_0 || T == Type::kQ5_0 || T == Type::kIQ4_NL) {
      memcpy(line(Tile<T>::kLines - 1) + 2 * b, row + (segment * 8 + b) * bytes, 2);
    } else if constexpr (T == Type::kQ4_1 || T == Type::kQ5_1) {
      memcpy(line(Tile<T>::kLines - 2) + 2 * b, row + (segment * 8 + b) * bytes, 2);
      memcpy(line(Tile<T>::kLines - 1) + 2 * b, row + (segment * 8 + b) * bytes + 2, 2);
    } else if constexpr (T == Type::kMXFP4) {
      tail[b] = row[(segment * 8 + b) * bytes];
    } else if constexpr (T == Type::kQ3_K) {
      for (size_t h = 0; h < 2; h++) line(6)[2 * b + h] = static_cast<uint8_t>(w.s[h]);
    }
  }
  if constexpr (T == Type::kQ4_K || T == Type::kQ5_K) memcpy(line(Tile<T>::kLines - 1), super, 16);
  if constexpr (T == Type::kQ6_K) {
    memcpy(line(12), super + 192, 16);
    memcpy(tail, super + 208, 2);
  }
  if constexpr (T == Type::kQ2_K) {
    memcpy(line(4), super, 16);
    memcpy(tail, super + 80, 4);
  }
  if constexpr (T == Type::kQ3_K) memcpy(tail, super + 108, 2);
  if constexpr (T == Type::kIQ4_XS) memcpy(tail, super, 8);
}

}  // namespace

size_t tiled_bytes(Type type, size_t rows, size_t columns) {
  size_t bytes = 0;
  with_type(type, [&]<Type T>() { bytes = (rows + kRows - 1) / kRows * ((columns + kSegment - 1) / kSegment) * Tile<T>::kBytes; });
  return bytes;
}

void lay_tiles(Type type, const uint8_t* rows_data, size_t rows, size_t columns, size_t row_bytes, uint8_t* out) {
  memset(out, 0, tiled_bytes(type, rows, columns));
  const size_t segments = (columns + kSegment - 1) / kSegment;
  with_type(type, [&]<Type T>() {
    for (size_t r = 0; r < rows; r++) {
      for (size_t s = 0; s < segments; s++) {
        lay_row<T>(rows_data + r * row_bytes, columns, s, r % kRows, out + (r / kRows * segments + s) * Tile<T>::kBytes);
      }
    }
  });
}

}  // namespace zg::simt
