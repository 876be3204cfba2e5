// A reader of GGUF files, version 2 and 3 (inference.md sections 1.1 and 1.4). The file is a stranger's: every count, length and
// offset is checked against the bytes that are there before it is used, so once open() returns, views cannot leave the file.
// Nothing is copied: strings and arrays are views into the mapping and live as long as the File.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tensor_type.h"

namespace zg::gguf {

enum class ValueType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

// What is wrong and where. The message names the key or tensor and the byte of the file; it is ASCII.
struct Error {
  std::string message;
  bool failed() const { return !message.empty(); }
};

// A metadata value. Scalars: count 1, element = type. Arrays: count elements of type element, one behind the other from data.
// Strings and nested arrays have elements of differing size: walk them with Strings (below) or, for arrays, element by element.
struct Value {
  std::string_view key;
  ValueType type = ValueType::kU8;
  ValueType element = ValueType::kU8;
  uint64_t count = 0;
  // First byte of the value or of the first element (a string starts with its length). Not aligned.
  const uint8_t* data = nullptr;
  // Bytes from data that belong to the value.
  uint64_t size = 0;
  // Of the key in the file.
  uint64_t offset = 0;

  bool is_array_of(ValueType wanted) const { return type == ValueType::kArray && element == wanted; }
  // Element i < count of a scalar or array of any integer type, or of f32/f64; false for other types and, in to_int, for a u64
  // above 2⁶³ − 1. Bounds are the caller's duty.
  bool to_int(uint64_t i, int64_t* out) const;
  bool to_float(uint64_t i, float* out) const;
  // The bytes of a string; empty for anything else.
  std::string_view to_string() const;
};

// Walks the strings of a value (array of strings, or one string) in order.
//   for (gguf::Strings s(*value); s.next(&piece);) …
class Strings {
 public:
  explicit Strings(const Value& value);
  // False at the end.
  bool next(std::string_view* out);

 private:
  const uint8_t* at_;
  const uint8_t* end_;
  uint64_t left_;
};

struct Tensor {
  std::string_view name;
  const TypeInfo* type = nullptr;
  // Fastest first; unused ones are 1.
  uint64_t dims[4] = {1, 1, 1, 1};
  uint32_t dim_count = 0;
  // Product of dims.
  uint64_t values = 0;
  uint64_t size_bytes = 0;
  const uint8_t* data = nullptr;
  // Of the description and of the data in the file.
  uint64_t info_offset = 0;
  uint64_t data_offset = 0;
  // Of a model in several files, the one it lies in, from 0.
  uint32_t part = 0;
};

// Maps a file for reading; unmapped with the object.
class Mapping {
 public:
  Mapping() = default;
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  // False with the reason in error.
  bool open(const char* path, Error* error) noexcept;
  // True while the file still has the size and the time of change that it had when mapped.
  bool unchanged() const noexcept;
  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  int fd_ = -1;
  int64_t seconds_ = 0;
  int64_t nanoseconds_ = 0;
};

class File {
 public:
  // Opens and checks a file, or nullptr with the reason in error. When it is one of several that a model was split over (split.count),
  // all of them are opened: the metadata are the first one's, the tensors everybody's. Any part may be named.
  static std::unique_ptr<File> open(const char* path, Error* error) noexcept;
  // One file alone, whatever it says about others.
  static std::unique_ptr<File> open_part(const char* path, Error* error) noexcept;
  // The same for bytes in memory, which must outlive the File.
  static std::unique_ptr<File> parse(const uint8_t* data, size_t size, Error* error) noexcept;

  // Metadata by key, or nullptr.
  const Value* find(std::string_view key) const;
  // Tensor by name, or nullptr.
  const Tensor* tensor(std::string_view name) const;

  // These leave *out alone when the key is absent, and return false, with error set, when it is there with a value of another kind
  // or out of range. Integers may have any integer type.
  bool get(std::string_view key, uint32_t* out, Error* error) const;
  bool get(std::string_view key, float* out, Error* error) const;
  bool get(std::string_view key, bool* out, Error* error) const;
  bool get(std::string_view key, std::string_view* out, Error* error) const;
  // Integer of an element: a scalar gives its value for every i, an array (one entry a layer) its element i.
  bool get_at(std::string_view key, uint64_t i, uint32_t* out, Error* error) const;

  const std::vector<Value>& metadata() const { return metadata_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }
  uint32_t version() const { return version_; }
  uint64_t alignment() const { return alignment_; }
  const uint8_t* data() const { return data_; }
  // Of all parts.
  uint64_t size() const;
  // True when the bytes from begin to end are a mapped file's, false when they are somebody's memory.
  bool maps(const uint8_t* begin, const uint8_t* end) const;
  // False when a file was changed in place or cut since it was opened.
  bool unchanged() const;
  // Paths of the parts in order; one path for a whole file, none for bytes in memory.
  const std::vector<std::string>& paths() const { return paths_; }
  // True when the file is a part and the others are not here.
  bool is_lone_part() const;

 private:
  static std::unique_ptr<File> open_parts(std::unique_ptr<File> named, uint32_t count, Error* error);
  bool join(std::unique_ptr<File> part, uint32_t index, Error* error);
  bool read(Error* error);
  bool read_metadata(Error* error);
  bool read_tensors(Error* error);
  bool place_tensors(uint64_t base, Error* error);

  std::unique_ptr<Mapping> mapping_;
  std::vector<std::string> paths_;
  // The parts behind the first, which the tensors' pointers and names lead into.
  std::vector<std::unique_ptr<File>> parts_;
  const uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
  uint64_t at_ = 0;
  uint32_t version_ = 0;
  uint64_t alignment_ = 32;
  uint64_t tensor_count_ = 0;
  uint64_t metadata_count_ = 0;
  std::vector<Value> metadata_;
  std::vector<Tensor> tensors_;
  std::unordered_map<std::string_view, uint32_t> key_index_;
  std::unordered_map<std::string_view, uint32_t> tensor_index_;
};

// Text for messages: bytes outside printable ASCII become '?', more than 64 are cut.
std::string printable(std::string_view text);

// Sets error to "<what> at byte <offset>" and returns false.
bool fail_at(Error* error, std::string what, uint64_t offset);

}  // namespace zg::gguf
