// Loading: every matrix is packed for the level of CPU, layer by layer on all threads, and the file's pages are let go behind it.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "engine.h"
#include "turns.h"

namespace zg::cpu {
namespace {

constexpr size_t kAlign = 64;

size_t aligned(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

// Pages of the file that hold the matrix are not needed any more; they come back from the file when they are.
void release(const det::Model& model, const det::Matrix& m) {
  if (model.file == nullptr || !m.present()) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(m.data) + page - 1) / page * page;
  const uintptr_t end = reinterpret_cast<uintptr_t>(m.row(m.rows)) / page * page;
  if (begin < end && model.file->maps(reinterpret_cast<const uint8_t*>(begin), reinterpret_cast<const uint8_t*>(end))) {
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  }
}

}  // namespace

PageShape Engine::page_shape(const det::Model& model, bool floats, uint32_t layers) {
  return {static_cast<uint32_t>(std::min<size_t>(model.layers.size(), layers)), model.kv_heads, model.head_size, (model.head_size + 15) / 16 * 16, floats};
}

std::unique_ptr<Engine> Engine::load(std::shared_ptr<const det::Model> model, const Options& options, std::string* error) {
  std::unique_ptr<Engine> engine(new Engine(std::move(model), options));
  if (!engine->pack_weights(error)) return nullptr;
  return engine;
}

Engine::Engine(std::shared_ptr<const det::Model> model, const Options& options)
    : model_(std::move(model)),
      level_(options.level != nullptr ? *options.level : *level_by_name("")),
      workers_(std::max(1u, options.threads), options.pin, options.cpus),
      pages_(std::make_unique<Pages>(page_shape(*model_, options.float_cache, options.layers), options.pages, options.poison)) {
  const auto wide = [](size_t n) { return (n + ZG_ROWS - 1) / ZG_ROWS * ZG_ROWS; };
  x_stride_ = wide(model_->width);
  q_stride_ = wide(model_->q_width());
  kv_stride_ = wide(model_->kv_width());
  feed_stride_ = wide(model_->feed);
  vocabulary_stride_ = wide(model_->vocabulary);
  for (const det::RopeParameters& p : model_->rope) turns_.push_back(std::make_unique<Turns>(p));
}

Engine::~Engine() = default;

namespace {

struct Part {
  const det::Matrix* from;
  // Rows of one matrix, and how many lie behind one another.
  size_t rows;
  size_t count;
};

// The matrices of a layer in the order of Engine::Layer's members.
constexpr size_t kGate = 4;
constexpr size_t kUp = 5;
std::vector<Part> parts_of(const det::Model& m, const det::Layer& l) {
  const size_t experts = std::max(m.experts, 1u);
  return {{&l.q, l.q.rows, 1},       {&l.k, l.k.rows, 1},       {&l.v, l.v.rows, 1},        {&l.o, l.o.rows, 1},
          {&l.gate, m.feed, experts}, {&l.up, m.feed, experts}, {&l.down, m.width, experts}, {&l.router, l.router.rows, 1}};
}

size_t bytes_of(const std::vector<Part>& parts) {
  size_t bytes = 0;
  for (const Part& p : parts) {
    if (p.from->present()) bytes += aligned(packed_bytes(packed_shape(*p.from, p.rows), p.count));
  }
  return bytes;
}

}  // namespace

uint64_t Engine::weight_bytes(const det::Model& m, uint32_t layers) {
  uint64_t bytes = layers < m.layers.size() ? 0 : bytes_of({{&m.output, m.output.rows, 1}});
  for (size_t i = 0; i < std::min<size_t>(m.layers.size(), layers); i++) bytes += bytes_of(parts_of(m, m.layers[i]));
  return bytes;
}

bool Engine::pack_weights(std::string* error) {
  const det::Model& m = *model_;
  const bool unsigned_q8 = level_.unsigned_q8 != 0;
  const auto pack_all = [&](const std::vector<Part>& parts, const std::vector<Packed*>& to) {
    const size_t bytes = bytes_of(parts);
    auto memory = std::make_unique<Memory>();
    if (!memory->allocate(bytes)) {
      *error = "no memory for " + std::to_string(bytes >> 20) + " MiB of weights";
      return false;
    }
    uint8_t* at = memory->data();
    uint8_t* gate = nullptr;
    for (size_t i = 0; i < parts.size(); i++) {
      const Part& p = parts[i];
      if (p.from->present()) *to[i] = packed_shape(*p.from, p.rows);
    }
    // A gate's rows are used with those of the way up: one stream of memory, not two.
    const bool together =
        parts.size() > kUp && parts[kGate].from->present() && parts[kUp].from->present() && !to[kGate]->floats() && !to[kUp]->floats();
    if (together) lay_together(to[kGate], to[kUp]);
    for (size_t i = 0; i < parts.size(); i++) {
      const Part& p = parts[i];
      if (!p.from->present()) continue;
      uint8_t* begin = together && i == kUp ? gate + to[kGate]->own_bytes : at;
      if (i == kGate) gate = begin;
      pack(*p.from, p.rows, p.count, unsigned_q8, begin, to[i], &workers_);
      const size_t own = zg::cpu::packed_bytes(*to[i], p.count);
      at += aligned(own);
      packed_bytes_ += own;
      if (p.from->data != m.embedding.data) release(m, *p.from);
    }
    memory_.push_back(std::move(memory));
    return true;
  };
  layers_.resize(pages_->shape().layers);
  for (size_t i = 0; i < layers_.size(); i++) {
    Layer& p = layers_[i];
    if (!pack_all(parts_of(m, m.layers[i]), {&p.q, &p.k, &p.v, &p.o, &p.gate, &p.up, &p.down, &p.router})) return false;
  }
  return partial() || pack_all({{&m.output, m.output.rows, 1}}, {&output_});
}

}  // namespace zg::cpu
