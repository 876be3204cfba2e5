#include "packed.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "types.h"

namespace zg::cpu {
namespace {

using det::Block;
using det::Type;

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kLine = 64;

struct Kind {
  ZgCode code;
  // Power of two, or −1.
  int offset;
  ZgScale scale;
};

Kind kind_of(uint32_t type) {
  switch (type) {
#define X(id, name, code, offset, scale) \
  case id: return {code, offset, scale};
    ZG_QUANTIZED_TYPES(X)
#undef X
    default: return {ZG_CODE_FLOAT, -1, ZG_SCALE_D};
  }
}

// The nibble that stands for a value.
uint8_t nibble_of(uint32_t type, int value) {
  static constexpr int8_t kIq4[16] = ZG_TABLE_IQ4;
  static constexpr int8_t kMx[16] = ZG_TABLE_MX;
  const int8_t* table = type == static_cast<uint32_t>(Type::kMXFP4) ? kMx : kIq4;
  for (uint8_t i = 0; i < 16; i++) {
    if (table[i] == value) return i;
  }
  return 0;
}

struct Nibbles {
  uint8_t of[2][256];
  Nibbles() {
    for (int v = -128; v < 128; v++) {
      of[0][v & 255] = nibble_of(static_cast<uint32_t>(Type::kIQ4_NL), v);
      of[1][v & 255] = nibble_of(static_cast<uint32_t>(Type::kMXFP4), v);
    }
  }
};

void put_half(uint8_t* at, float v) {
  const uint16_t h = det::float_half(v);
  std::memcpy(at, &h, sizeof h);
}

void put_codes(const Kind& kind, uint32_t type, bool unsigned_q8, const Block& b, int r, uint8_t* tile) {
  static const Nibbles nibbles;
  uint8_t codes[32];
  for (int i = 0; i < 32; i++) {
    const int q = b.q[i];
    switch (kind.code) {
      case ZG_CODE_8: codes[i] = static_cast<uint8_t>(unsigned_q8 ? q + 128 : q); break;
      case ZG_CODE_4_TABLE: codes[i] = nibbles.of[type == static_cast<uint32_t>(Type::kMXFP4)][q & 255]; break;
      default: codes[i] = static_cast<uint8_t>(kind.offset < 0 ? q : q + (1 << kind.offset)); break;
    }
  }
  for (int k = 0; k < 8; k++) {
    for (int i = 0; i < 4; i++) {
      const int at = 4 * r + i;
      const unsigned c = codes[4 * k + i];
      if (kind.code == ZG_CODE_8) {
        tile[64 * k + at] = static_cast<uint8_t>(c);
        continue;
      }
      if (kind.code == ZG_CODE_2 || kind.code == ZG_CODE_3) {
        tile[64 * (k / 4) + at] |= static_cast<uint8_t>((c & 3) << (2 * (k % 4)));
        if (kind.code == ZG_CODE_3) tile[128 + at] |= static_cast<uint8_t>((c >> 2) << k);
        continue;
      }
      tile[64 * (k % 4) + at] |= static_cast<uint8_t>(k < 4 ? c & 15 : (c & 15) << 4);
      if (kind.code == ZG_CODE_5) tile[256 + at] |= static_cast<uint8_t>((c >> 4) << k);
      if (kind.code == ZG_CODE_6) tile[256 + 64 * (k / 4) + at] |= static_cast<uint8_t>((c >> 4) << (2 * (k % 4)));
    }
  }
}

// Those of block number j of a segment.
void put_scales(ZgScale scale, const Block& b, size_t j, int r, uint8_t* aux) {
  uint8_t* own = aux + j * static_cast<size_t>(ZG_AUX_BYTES(scale));
  uint8_t* super = aux;
  const auto byte = [&](size_t at, int32_t v) { super[at + static_cast<size_t>(r)] = static_cast<uint8_t>(v); };
  switch (scale) {
    case ZG_SCALE_D: put_half(own + 2 * r, b.d); return;
    case ZG_SCALE_F: std::memcpy(own + 4 * r, &b.d, 4); return;
    case ZG_SCALE_DM:
      put_half(own + 2 * r, b.d);
      put_half(own + 32 + 2 * r, b.dm);
      return;
    case ZG_SCALE_K1:
    case ZG_SCALE_K2: put_half(super + 2 * r, b.d); break;
    case ZG_SCALE_K1M:
    case ZG_SCALE_K2M:
      put_half(super + 2 * r, b.d);
      put_half(super + 32 + 2 * r, b.dm);
      break;
  }
  switch (scale) {
    case ZG_SCALE_K1: byte(32 + 16 * j, b.s[0]); return;
    case ZG_SCALE_K1M:
      byte(64 + 32 * j, b.s[0]);
      byte(64 + 32 * j + 16, b.m[0]);
      return;
    case ZG_SCALE_K2:
      byte(32 + 32 * j, b.s[0]);
      byte(32 + 32 * j + 16, b.s[1]);
      return;
    default:
      byte(64 + 64 * j, b.s[0]);
      byte(64 + 64 * j + 16, b.s[1]);
      byte(64 + 64 * j + 32, b.m[0]);
      byte(64 + 64 * j + 48, b.m[1]);
  }
}

typedef uint32_t Words __attribute__((vector_size(16)));

Words load_words(const uint8_t* p) {
  Words v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
void store_words(uint8_t* p, const Words& v) { std::memcpy(p, &v, sizeof v); }

// Words 0 … 3 of four rows become, word by word, those of the four rows.
void transpose(Words* v) {
  const Words a = __builtin_shufflevector(v[0], v[1], 0, 4, 1, 5);
  const Words b = __builtin_shufflevector(v[0], v[1], 2, 6, 3, 7);
  const Words c = __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5);
  const Words d = __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7);
  v[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
  v[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
  v[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
  v[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

// Four quads of 16 rows: row(r) gives the quads of row r, which go to tile + 64 · quad.
template <typename RowOf>
void put_quads(uint8_t* tile, const RowOf& row) {
  for (int r = 0; r < ZG_ROWS; r += 4) {
    Words v[4] = {row(r), row(r + 1), row(r + 2), row(r + 3)};
    transpose(v);
    for (int k = 0; k < 4; k++) store_words(tile + 64 * k + 4 * r, v[k]);
  }
}

// Quad k and quad k + 4 of a block whose codes are nibbles of 32 bytes, all low or all high.
Words nibble_quads(const uint8_t* q, uint32_t shift) {
  const Words low = load_words(q) >> shift & 0x0f0f0f0fu;
  const Words high = load_words(q + 16) >> shift & 0x0f0f0f0fu;
  return low | high << 4;
}

// Block b of all 16 rows of a group, for the types that most files are made of; false for others. aux: of the block's segment. Same bytes as
// put_codes and put_scales give.
bool pack_tile(uint32_t type, const uint8_t* rows, size_t row_bytes, size_t b, bool unsigned_q8, uint8_t* tile, uint8_t* aux) {
  const auto at = [&](int r) { return rows + static_cast<size_t>(r) * row_bytes; };
  const size_t j = b % 8;
  switch (static_cast<Type>(type)) {
    case Type::kQ8_0: {
      const uint32_t flip = unsigned_q8 ? 0x80808080u : 0;
      put_quads(tile, [&](int r) { return load_words(at(r) + 34 * b + 2) ^ flip; });
      put_quads(tile + 256, [&](int r) { return load_words(at(r) + 34 * b + 18) ^ flip; });
      for (int r = 0; r < ZG_ROWS; r++) std::memcpy(aux + 32 * j + 2 * static_cast<size_t>(r), at(r) + 34 * b, 2);
      return true;
    }
    // Nibbles lie as in the file.
    case Type::kQ4_0:
    case Type::kIQ4_NL:
      put_quads(tile, [&](int r) { return load_words(at(r) + 18 * b + 2); });
      for (int r = 0; r < ZG_ROWS; r++) std::memcpy(aux + 32 * j + 2 * static_cast<size_t>(r), at(r) + 18 * b, 2);
      return true;
    case Type::kQ4_K: {
      const size_t super = b / 8 * 144;
      const uint32_t shift = j % 2 == 0 ? 0 : 4;
      put_quads(tile, [&](int r) { return nibble_quads(at(r) + super + 16 + 32 * (j / 2), shift); });
      for (int r = 0; r < ZG_ROWS; r++) {
        const uint8_t* p = at(r) + super;
        if (j == 0) {
          std::memcpy(aux + 2 * r, p, 2);
          std::memcpy(aux + 32 + 2 * r, p + 2, 2);
        }
        const uint8_t* s = p + 4;
        uint8_t* factors = aux + 64 + 32 * j + r;
        factors[0] = static_cast<uint8_t>(j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4);
        factors[16] = static_cast<uint8_t>(j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | (s[j] >> 6) << 4);
      }
      return true;
    }
    case Type::kQ6_K: {
      const size_t super = b / 8 * 210;
      const size_t half = j / 4;
      const size_t g = j % 4;
      put_quads(tile, [&](int r) { return nibble_quads(at(r) + super + 64 * half + 32 * (g % 2), g < 2 ? 0 : 4); });
      // Two bits more: four quads in one byte, of each half of the block.
      for (size_t part = 0; part < 2; part++) {
        for (int r = 0; r < ZG_ROWS; r += 4) {
          Words v[4];
          for (int i = 0; i < 4; i++) {
            v[i] = load_words(at(r + i) + super + 128 + 32 * half + 16 * part) >> static_cast<uint32_t>(2 * g) & 0x03030303u;
          }
          transpose(v);
          store_words(tile + 256 + 64 * part + 4 * r, v[0] | v[1] << 2 | v[2] << 4 | v[3] << 6);
        }
      }
      for (int r = 0; r < ZG_ROWS; r++) {
        const uint8_t* p = at(r) + super;
        if (j == 0) std::memcpy(aux + 2 * r, p + 208, 2);
        uint8_t* factors = aux + 32 + 32 * j + r;
        factors[0] = p[192 + 2 * j];
        factors[16] = p[192 + 2 * j + 1];
      }
      return true;
    }
    default: return false;
  }
}

void pack_floats(const det::Matrix& from, size_t first_row, int count, uint8_t* to) {
  const size_t word = from.type == Type::kF32 ? 4 : 2;
  for (int r = 0; r < count; r++) {
    const uint8_t* row = from.row(first_row + static_cast<size_t>(r));
    for (size_t c = 0; c < from.columns; c++) std::memcpy(to + (c * ZG_ROWS + static_cast<size_t>(r)) * word, row + c * word, word);
  }
}

void pack_group(const det::Matrix& from, const Packed& p, size_t first_row, int count, bool unsigned_q8, uint8_t* to) {
  if (p.floats()) return pack_floats(from, first_row, count, to);
  const Kind kind = kind_of(p.first.type);
  const auto tile = static_cast<size_t>(ZG_TILE_BYTES(kind.code));
  const size_t blocks = from.columns / 32;
  uint8_t* aux = to;
  Block block;
  for (size_t b = 0; b < blocks; b++, to += tile) {
    if (b % 8 == 0) {
      aux = to;
      to += ZG_SEGMENT_AUX(kind.scale, std::min<size_t>(8, blocks - b));
    }
    if (count == ZG_ROWS && pack_tile(p.first.type, from.row(first_row), from.row_bytes, b, unsigned_q8, to, aux)) continue;
    for (int r = 0; r < count; r++) {
      const uint8_t* row = from.row(first_row + static_cast<size_t>(r));
      det::unpack_block(from.type, row, b, &block);
      put_codes(kind, p.first.type, unsigned_q8, block, r, to);
      put_scales(kind.scale, block, b % 8, r, aux);
    }
  }
}

}  // namespace

Memory::~Memory() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

bool Memory::allocate(size_t bytes) {
  bytes_ = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  void* p = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return false;
#ifdef MADV_HUGEPAGE
  madvise(p, bytes_, MADV_HUGEPAGE);
#endif
  data_ = static_cast<uint8_t*>(p);
  return true;
}

Packed packed_shape(const det::Matrix& from, size_t rows) {
  Packed p;
  p.first.type = static_cast<uint32_t>(from.type);
  p.first.columns = static_cast<uint32_t>(from.columns);
  p.first.rows = static_cast<uint32_t>(rows);
  p.first.groups = static_cast<uint32_t>((rows + ZG_ROWS - 1) / ZG_ROWS);
  size_t bytes = 0;
  if (p.floats()) {
    bytes = from.columns * ZG_ROWS * (from.type == Type::kF32 ? 4 : 2);
  } else {
    const Kind kind = kind_of(p.first.type);
    const size_t blocks = from.columns / 32;
    const size_t rest = blocks % 8;
    bytes = blocks * static_cast<size_t>(ZG_TILE_BYTES(kind.code)) + blocks / 8 * static_cast<size_t>(ZG_SEGMENT_AUX(kind.scale, 8)) +
            (rest > 0 ? ZG_SEGMENT_AUX(kind.scale, rest) : 0);
  }
  p.own_bytes = p.first.group_bytes = (bytes + kLine - 1) / kLine * kLine;
  p.matrix_bytes = p.first.group_bytes * p.first.groups;
  return p;
}

void lay_together(Packed* a, Packed* b) {
  for (Packed* p : {a, b}) {
    p->first.group_bytes = a->own_bytes + b->own_bytes;
    p->matrix_bytes = p->first.group_bytes * p->first.groups;
  }
}

void pack(const det::Matrix& from, size_t rows, size_t count, bool unsigned_q8, uint8_t* to, Packed* p, Workers* workers) {
  const size_t groups = p->first.groups;
  workers->run(groups * count, 4, [&](size_t begin, size_t end) {
    for (size_t g = begin; g < end; g++) {
      const size_t matrix = g / groups;
      const size_t first = g % groups * ZG_ROWS;
      const size_t n = std::min<size_t>(ZG_ROWS, rows - first);
      pack_group(from, *p, matrix * rows + first, static_cast<int>(n), unsigned_q8,
                 to + matrix * p->matrix_bytes + g % groups * p->first.group_bytes);
    }
  });
  p->first.data = to;
}

}  // namespace zg::cpu
