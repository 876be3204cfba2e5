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
  if (model.file == nullptr || !model.file->mapped() || !m.present()) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(m.data) + page - 1) / page * page;
  const uintptr_t end = reinterpret_cast<uintptr_t>(m.row(m.rows)) / page * page;
  const auto file = reinterpret_cast<uintptr_t>(model.file->data());
  if (begin < end && begin >= file && end <= file + model.file->size()) {
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  }
}

}  // namespace

PageShape Engine::page_shape(const det::Model& model, bool floats) {
  return {static_cast<uint32_t>(model.layers.size()), model.kv_heads, model.head_size, (model.head_size + 15) / 16 * 16, floats};
}

std::unique_ptr<Engine> Engine::load(std::shared_ptr<const det::Model> model, const Options& options, std::string* error) {
  std::unique_ptr<Engine> engine(new Engine(std::move(model), options));
  if (!engine->pack_weights(error)) return nullptr;
  return engine;
}

Engine::Engine(std::shared_ptr<const det::Model> model, const Options& options)
    : model_(std::move(model)),
      level_(options.level != nullptr ? *options.level : *level_by_name("")),
      workers_(std::max(1u, options.threads), options.pin),
      pages_(std::make_unique<Pages>(page_shape(*model_, options.float_cache), options.pages, options.poison)) {
  const auto wide = [](size_t n) { return (n + ZG_ROWS - 1) / ZG_ROWS * ZG_ROWS; };
  x_stride_ = wide(model_->width);
  q_stride_ = wide(model_->q_width());
  kv_stride_ = wide(model_->kv_width());
  feed_stride_ = wide(model_->feed);
  vocabulary_stride_ = wide(model_->vocabulary);
  for (const det::RopeParameters& p : model_->rope) turns_.push_back(std::make_unique<Turns>(p));
}

Engine::~Engine() = default;

bool Engine::pack_weights(std::string* error) {
  struct Item {
    const det::Matrix* from;
    Packed* to;
    size_t rows;
    size_t count;
  };
  const det::Model& m = *model_;
  const bool unsigned_q8 = level_.unsigned_q8 != 0;
  const auto pack_all = [&](std::vector<Item> items) {
    std::erase_if(items, [](const Item& i) { return !i.from->present(); });
    size_t bytes = 0;
    for (const Item& i : items) {
      *i.to = packed_shape(*i.from, i.rows);
      bytes += aligned(zg::cpu::packed_bytes(*i.to, i.count));
    }
    auto memory = std::make_unique<Memory>();
    if (!memory->allocate(bytes)) {
      *error = "no memory for " + std::to_string(bytes >> 20) + " MiB of weights";
      return false;
    }
    uint8_t* at = memory->data();
    for (const Item& i : items) {
      pack(*i.from, i.rows, i.count, unsigned_q8, at, i.to, &workers_);
      at += aligned(zg::cpu::packed_bytes(*i.to, i.count));
      packed_bytes_ += zg::cpu::packed_bytes(*i.to, i.count);
      if (i.from->data != m.embedding.data) release(m, *i.from);
    }
    memory_.push_back(std::move(memory));
    return true;
  };
  layers_.resize(m.layers.size());
  const size_t experts = std::max(m.experts, 1u);
  for (size_t i = 0; i < m.layers.size(); i++) {
    const det::Layer& l = m.layers[i];
    Layer& p = layers_[i];
    const bool ok = pack_all({{&l.q, &p.q, l.q.rows, 1},
                              {&l.k, &p.k, l.k.rows, 1},
                              {&l.v, &p.v, l.v.rows, 1},
                              {&l.o, &p.o, l.o.rows, 1},
                              {&l.router, &p.router, l.router.rows, 1},
                              {&l.gate, &p.gate, m.feed, experts},
                              {&l.up, &p.up, m.feed, experts},
                              {&l.down, &p.down, m.width, experts}});
    if (!ok) return false;
  }
  return pack_all({{&m.output, &output_, m.output.rows, 1}});
}

}  // namespace zg::cpu
