// RoPE's cosines and sines, computed position by position as they are first needed: a whole table of a long context would take longer
// than loading the model.
#pragma once

#include <memory>
#include <vector>

#include "../det/rope_table.h"
#include "workers.h"

namespace zg::cpu {

class Turns {
 public:
  explicit Turns(const det::RopeParameters& p) : rows_(p) {}

  // Makes positions known; not beside at().
  void need(const std::vector<uint32_t>& positions, Workers* workers) {
    std::vector<uint32_t> missing;
    for (const uint32_t position : positions) {
      const size_t block = position / kBlock;
      if (block >= blocks_.size()) blocks_.resize(block + 1);
      if (blocks_[block] != nullptr) continue;
      blocks_[block] = std::make_unique<float[]>(size_t{kBlock} * 2 * rows_.pairs());
      missing.push_back(static_cast<uint32_t>(block));
    }
    workers->run(missing.size() * kBlock, 4, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; i++) {
        const uint32_t block = missing[i / kBlock];
        const auto slot = static_cast<uint32_t>(i % kBlock);
        rows_.row(block * kBlock + slot, blocks_[block].get() + size_t{slot} * 2 * rows_.pairs(), 1, rows_.pairs());
      }
    });
  }

  // All cosines, then all sines.
  const float* at(uint32_t position) const {
    return blocks_[position / kBlock].get() + size_t{position % kBlock} * 2 * rows_.pairs();
  }

 private:
  static constexpr uint32_t kBlock = 16;
  det::RopeRows rows_;
  std::vector<std::unique_ptr<float[]>> blocks_;
};

}  // namespace zg::cpu
