// What adapters add to products (adapter.h): rows that have one are gathered, go through A and B as products of float weights, and the result is
// added to their rows alone. Rows without adapters are not touched, so their bits are what they were.
#include <algorithm>

#include "../det/rules.h"
#include "engine.h"

namespace zg::cpu {
namespace {

// Bytes of weights below which a product stays on the calling thread.
constexpr size_t kAloneBytes = 96 << 10;

size_t wide(size_t n) { return (n + ZG_ROWS - 1) / ZG_ROWS * ZG_ROWS; }

}  // namespace

void Engine::find_adapters(const Row* rows, size_t n) {
  adapters_.clear();
  for (size_t i = 0; i < n; i++) {
    const AdapterSet* set = rows[i].adapters;
    for (size_t k = 0; set != nullptr && k < set->size(); k++) {
      if (adapters_.size() == k) adapters_.emplace_back(n, nullptr);
      adapters_[k][i] = &(*set)[k];
    }
  }
}

bool Engine::adapts(size_t layer, Pair pair) const {
  for (const auto& place : adapters_) {
    const Adapter* last = nullptr;
    for (const AdapterUse* use : place) {
      if (use == nullptr || use->adapter.get() == last) continue;
      last = use->adapter.get();
      if ((last->layer(layer).*pair).present()) return true;
    }
  }
  return false;
}

void Engine::adapt(size_t layer, Pair pair, const Change& c) {
  std::vector<const Adapter*> seen;
  std::vector<uint32_t> rows;
  std::vector<float> factors;
  const auto row_of = [&](size_t i) { return c.of == nullptr ? i : size_t{c.of[i]}; };
  // A row's adapters are added in the order of its set.
  for (const auto& place : adapters_) {
    seen.clear();
    for (size_t first = 0; first < c.n; first++) {
      const AdapterUse* use = place[row_of(first)];
      if (use == nullptr || std::find(seen.begin(), seen.end(), use->adapter.get()) != seen.end()) continue;
      const Adapter& adapter = *use->adapter;
      seen.push_back(&adapter);
      const Adapter::Pair& p = pair == nullptr ? adapter.output() : adapter.layer(layer).*pair;
      if (!p.present()) continue;
      rows.clear();
      factors.clear();
      for (size_t i = first; i < c.n; i++) {
        const AdapterUse* own = place[row_of(i)];
        if (own == nullptr || own->adapter.get() != &adapter) continue;
        rows.push_back(static_cast<uint32_t>(i));
        factors.push_back(det::mul1(own->strength, p.scale));
      }
      const ZgMatrix a = p.a.matrix(c.expert);
      adapter_in_.prepare(rows.size(), a.columns, false, true);
      for (size_t i = 0; i < rows.size(); i++) adapter_in_.put(level_, i, c.x + (c.x_of ? row_of(rows[i]) : rows[i]) * c.x_stride);
      const size_t stride = wide(a.rows);
      if (adapter_low_.size() < rows.size() * stride) adapter_low_.resize(rows.size() * stride);
      const size_t grain = a.groups * a.group_bytes * rows.size() < kAloneBytes ? a.groups : 1;
      workers_.run(a.groups, grain, [&](size_t begin, size_t end) {
        level_.product(&a, static_cast<uint32_t>(begin), static_cast<uint32_t>(end), adapter_in_.groups(), adapter_in_.group_count(),
                       adapter_low_.data(), stride);
      });
      adapter_mid_.prepare(rows.size(), a.rows, false, true);
      for (size_t i = 0; i < rows.size(); i++) adapter_mid_.put(level_, i, &adapter_low_[i * stride]);
      add_change(p, adapter_mid_, rows, factors, c);
    }
  }
}

void Engine::add_change(const Adapter::Pair& pair, const Tokens& low, const std::vector<uint32_t>& rows, const std::vector<float>& factors,
                        const Change& c) {
  const ZgMatrix b = pair.b.matrix(c.expert);
  const size_t stride = wide(b.rows);
  if (adapter_out_.size() < rows.size() * stride) adapter_out_.resize(rows.size() * stride);
  const size_t cost = b.group_bytes * rows.size();
  const size_t grain = b.groups * cost < kAloneBytes ? b.groups : std::max<size_t>(1, kAloneBytes / 2 / cost);
  workers_.run(b.groups, grain, [&](size_t begin, size_t end) {
    level_.product(&b, static_cast<uint32_t>(begin), static_cast<uint32_t>(end), low.groups(), low.group_count(), adapter_out_.data(), stride);
    const size_t first = begin * ZG_ROWS;
    const size_t width = std::min<size_t>(end * ZG_ROWS, b.rows) - first;
    for (size_t i = 0; i < rows.size(); i++) {
      level_.mix(c.y + rows[i] * c.y_stride + first, &adapter_out_[i * stride + first], width, factors[i]);
    }
  });
}

// An embedding is looked up: A's row of the token goes through B.
void Engine::adapt_embedding(const Row* rows, size_t n) {
  std::vector<uint32_t> one(1);
  std::vector<float> factor(1);
  const Change change = {nullptr, 0, x_.data(), x_stride_, n};
  for (const auto& place : adapters_) {
    for (size_t i = 0; i < n; i++) {
      if (place[i] == nullptr || !place[i]->adapter->embedding().present()) continue;
      const Adapter& adapter = *place[i]->adapter;
      adapter_mid_.prepare(1, adapter.embedding().b.first.columns, false, true);
      adapter_mid_.put(level_, 0, adapter.embedding_row(rows[i].token));
      one[0] = static_cast<uint32_t>(i);
      factor[0] = det::mul1(place[i]->strength, adapter.embedding().scale);
      add_change(adapter.embedding(), adapter_mid_, one, factor, change);
    }
  }
}

}  // namespace zg::cpu
