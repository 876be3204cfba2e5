#include "da_blob.h"

#include <cstring>
#include <memory>
#include <new>

#include "da_sums.h"

namespace zg {

bool shape_of(const uint8_t* tag, DaShape* shape) noexcept {
  if (tag[0] != 1 || tag[1] > kMaxLogRows) return false;
  shape->k = size_t{1} << tag[1];
  shape->w = tag[4] | size_t{tag[5]} << 8 | size_t{tag[6]} << 16 | size_t{tag[7]} << 24;
  return shape->w >= kBlockBytes && shape->w <= kMaxRowBytes && shape->w % kBlockBytes == 0;
}

bool encode_blob(const uint8_t* tag, const uint8_t* data, size_t size, uint8_t* parity, uint8_t* out, const Kernels& kernels,
                 const Lanes& lanes) noexcept {
  DaShape shape;
  if (!shape_of(tag, &shape) || size > shape.k * shape.w) return false;
  const auto [k, w] = shape;
  const std::unique_ptr<const uint8_t*[]> rows(new (std::nothrow) const uint8_t*[3 * k]);
  // Rows that the data does not fill.
  const size_t whole = size / w;
  const std::unique_ptr<uint8_t[]> rest(new (std::nothrow) uint8_t[(k - whole) * w + 1]());
  std::unique_ptr<uint8_t[]> own;
  if (parity == nullptr) {
    own.reset(new (std::nothrow) uint8_t[2 * k * w]);
    parity = own.get();
  }
  if (rows == nullptr || rest == nullptr || parity == nullptr) return false;
  if (size % w != 0) std::memcpy(rest.get(), data + whole * w, size % w);
  for (size_t i = 0; i < k; i++) rows[i] = i < whole ? data + i * w : rest.get() + (i - whole) * w;
  for (size_t i = 0; i < 2 * k; i++) rows[k + i] = parity + i * w;
  if (!encode_rows(rows.get(), k, w, parity, lanes)) return false;
  row_roots(tag, rows.get(), 3 * k, w, out, kernels);

  const std::unique_ptr<uint8_t[]> tree(new (std::nothrow) uint8_t[(8 * k - 1) * kHashBytes]());
  if (tree == nullptr) return false;
  std::memcpy(tree.get(), out, 3 * k * kHashBytes);
  tree_nodes(tree.get(), 4 * k, kernels);
  uint8_t p[kTagBytes + kHashBytes];
  std::memcpy(p, tag, kTagBytes);
  std::memcpy(p + kTagBytes, tree.get() + (8 * k - 2) * kHashBytes, kHashBytes);
  uint8_t seed[kHashBytes];
  coefficient_seed(p, seed, kernels);
  return row_sums(seed, rows.get(), k, w, out + 3 * k * kHashBytes, kernels);
}

}  // namespace zg
