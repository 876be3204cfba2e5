#include "gguf.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace zg::gguf {

static_assert(std::endian::native == std::endian::little, "GGUF is read as it lies in memory");

namespace {

constexpr uint64_t kMaxKeyBytes = 65'535;
constexpr uint64_t kMaxStringBytes = uint64_t{64} << 20;
constexpr uint64_t kMaxTensorNameBytes = 64;
constexpr int kMaxNesting = 4;
constexpr uint64_t kMaxMetadata = 65'536;
constexpr uint64_t kMaxTensors = 262'144;
constexpr uint64_t kMaxTensorValues = uint64_t{1} << 51;
// Bytes that the smallest entry of each kind takes.
constexpr uint64_t kMinMetadataBytes = 13;
constexpr uint64_t kMinTensorBytes = 33;

template <typename T>
T load(const uint8_t* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// Bytes of a scalar; 0 for strings, arrays and unknown types.
uint64_t scalar_bytes(ValueType type) {
  switch (type) {
    case ValueType::kU8:
    case ValueType::kI8:
    case ValueType::kBool:
      return 1;
    case ValueType::kU16:
    case ValueType::kI16:
      return 2;
    case ValueType::kU32:
    case ValueType::kI32:
    case ValueType::kF32:
      return 4;
    case ValueType::kU64:
    case ValueType::kI64:
    case ValueType::kF64:
      return 8;
    default:
      return 0;
  }
}

// A position in the file that never passes its end.
struct Cursor {
  const uint8_t* data;
  uint64_t size;
  uint64_t at;

  uint64_t left() const { return size - at; }

  template <typename T>
  bool read(T* out) {
    if (left() < sizeof(T)) return false;
    *out = load<T>(data + at);
    at += sizeof(T);
    return true;
  }
};

// A length and as many bytes. What is "key", "tensor name", or of a value.
bool read_string(Cursor* c, uint64_t max, const std::string& what, std::string_view* out, Error* error) {
  const uint64_t start = c->at;
  uint64_t length = 0;
  if (!c->read(&length)) return fail_at(error, what + ": the file ends within its length", start);
  if (length > max) {
    return fail_at(error, what + ": " + std::to_string(length) + " bytes long, at most " + std::to_string(max), start);
  }
  if (length > c->left()) {
    return fail_at(error, what + ": " + std::to_string(length) + " bytes long, the file has " + std::to_string(c->left()),
                   start);
  }
  *out = std::string_view(reinterpret_cast<const char*>(c->data + c->at), length);
  c->at += length;
  return true;
}

// Walks over one value of the type, which for an array starts with element type and count.
bool skip_value(Cursor* c, ValueType type, int depth, const std::string& what, Error* error) {
  const uint64_t start = c->at;
  if (type == ValueType::kString) {
    std::string_view ignored;
    return read_string(c, kMaxStringBytes, what, &ignored, error);
  }
  if (type == ValueType::kArray) {
    if (depth >= kMaxNesting) return fail_at(error, what + ": arrays nested deeper than 4", start);
    uint32_t element = 0;
    uint64_t count = 0;
    if (!c->read(&element) || !c->read(&count)) return fail_at(error, what + ": the file ends within the array's head", start);
    const auto element_type = static_cast<ValueType>(element);
    uint64_t least = scalar_bytes(element_type);
    if (element_type == ValueType::kString) least = 8;
    if (element_type == ValueType::kArray) least = 12;
    if (least == 0) return fail_at(error, what + ": unknown element type " + std::to_string(element), start);
    if (count > c->left() / least) {
      return fail_at(error, what + ": " + std::to_string(count) + " elements do not fit into the rest of the file", start);
    }
    if (element_type == ValueType::kBool) {
      for (uint64_t i = 0; i < count; i++) {
        if (c->data[c->at + i] > 1) return fail_at(error, what + ": a bool that is neither 0 nor 1", c->at + i);
      }
    }
    if (element_type != ValueType::kString && element_type != ValueType::kArray) {
      c->at += count * least;
      return true;
    }
    for (uint64_t i = 0; i < count; i++) {
      if (!skip_value(c, element_type, depth + 1, what, error)) return false;
    }
    return true;
  }
  const uint64_t bytes = scalar_bytes(type);
  if (bytes == 0) {
    return fail_at(error, what + ": unknown value type " + std::to_string(static_cast<uint32_t>(type)), start);
  }
  if (c->left() < bytes) return fail_at(error, what + ": the file ends within the value", start);
  if (type == ValueType::kBool && c->data[c->at] > 1) {
    return fail_at(error, what + ": a bool that is neither 0 nor 1", start);
  }
  c->at += bytes;
  return true;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out(text.substr(0, 64));
  for (char& c : out) {
    if (c < 32 || c > 126 || c == '\'') c = '?';
  }
  if (text.size() > 64) out += "...";
  return out;
}

bool fail_at(Error* error, std::string what, uint64_t offset) {
  error->message = std::move(what) + " at byte " + std::to_string(offset);
  return false;
}

bool Value::to_int(uint64_t i, int64_t* out) const {
  switch (element) {
    case ValueType::kU8:
      *out = data[i];
      return true;
    case ValueType::kI8:
      *out = static_cast<int8_t>(data[i]);
      return true;
    case ValueType::kU16:
      *out = load<uint16_t>(data + 2 * i);
      return true;
    case ValueType::kI16:
      *out = load<int16_t>(data + 2 * i);
      return true;
    case ValueType::kU32:
      *out = load<uint32_t>(data + 4 * i);
      return true;
    case ValueType::kI32:
      *out = load<int32_t>(data + 4 * i);
      return true;
    case ValueType::kI64:
      *out = load<int64_t>(data + 8 * i);
      return true;
    case ValueType::kU64: {
      const auto v = load<uint64_t>(data + 8 * i);
      if (v > INT64_MAX) return false;
      *out = static_cast<int64_t>(v);
      return true;
    }
    default:
      return false;
  }
}

bool Value::to_float(uint64_t i, float* out) const {
  if (element == ValueType::kF32) {
    *out = load<float>(data + 4 * i);
    return true;
  }
  if (element == ValueType::kF64) {
    const double v = load<double>(data + 8 * i);
    // A double beyond a float's range must not be converted: that is undefined.
    if (std::isfinite(v) && std::fabs(v) > 3.4028234663852886e38) return false;
    *out = static_cast<float>(v);
    return true;
  }
  return false;
}

std::string_view Value::to_string() const {
  if (type != ValueType::kString) return {};
  return {reinterpret_cast<const char*>(data + 8), size - 8};
}

Strings::Strings(const Value& value)
    : at_(value.data), end_(value.data + value.size), left_(value.element == ValueType::kString ? value.count : 0) {}

bool Strings::next(std::string_view* out) {
  if (left_ == 0 || end_ - at_ < 8) return false;
  const auto length = load<uint64_t>(at_);
  // Cannot happen unless the file was changed under the mapping.
  if (length > static_cast<uint64_t>(end_ - at_) - 8) return false;
  *out = std::string_view(reinterpret_cast<const char*>(at_ + 8), length);
  at_ += 8 + length;
  left_--;
  return true;
}

std::unique_ptr<File> File::open_part(const char* path, Error* error) noexcept {
  auto mapping = std::make_unique<Mapping>();
  if (!mapping->open(path, error)) return nullptr;
  auto file = parse(mapping->data(), mapping->size(), error);
  if (file == nullptr) return nullptr;
  file->mapping_ = std::move(mapping);
  file->paths_.emplace_back(path);
  return file;
}

std::unique_ptr<File> File::parse(const uint8_t* data, size_t size, Error* error) noexcept {
  auto file = std::make_unique<File>();
  file->data_ = data;
  file->size_ = size;
  if (!file->read(error)) return nullptr;
  return file;
}

bool File::read(Error* error) {
  Cursor c{data_, size_, 0};
  uint32_t magic = 0;
  if (!c.read(&magic) || magic != 0x46554747) return fail_at(error, "no GGUF file: magic missing", 0);
  if (!c.read(&version_)) return fail_at(error, "version: the file ends", 4);
  if (version_ == 0x03000000 || version_ == 0x02000000) {
    return fail_at(error, "version: the file is big-endian, only little-endian files are read", 4);
  }
  if (version_ != 2 && version_ != 3) {
    return fail_at(error, "version: " + std::to_string(version_) + " is not known, 2 and 3 are", 4);
  }
  if (!c.read(&tensor_count_)) return fail_at(error, "tensor count: the file ends", 8);
  if (!c.read(&metadata_count_)) return fail_at(error, "metadata count: the file ends", 16);
  if (metadata_count_ > kMaxMetadata || metadata_count_ > c.left() / kMinMetadataBytes) {
    return fail_at(error, "metadata count: " + std::to_string(metadata_count_) + " entries do not fit", 16);
  }
  if (tensor_count_ > kMaxTensors || tensor_count_ > c.left() / kMinTensorBytes) {
    return fail_at(error, "tensor count: " + std::to_string(tensor_count_) + " tensors do not fit", 8);
  }
  at_ = c.at;
  return read_metadata(error) && read_tensors(error);
}

bool File::read_metadata(Error* error) {
  Cursor c{data_, size_, at_};
  for (uint64_t i = 0; i < metadata_count_; i++) {
    Value v;
    v.offset = c.at;
    if (!read_string(&c, kMaxKeyBytes, "metadata key " + std::to_string(i), &v.key, error)) return false;
    const std::string what = "metadata '" + printable(v.key) + "'";
    uint32_t type = 0;
    if (!c.read(&type)) return fail_at(error, what + ": the file ends within its type", c.at);
    v.type = static_cast<ValueType>(type);
    const uint64_t start = c.at;
    if (!skip_value(&c, v.type, 0, what, error)) return false;
    if (v.type == ValueType::kArray) {
      v.element = static_cast<ValueType>(load<uint32_t>(data_ + start));
      v.count = load<uint64_t>(data_ + start + 4);
      v.data = data_ + start + 12;
    } else {
      v.element = v.type;
      v.count = 1;
      v.data = data_ + start;
    }
    v.size = static_cast<uint64_t>(data_ + c.at - v.data);
    if (!key_index_.emplace(v.key, static_cast<uint32_t>(i)).second) {
      return fail_at(error, what + ": there twice, again", v.offset);
    }
    metadata_.push_back(v);
  }
  at_ = c.at;
  if (const Value* v = find("general.alignment")) {
    int64_t alignment = 0;
    if (v->type != ValueType::kU32 || !v->to_int(0, &alignment) || alignment < 8 || alignment > 65'536 ||
        !std::has_single_bit(static_cast<uint64_t>(alignment))) {
      return fail_at(error, "metadata 'general.alignment': no u32 that is a power of two from 8 to 65536", v->offset);
    }
    alignment_ = static_cast<uint64_t>(alignment);
  }
  return true;
}

bool File::read_tensors(Error* error) {
  Cursor c{data_, size_, at_};
  if (tensor_count_ > c.left() / kMinTensorBytes) {
    return fail_at(error, "tensor count: " + std::to_string(tensor_count_) + " tensors do not fit", 8);
  }
  for (uint64_t i = 0; i < tensor_count_; i++) {
    Tensor t;
    t.info_offset = c.at;
    if (!read_string(&c, kMaxTensorNameBytes, "name of tensor " + std::to_string(i), &t.name, error)) return false;
    const std::string what = "tensor '" + printable(t.name) + "'";
    if (!c.read(&t.dim_count)) return fail_at(error, what + ": the file ends", c.at);
    if (t.dim_count < 1 || t.dim_count > 4) {
      return fail_at(error, what + ": has " + std::to_string(t.dim_count) + " dimensions, 1 to 4 wanted", c.at - 4);
    }
    t.values = 1;
    for (uint32_t d = 0; d < t.dim_count; d++) {
      if (!c.read(&t.dims[d])) return fail_at(error, what + ": the file ends within its dimensions", c.at);
      if (t.dims[d] < 1 || t.dims[d] > kMaxTensorValues / t.values) {
        return fail_at(error, what + ": dimension " + std::to_string(t.dims[d]) + " is out of range", c.at - 8);
      }
      t.values *= t.dims[d];
    }
    uint32_t type = 0;
    if (!c.read(&type)) return fail_at(error, what + ": the file ends within its type", c.at);
    t.type = tensor_type(type);
    if (t.type == nullptr) {
      const char* why = is_removed_type(type) ? " was made by an old converter and is not read any more" : " is not known";
      return fail_at(error, what + ": tensor type " + std::to_string(type) + why, c.at - 4);
    }
    if (t.dims[0] % t.type->block_values != 0) {
      return fail_at(error, what + ": rows of " + std::to_string(t.dims[0]) + " values are no whole " + t.type->name + " blocks",
                     t.info_offset);
    }
    // At most 2⁵¹ values of at most 8 bytes: no overflow.
    t.size_bytes = t.values / t.type->block_values * t.type->block_bytes;
    if (!c.read(&t.data_offset)) return fail_at(error, what + ": the file ends within its offset", c.at);
    if (t.data_offset % alignment_ != 0) {
      return fail_at(error, what + ": offset " + std::to_string(t.data_offset) + " is no multiple of " + std::to_string(alignment_),
                     c.at - 8);
    }
    if (!tensor_index_.emplace(t.name, static_cast<uint32_t>(i)).second) {
      return fail_at(error, what + ": there twice, again", t.info_offset);
    }
    tensors_.push_back(t);
  }
  at_ = c.at;
  return place_tensors((c.at + alignment_ - 1) / alignment_ * alignment_, error);
}

// Checks where the data lies, from base on, and sets the pointers.
bool File::place_tensors(uint64_t base, Error* error) {
  for (Tensor& t : tensors_) {
    const uint64_t left = base <= size_ ? size_ - base : 0;
    if (base > size_ || t.data_offset > left || t.size_bytes > left - t.data_offset) {
      return fail_at(error, "tensor '" + printable(t.name) + "': " + std::to_string(t.size_bytes) + " bytes at offset " +
                                std::to_string(t.data_offset) + " of the data reach beyond the file, described",
                     t.info_offset);
    }
    t.data_offset += base;
    t.data = data_ + t.data_offset;
  }
  std::vector<const Tensor*> sorted;
  sorted.reserve(tensors_.size());
  for (const Tensor& t : tensors_) sorted.push_back(&t);
  std::sort(sorted.begin(), sorted.end(), [](const Tensor* a, const Tensor* b) { return a->data_offset < b->data_offset; });
  for (size_t i = 1; i < sorted.size(); i++) {
    const Tensor& a = *sorted[i - 1];
    const Tensor& b = *sorted[i];
    if (a.data_offset + a.size_bytes > b.data_offset) {
      return fail_at(error, "tensor '" + printable(b.name) + "' overlaps tensor '" + printable(a.name) + "'", b.data_offset);
    }
  }
  return true;
}

const Value* File::find(std::string_view key) const {
  const auto found = key_index_.find(key);
  return found == key_index_.end() ? nullptr : &metadata_[found->second];
}

const Tensor* File::tensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

bool File::get_at(std::string_view key, uint64_t i, uint32_t* out, Error* error) const {
  const Value* v = find(key);
  if (v == nullptr) return true;
  int64_t n = 0;
  const uint64_t index = v->type == ValueType::kArray ? i : 0;
  if (index >= v->count || !v->to_int(index, &n) || n < 0 || n > UINT32_MAX) {
    return fail_at(error, "metadata '" + printable(key) + "': no integer from 0 to 4294967295", v->offset);
  }
  *out = static_cast<uint32_t>(n);
  return true;
}

bool File::get(std::string_view key, uint32_t* out, Error* error) const {
  const Value* v = find(key);
  if (v != nullptr && v->type == ValueType::kArray) {
    return fail_at(error, "metadata '" + printable(key) + "': an array instead of an integer", v->offset);
  }
  return get_at(key, 0, out, error);
}

bool File::get(std::string_view key, float* out, Error* error) const {
  const Value* v = find(key);
  if (v == nullptr) return true;
  if (v->type == ValueType::kArray || !v->to_float(0, out)) {
    return fail_at(error, "metadata '" + printable(key) + "': no floating-point number", v->offset);
  }
  return true;
}

bool File::get(std::string_view key, bool* out, Error* error) const {
  const Value* v = find(key);
  if (v == nullptr) return true;
  if (v->type != ValueType::kBool) return fail_at(error, "metadata '" + printable(key) + "': no bool", v->offset);
  *out = v->data[0] != 0;
  return true;
}

bool File::get(std::string_view key, std::string_view* out, Error* error) const {
  const Value* v = find(key);
  if (v == nullptr) return true;
  if (v->type != ValueType::kString) return fail_at(error, "metadata '" + printable(key) + "': no string", v->offset);
  *out = v->to_string();
  return true;
}

}  // namespace zg::gguf
