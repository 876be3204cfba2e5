// Tensor types of GGUF: sizes of their blocks, and how a row becomes floats (inference.md section 2).
#pragma once

#include <cstddef>
#include <cstdint>

namespace zg {

// Ids as in files of the types that have a product of their own (kernels.h); tensor_type() knows all.
enum class TensorType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ8_0 = 8,
  kBF16 = 30,
};

struct TypeInfo {
  uint32_t id;
  const char* name;
  // Values a block holds and the bytes it takes. A row is whole blocks.
  uint32_t block_values;
  uint32_t block_bytes;
  // Writes count values (whole blocks) as floats, each the exact value or, where a minimum is added, rounded once. nullptr: this
  // engine does not compute with the type.
  void (*dequantize)(const uint8_t* blocks, size_t count, float* out);
};

// The type with this id, or nullptr when files must not have it.
const TypeInfo* tensor_type(uint32_t id) noexcept;

// True for ids that early converters wrote and that were given up since.
bool is_removed_type(uint32_t id) noexcept;

// IEEE half to float, exact; subnormal numbers count.
float half_to_float(uint16_t half) noexcept;

}  // namespace zg
