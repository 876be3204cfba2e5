#include "convert.h"

#include <fcntl.h>
#include <strings.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <vector>

#include "cpu/workers.h"
#include "quantize.h"

namespace zg {
namespace {

using det::Type;

// Source values in work at once.
constexpr size_t kChunkValues = size_t{1} << 20;

constexpr Recipe kRecipes[] = {
    {"F32", 0, Type::kF32, Type::kF32, Type::kF32},
    {"F16", 1, Type::kF16, Type::kF16, Type::kF16},
    {"BF16", 32, Type::kBF16, Type::kBF16, Type::kBF16},
    {"Q8_0", 7, Type::kQ8_0, Type::kQ8_0, Type::kQ8_0},
    {"Q6_K", 18, Type::kQ6_K, Type::kQ6_K, Type::kQ6_K},
    {"Q5_K", 16, Type::kQ5_K, Type::kQ5_K, Type::kQ6_K},
    {"Q5_K_M", 17, Type::kQ5_K, Type::kQ6_K, Type::kQ6_K},
    {"Q5_1", 9, Type::kQ5_1, Type::kQ5_1, Type::kQ6_K},
    {"Q5_0", 8, Type::kQ5_0, Type::kQ5_0, Type::kQ6_K},
    {"Q4_K", 14, Type::kQ4_K, Type::kQ4_K, Type::kQ6_K},
    {"Q4_K_M", 15, Type::kQ4_K, Type::kQ6_K, Type::kQ6_K},
    {"Q4_1", 3, Type::kQ4_1, Type::kQ4_1, Type::kQ6_K},
    {"Q4_0", 2, Type::kQ4_0, Type::kQ4_0, Type::kQ6_K},
    {"IQ4_NL", 25, Type::kIQ4_NL, Type::kIQ4_NL, Type::kQ6_K},
    {"IQ4_XS", 30, Type::kIQ4_XS, Type::kIQ4_XS, Type::kQ6_K},
    {"MXFP4", 38, Type::kMXFP4, Type::kMXFP4, Type::kQ8_0},
    {"Q3_K", 12, Type::kQ3_K, Type::kQ4_K, Type::kQ6_K},
    {"Q2_K", 10, Type::kQ2_K, Type::kQ3_K, Type::kQ6_K},
    {nullptr, 0, Type::kF32, Type::kF32, Type::kF32},
};

bool ends_with(std::string_view text, std::string_view end) { return text.ends_with(end); }

// The nearest type that has blocks for rows of so many values.
Type fitting(Type type, uint64_t columns) {
  if (columns % det::type_shape(type).values == 0) return type;
  if (columns % 32 != 0) return Type::kF16;
  switch (type) {
    case Type::kQ6_K: return Type::kQ8_0;
    case Type::kQ5_K: return Type::kQ5_1;
    case Type::kQ4_K: return Type::kQ4_1;
    default: return Type::kIQ4_NL;
  }
}

bool is_more(std::string_view name, uint32_t layers) {
  if (!name.starts_with("blk.")) return false;
  uint32_t layer = 0;
  const auto parsed = std::from_chars(name.data() + 4, name.data() + name.size(), layer);
  const std::string_view rest(parsed.ptr, static_cast<size_t>(name.data() + name.size() - parsed.ptr));
  if (parsed.ec != std::errc() || !(rest == ".attn_v.weight" || rest.starts_with(".ffn_down"))) return false;
  const uint32_t eighth = layers / 8;
  return layer < eighth || layer >= layers - std::min(layers, eighth) || (layer - eighth) % 3 == 2;
}

void put(std::vector<uint8_t>* to, const void* bytes, size_t count) {
  const auto* p = static_cast<const uint8_t*>(bytes);
  to->insert(to->end(), p, p + count);
}
template <typename T>
void put(std::vector<uint8_t>* to, T v) {
  put(to, &v, sizeof v);
}
void put_text(std::vector<uint8_t>* to, std::string_view text) {
  put<uint64_t>(to, text.size());
  put(to, text.data(), text.size());
}
void put_number(std::vector<uint8_t>* to, std::string_view key, uint32_t v) {
  put_text(to, key);
  put(to, static_cast<uint32_t>(gguf::ValueType::kU32));
  put(to, v);
}

uint64_t aligned(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

// What is written anew, or makes no sense in one file.
bool is_replaced(std::string_view key) {
  return key == "general.file_type" || key == "general.quantization_version" || key.starts_with("split.");
}

struct Plan {
  const gguf::Tensor* from;
  Type to;
  uint64_t bytes;
};

std::vector<uint8_t> header(const gguf::File& file, const Recipe& recipe, const std::vector<Plan>& plans) {
  std::vector<uint8_t> out;
  uint64_t kept = 0;
  for (const gguf::Value& v : file.metadata()) kept += is_replaced(v.key) ? 0 : 1;
  put(&out, "GGUF", 4);
  put<uint32_t>(&out, 3);
  put<uint64_t>(&out, plans.size());
  put<uint64_t>(&out, kept + 2);
  for (const gguf::Value& v : file.metadata()) {
    if (is_replaced(v.key)) continue;
    const uint8_t* begin = file.data() + v.offset;
    put(&out, begin, static_cast<size_t>(v.data + v.size - begin));
  }
  put_number(&out, "general.file_type", recipe.file_type);
  put_number(&out, "general.quantization_version", 2);
  uint64_t offset = 0;
  for (const Plan& p : plans) {
    put_text(&out, p.from->name);
    put(&out, p.from->dim_count);
    for (uint32_t d = 0; d < p.from->dim_count; d++) put(&out, p.from->dims[d]);
    put(&out, static_cast<uint32_t>(p.to));
    put(&out, offset);
    offset = aligned(offset + p.bytes, file.alignment());
  }
  out.resize(aligned(out.size(), file.alignment()));
  return out;
}

class Output {
 public:
  ~Output() {
    if (fd_ >= 0) close(fd_);
  }
  bool open(const char* path, std::string* error) {
    fd_ = ::open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    return fd_ >= 0 || refuse("cannot be created", error);
  }
  bool write(const uint8_t* bytes, size_t count, std::string* error) {
    while (count > 0) {
      const ssize_t n = ::write(fd_, bytes, count);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return refuse("cannot be written", error);
      bytes += n;
      count -= static_cast<size_t>(n);
    }
    return true;
  }
  bool finish(std::string* error) { return fsync(fd_) == 0 || refuse("cannot be written", error); }

 private:
  static bool refuse(const char* what, std::string* error) {
    *error = std::string("output ") + what + ": " + std::strerror(errno);
    return false;
  }
  int fd_ = -1;
};

std::string quoted(const gguf::Tensor& t) { return "tensor '" + gguf::printable(t.name) + "'"; }

bool write_tensor(const Plan& p, cpu::Workers* workers, Output* out, Conversion* state, std::string* error) {
  const gguf::Tensor& t = *p.from;
  const size_t columns = t.dims[0];
  const size_t rows = t.values / columns;
  const size_t from_bytes = columns / t.type->block_values * t.type->block_bytes;
  const det::TypeShape shape = det::type_shape(p.to);
  const bool copied = static_cast<uint32_t>(p.to) == t.type->id;
  const size_t to_bytes = copied ? from_bytes : columns / shape.values * shape.bytes;
  const size_t step = std::max<size_t>(1, kChunkValues / columns);
  std::vector<uint8_t> chunk(std::min(step, rows) * to_bytes);
  for (size_t first = 0; first < rows; first += step) {
    if (state->cancel.load(std::memory_order_relaxed)) return *error = "stopped", false;
    const size_t count = std::min(step, rows - first);
    std::atomic<size_t> wrong{SIZE_MAX};
    const uint8_t* source = t.data + first * from_bytes;
    if (!copied) {
      workers->run(count, 1, [&](size_t begin, size_t end) {
        std::vector<float> values(columns);
        for (size_t r = begin; r < end; r++) {
          t.type->dequantize(source + r * from_bytes, columns, values.data());
          if (!quantize_row(p.to, values.data(), columns, chunk.data() + r * to_bytes)) wrong.store(first + r);
        }
      });
      if (wrong.load() != SIZE_MAX) {
        return *error = quoted(t) + ": row " + std::to_string(wrong.load()) + " has a value that " + shape.name +
                        " cannot hold (not finite, or too large)",
               false;
      }
    }
    if (!out->write(copied ? source : chunk.data(), count * to_bytes, error)) return false;
    state->done_bytes.fetch_add(count * from_bytes, std::memory_order_relaxed);
  }
  return true;
}

}  // namespace

const Recipe* recipes() noexcept { return kRecipes; }

const Recipe* recipe_by_name(const std::string& name) noexcept {
  for (const Recipe* r = kRecipes; r->name != nullptr; r++) {
    if (strcasecmp(r->name, name.c_str()) == 0) return r;
  }
  return nullptr;
}

Type type_in(const Recipe& recipe, const gguf::Tensor& t, uint32_t layers, bool tied) noexcept {
  const auto own = static_cast<Type>(t.type->id);
  const std::string_view name = t.name;
  // One row is a norm, a bias or a list of factors; a router decides alone which experts are asked.
  const bool matrix = t.dim_count >= 2 && t.values > t.dims[0] && ends_with(name, ".weight");
  if (!matrix || ends_with(name, "ffn_gate_inp.weight") || ends_with(name, "_norm.weight")) return own;
  if (name == "output.weight" || (tied && name == "token_embd.weight")) return fitting(recipe.output, t.dims[0]);
  return fitting(is_more(name, layers) ? recipe.more : recipe.most, t.dims[0]);
}

bool convert(const gguf::File& file, const Recipe& recipe, const char* path, unsigned threads, Conversion* state, std::string* error) {
  gguf::Error fault;
  std::string_view architecture;
  uint32_t layers = 0;
  if (!file.get("general.architecture", &architecture, &fault) ||
      !file.get(std::string(architecture) + ".block_count", &layers, &fault)) {
    return *error = fault.message, false;
  }
  const bool tied = file.tensor("output.weight") == nullptr;
  std::vector<Plan> plans;
  uint64_t total = 0;
  for (const gguf::Tensor& t : file.tensors()) {
    const Type to = type_in(recipe, t, layers, tied);
    const bool same = static_cast<uint32_t>(to) == t.type->id;
    if (!same && !det::is_float_type(static_cast<Type>(t.type->id))) {
      return *error = quoted(t) + " is " + t.type->name + " already; models are made from F32, F16 or BF16", false;
    }
    const det::TypeShape shape = det::type_shape(to);
    plans.push_back({&t, to, same ? t.size_bytes : t.values / shape.values * shape.bytes});
    total += t.size_bytes;
  }
  if (plans.empty()) return *error = "the file holds no tensors", false;
  state->total_bytes.store(total);
  Output out;
  if (!out.open(path, error)) return false;
  const std::vector<uint8_t> head = header(file, recipe, plans);
  if (!out.write(head.data(), head.size(), error)) return false;
  cpu::Workers workers(std::max(1u, threads));
  const std::vector<uint8_t> padding(file.alignment());
  for (const Plan& p : plans) {
    if (!write_tensor(p, &workers, &out, state, error)) return false;
    if (!out.write(padding.data(), aligned(p.bytes, file.alignment()) - p.bytes, error)) return false;
  }
  return out.finish(error);
}

}  // namespace zg
