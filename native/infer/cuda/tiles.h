// Weights as the kernels read them. A matrix is cut into row tiles of 16 and those into segments of 256 columns (the segment of
// inference.md 12.2). A segment of a tile is "lines" of 256 bytes, 16 bytes for each of its rows, and a tail of a few bytes a row: so a
// half-warp, one lane a row, loads whole lines, and a lane has all of its row. Sizes are the file's (Q3_K: 3.6 % more).
//
// Within a block of 32 columns, word t of the low (high) half holds columns 4t … 4t + 3 (16 more): the operands of a dot product of
// four bytes and of the fragments of mma.m16n8k32.
#pragma once

#include "../det/blocks.h"
#include "simt.h"

namespace zg::simt {

using det::Type;

constexpr uint32_t kRows = 16;
constexpr uint32_t kSegment = 256;

template <Type T>
struct Tile {
  static constexpr bool kFloat = T == Type::kF32 || T == Type::kF16 || T == Type::kBF16;
  // Types whose blocks are a line of nibbles, low half first.
  static constexpr bool kNibbles = T == Type::kQ4_0 || T == Type::kQ4_1 || T == Type::kQ5_0 || T == Type::kQ5_1 || T == Type::kQ4_K ||
                                   T == Type::kQ5_K || T == Type::kQ6_K || T == Type::kIQ4_NL || T == Type::kIQ4_XS || T == Type::kMXFP4;
  static constexpr bool kFifth = T == Type::kQ5_0 || T == Type::kQ5_1 || T == Type::kQ5_K;
  static constexpr bool kTable = T == Type::kIQ4_NL || T == Type::kIQ4_XS || T == Type::kMXFP4;
  // Halves of a block have scales of their own.
  static constexpr bool kHalves = T == Type::kQ6_K || T == Type::kQ2_K || T == Type::kQ3_K;
  static constexpr bool kMinimum = T == Type::kQ4_1 || T == Type::kQ5_1 || T == Type::kQ4_K || T == Type::kQ5_K || T == Type::kQ2_K;
  // Blocks have an integer scale: the product with it may leave the range of the fast conversion.
  static constexpr bool kScaled = kHalves || T == Type::kQ4_K || T == Type::kQ5_K || T == Type::kIQ4_XS;
  // What the stored quants are too large by.
  static constexpr int kOffset = T == Type::kQ4_0 ? 8 : T == Type::kQ5_0 ? 16 : T == Type::kQ6_K ? 32 : T == Type::kQ3_K ? 4 : 0;
  static constexpr int kLines = T == Type::kF32                                                    ? 64
                                : T == Type::kF16 || T == Type::kBF16                              ? 32
                                : T == Type::kQ8_0                                                 ? 17
                                : T == Type::kQ4_0 || T == Type::kIQ4_NL || T == Type::kQ4_K       ? 9
                                : T == Type::kQ4_1                                                 ? 10
                                : T == Type::kQ5_0 || T == Type::kQ5_K                             ? 11
                                : T == Type::kQ5_1                                                 ? 12
                                : T == Type::kQ6_K                                                 ? 13
                                : T == Type::kQ2_K                                                 ? 5
                                : T == Type::kQ3_K                                                 ? 7
                                                                                                   : 8;
  static constexpr int kTail = T == Type::kQ6_K || T == Type::kQ3_K        ? 2
                               : T == Type::kQ2_K                          ? 4
                               : T == Type::kIQ4_XS || T == Type::kMXFP4 ? 8
                                                                           : 0;
  static constexpr int kBytes = kLines * 256 + kTail * 16;
};

// Calls f with a type known at run time; false for an unknown one. ZG_FEW_TYPES: a quick build with the commonest.
template <class F>
inline bool with_type(Type type, const F& f) {
  switch (type) {
    case Type::kF32: f.template operator()<Type::kF32>(); return true;
    case Type::kF16: f.template operator()<Type::kF16>(); return true;
    case Type::kBF16: f.template operator()<Type::kBF16>(); return true;
    case Type::kQ4_0: f.template operator()<Type::kQ4_0>(); return true;
    case Type::kQ8_0: f.template operator()<Type::kQ8_0>(); return true;
    case Type::kQ4_K: f.template operator()<Type::kQ4_K>(); return true;
    case Type::kQ6_K: f.template operator()<Type::kQ6_K>(); return true;
#ifndef ZG_FEW_TYPES
    case Type::kQ4_1: f.template operator()<Type::kQ4_1>(); return true;
    case Type::kQ5_0: f.template operator()<Type::kQ5_0>(); return true;
    case Type::kQ5_1: f.template operator()<Type::kQ5_1>(); return true;
    case Type::kQ2_K: f.template operator()<Type::kQ2_K>(); return true;
    case Type::kQ3_K: f.template operator()<Type::kQ3_K>(); return true;
    case Type::kQ5_K: f.template operator()<Type::kQ5_K>(); return true;
    case Type::kIQ4_NL: f.template operator()<Type::kIQ4_NL>(); return true;
    case Type::kIQ4_XS: f.template operator()<Type::kIQ4_XS>(); return true;
    case Type::kMXFP4: f.template operator()<Type::kMXFP4>(); return true;
#endif
    default: return false;
  }
}

ZG_DEVICE uint32_t word_at(const uint8_t* p) { return *reinterpret_cast<const uint32_t*>(p); }
ZG_DEVICE uint32_t half_at(const uint8_t* p) { return *reinterpret_cast<const uint16_t*>(p); }
ZG_DEVICE uint32_t word_of(const Vec4& v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }
ZG_DEVICE float half_of(const Vec4& v, int i) { return det::half_float(static_cast<uint16_t>(word_of(v, i / 2) >> 16 * (i % 2))); }
ZG_DEVICE int32_t byte_of(const Vec4& v, int i) { return static_cast<int32_t>(word_of(v, i / 4) >> 8 * (i % 4) & 255u); }

// The eight nibbles of a word through a table of 16 signed bytes.
template <Type T>
ZG_DEVICE void look_up(uint32_t q, uint32_t* low, uint32_t* high) {
  // IQ4_NL's values, or twice those of E2M1.
  constexpr bool mx = T == Type::kMXFP4;
  constexpr uint32_t t0 = mx ? 0x03020100u : 0xBFAD9881u;
  constexpr uint32_t t1 = mx ? 0x0C080604u : 0xF6EADDCFu;
  constexpr uint32_t t2 = mx ? 0xFDFEFF00u : 0x26190D01u;
  constexpr uint32_t t3 = mx ? 0xF4F8FAFCu : 0x71594535u;
  uint32_t part[2];
  ZG_UNROLL
  for (int i = 0; i < 2; i++) {
    const uint32_t n = q >> 16 * i & 0xFFFFu;
    const uint32_t a = permute(t0, t1, n & 0x7777u);
    const uint32_t b = permute(t2, t3, n & 0x7777u);
    part[i] = permute(a, b, 0x3210u + ((n & 0x8888u) >> 1));
  }
  *low = permute(part[0], part[1], 0x6420u);
  *high = permute(part[0], part[1], 0x7531u);
}

// Bits 4t … 4t + 3 of a word as bits 0 of four bytes.
ZG_DEVICE uint32_t spread(uint32_t bits, int t) { return (bits >> 4 * t & 15u) * 0x00204081u & 0x01010101u; }

// Words t of the low and the high half of a block from its line's word and its further bits.
template <Type T>
ZG_DEVICE void expand(uint32_t nibbles, uint32_t extra0, uint32_t extra1, int t, uint32_t* low, uint32_t* high) {
  if constexpr (Tile<T>::kTable) {
    look_up<T>(nibbles, low, high);
  } else {
    *low = nibbles & 0x0F0F0F0Fu;
    *high = nibbles >> 4 & 0x0F0F0F0Fu;
    if constexpr (Tile<T>::kFifth) {
      *low |= spread(extra0, t) << 4;
      *high |= spread(extra0, t + 4) << 4;
    }
    if constexpr (T == Type::kQ6_K) {
      *low |= (extra0 >> 2 * t & 0x03030303u) << 4;
      *high |= (extra1 >> 2 * t & 0x03030303u) << 4;
    }
  }
}

// The bits of block b beside its line's nibbles, of a row: segment and row as in the layout.
template <Type T>
ZG_DEVICE void further_bits(const uint8_t* segment, uint32_t row, int b, uint32_t* extra) {
  extra[0] = extra[1] = 0;
  const uint8_t* at = segment + row * 16;
  if constexpr (Tile<T>::kFifth) extra[0] = word_at(at + (8 + b / 4) * 256 + 4 * (b % 4));
  if constexpr (T == Type::kQ6_K) {
    extra[0] = word_at(at + (8 + b / 2) * 256 + 8 * (b % 2));
    extra[1] = word_at(at + (8 + b / 2) * 256 + 8 * (b % 2) + 4);
  }
}

// Words t of block b of a row: segment and row as in the layout.
template <Type T>
ZG_DEVICE void fetch(const uint8_t* segment, uint32_t row, int b, int t, uint32_t* low, uint32_t* high) {
  const uint8_t* at = segment + row * 16;
  if constexpr (T == Type::kQ8_0) {
    *low = word_at(at + 512 * b + 4 * t);
    *high = word_at(at + 512 * b + 256 + 4 * t);
  } else if constexpr (Tile<T>::kNibbles) {
    uint32_t extra[2];
    further_bits<T>(segment, row, b, extra);
    expand<T>(word_at(at + 256 * b + 4 * t), extra[0], extra[1], t, low, high);
  } else {
    *low = word_at(at + b / 2 * 256 + 8 * (b % 2)) >> 2 * t & 0x03030303u;
    *high = word_at(at + b / 2 * 256 + 8 * (b % 2) + 4) >> 2 * t & 0x03030303u;
    if constexpr (T == Type::kQ3_K) {
      const uint32_t third = word_at(at + (4 + b / 4) * 256 + 4 * (b % 4));
      *low |= spread(third, t) << 2;
      *high |= spread(third, t + 4) << 2;
    }
  }
}

// All eight words of block b, low half, high half, from a row's lines in registers: line(l) is line l's vector. Indices are constants once loops are unrolled.
template <Type T, class Line>
ZG_DEVICE void take_block(const Line& line, int b, uint32_t* words) {
  if constexpr (T == Type::kQ8_0) {
    const Vec4 low = line(2 * b);
    const Vec4 high = line(2 * b + 1);
    ZG_UNROLL
    for (int t = 0; t < 4; t++) {
      words[t] = word_of(low, t);
      words[4 + t] = word_of(high, t);
    }
  } else if constexpr (Tile<T>::kNibbles) {
    uint32_t extra0 = 0;
    uint32_t extra1 = 0;
    if constexpr (Tile<T>::kFifth) extra0 = word_of(line(8 + b / 4), b % 4);
    if constexpr (T == Type::kQ6_K) {
      extra0 = word_of(line(8 + b / 2), 2 * (b % 2));
      extra1 = word_of(line(8 + b / 2), 2 * (b % 2) + 1);
    }
    ZG_UNROLL
    for (int t = 0; t < 4; t++) expand<T>(word_of(line(b), t), extra0, extra1, t, &words[t], &words[4 + t]);
  } else {
    ZG_UNROLL
    for (int t = 0; t < 4; t++) {
      words[t] = word_of(line(b / 2), 2 * (b % 2)) >> 2 * t & 0x03030303u;
      words[4 + t] = word_of(line(b / 2), 2 * (b % 2) + 1) >> 2 * t & 0x03030303u;
      if constexpr (T == Type::kQ3_K) {
        const uint32_t third = word_of(line(4 + b / 4), b % 4);
        words[t] |= spread(third, t) << 2;
        words[4 + t] |= spread(third, t + 4) << 2;
      }
    }
  }
}

// What turns a block's integer sums into a float (det/blocks.h), of a whole segment of a row.
struct Head {
  Vec4 a;
  Vec4 b;
};
template <Type T>
ZG_DEVICE Head head(const uint8_t* segment, uint32_t row) {
  const uint8_t* line = segment + row * 16;
  const uint8_t* tail = segment + Tile<T>::kLines * 256 + row * Tile<T>::kTail;
  Head h{};
  if constexpr (T == Type::kQ4_1 || T == Type::kQ5_1) {
    h.a = load16(line + (Tile<T>::kLines - 2) * 256);
    h.b = load16(line + (Tile<T>::kLines - 1) * 256);
  } else if constexpr (T == Type::kIQ4_XS || T == Type::kMXFP4) {
    h.a.x = word_at(tail);
    h.a.y = word_at(tail + 4);
  } else {
    h.a = load16(line + (Tile<T>::kLines - 1) * 256);
    if constexpr (Tile<T>::kTail == 2) h.b.x = half_at(tail);
    if constexpr (Tile<T>::kTail == 4) h.b.x = word_at(tail);
  }
  return h;
}

// A row's tail bytes, behind the lines.
template <Type T>
ZG_DEVICE void load_tail(const uint8_t* segment, uint32_t row, uint32_t* tail) {
  const uint8_t* at = segment + Tile<T>::kLines * 256 + row * Tile<T>::kTail;
  if constexpr (Tile<T>::kTail == 2) tail[0] = half_at(at);
  if constexpr (Tile<T>::kTail == 4) tail[0] = word_at(at);
  if constexpr (Tile<T>::kTail == 8) {
    tail[0] = word_at(at);
    tail[1] = word_at(at + 4);
  }
}
template <Type T, class Line>
ZG_DEVICE Head take_head(const Line& line, const uint32_t* tail) {
  Head h{};
  if constexpr (T == Type::kQ4_1 || T == Type::kQ5_1) {
    h.a = line(Tile<T>::kLines - 2);
    h.b = line(Tile<T>::kLines - 1);
  } else if constexpr (T == Type::kIQ4_XS || T == Type::kMXFP4) {
    h.a.x = tail[0];
    h.a.y = tail[1];
  } else {
    h.a = line(Tile<T>::kLines - 1);
    if constexpr (Tile<T>::kTail != 0) h.b.x = tail[0];
  }
  return h;
}

struct Scales {
  float d, dm;
  int32_t s0, s1, m0, m1;
};
template <Type T>
ZG_DEVICE Scales scales(const Head& h, int b) {
  Scales r{0, 0, 1, 1, 0, 0};
  if constexpr (T == Type::kQ8_0 || T == Type::kQ4_0 || T == Type::kQ5_0 || T == Type::kIQ4_NL) {
    r.d = half_of(h.a, b);
  } else if constexpr (T == Type::kQ4_1 || T == Type::kQ5_1) {
    r.d = half_of(h.a, b);
    r.dm = half_of(h.b, b);
    r.m0 = r.m1 = -1;
  } else if constexpr (T == Type::kQ4_K || T == Type::kQ5_K) {
    r.d = half_of(h.a, 0);
    r.dm = half_of(h.a, 1);
    // Twelve bytes of 6-bit pairs, from byte 4 on.
    const int32_t near = byte_of(h.a, 4 + b % 4);
    const int32_t far = byte_of(h.a, 8 + b % 4);
    const int32_t last = byte_of(h.a, 12 + b % 4);
    r.s0 = r.s1 = b < 4 ? near & 63 : (last & 15) | (near >> 6) << 4;
    r.m0 = r.m1 = b < 4 ? far & 63 : last >> 4 | (far >> 6) << 4;
  } else if constexpr (T == Type::kQ6_K || T == Type::kQ3_K) {
    r.d = det::half_float(static_cast<uint16_t>(h.b.x));
    r.s0 = static_cast<int8_t>(byte_of(h.a, 2 * b));
    r.s1 = static_cast<int8_t>(byte_of(h.a, 2 * b + 1));
  } else if constexpr (T == Type::kQ2_K) {
    r.d = det::half_float(static_cast<uint16_t>(h.b.x));
    r.dm = det::half_float(static_cast<uint16_t>(h.b.x >> 16));
    r.s0 = byte_of(h.a, 2 * b) & 15;
    r.m0 = byte_of(h.a, 2 * b) >> 4;
    r.s1 = byte_of(h.a, 2 * b + 1) & 15;
    r.m1 = byte_of(h.a, 2 * b + 1) >> 4;
  } else if constexpr (T == Type::kIQ4_XS) {
    r.d = half_of(h.a, 0);
    r.s0 = r.s1 = static_cast<int32_t>((h.a.y >> 4 * b & 15u) | (h.a.x >> (16 + 2 * b) & 3u) << 4) - 32;
  } else if constexpr (T == Type::kMXFP4) {
    r.d = det::mx_scale(static_cast<uint32_t>(byte_of(h.a, b)));
  }
  return r;
}

// One block's part of a product: low and high are the integer sums of the stored quants, x0 and x1 those of the activations.
template <Type T>
ZG_DEVICE float join(const Scales& w, int32_t low, int32_t high, int32_t x0, int32_t x1, float dx, float acc) {
  constexpr int off = Tile<T>::kOffset;
  int32_t s;
  if constexpr (Tile<T>::kHalves) {
    s = w.s0 * (low - off * x0) + w.s1 * (high - off * x1);
  } else if constexpr (Tile<T>::kScaled) {
    s = w.s0 * (low + high);
  } else {
    s = low + high - off * (x0 + x1);
  }
  acc = det::fma1(static_cast<float>(s), det::mul1(w.d, dx), acc);
  if constexpr (Tile<T>::kMinimum) {
    int32_t m;
    if constexpr (T == Type::kQ2_K) {
      m = w.m0 * x0 + w.m1 * x1;
    } else {
      m = w.m0 * (x0 + x1);
    }
    acc = det::fma1(static_cast<float>(-m), det::mul1(w.dm, dx), acc);
  }
  return acc;
}

// Bytes of a matrix in this layout.
size_t tiled_bytes(Type type, size_t rows, size_t columns);
// Lays rows of whole blocks out; columns and rows that are missing to whole segments and tiles become zeros. Host code.
void lay_tiles(Type type, const uint8_t* rows_data, size_t rows, size_t columns, size_t row_bytes, uint8_t* out);

}  // namespace zg::simt
