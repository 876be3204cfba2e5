// Weights as the level's products want them (layout.h): made once at load, in parallel, from the rows of a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "../det/det_model.h"
#include "layout.h"
#include "workers.h"

namespace zg::cpu {

// Memory of whole pages, large ones where the system has them.
class Memory {
 public:
  Memory() = default;
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  // Zeros. False when there is none.
  bool allocate(size_t bytes);
  uint8_t* data() { return data_; }

 private:
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

// One matrix, or count matrices (experts) of equal shape behind one another.
struct Packed {
  ZgMatrix first{};
  // Of a row group alone; first.group_bytes is how far apart groups lie.
  size_t own_bytes = 0;
  size_t matrix_bytes = 0;

  bool present() const { return first.data != nullptr; }
  bool floats() const { return det::is_float_type(static_cast<det::Type>(first.type)); }
  ZgMatrix matrix(size_t index) const {
    ZgMatrix m = first;
    m.data += index * matrix_bytes;
    return m;
  }
};

// Shape of count matrices of `rows` rows; data is null still.
Packed packed_shape(const det::Matrix& from, size_t rows);
// The same for two that are always read together: a group of the one lies beside the group of the other.
void lay_together(Packed* a, Packed* b);
inline size_t packed_bytes(const Packed& p, size_t count) { return p.own_bytes * p.first.groups * count; }
// Fills to (packed_bytes, zeroed; of two together: both from where their first group lies).
void pack(const det::Matrix& from, size_t rows, size_t count, bool unsigned_q8, uint8_t* to, Packed* p, Workers* workers);

}  // namespace zg::cpu
