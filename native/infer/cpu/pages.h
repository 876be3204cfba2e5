// The cache of keys and values: pages of 16 positions for all layers, and sequences as lists of pages (inference.md section 8). Pages may
// be shared between sequences that begin alike. Not safe for use from several threads at once; the engine's owner uses it between steps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace zg::cpu {

// Where keys and values of a layer lie in a page, in cells: halves, or floats.
struct PageShape {
  uint32_t layers = 0;
  uint32_t kv_heads = 0;
  uint32_t head_size = 0;
  // Head size rounded up to 16: the stride of values.
  uint32_t padded = 0;
  bool floats = false;

  // Keys of a head: [dimension][16 positions]; values: [16 positions][padded]. Heads one behind the other, all keys of a layer first.
  size_t key_plane() const { return size_t{kv_heads} * head_size * 16; }
  size_t value_plane() const { return size_t{kv_heads} * padded * 16; }
  size_t key_offset(size_t layer) const { return layer * (key_plane() + value_plane()); }
  size_t value_offset(size_t layer) const { return key_offset(layer) + key_plane(); }
  size_t bytes() const { return layers * (key_plane() + value_plane()) * (floats ? sizeof(float) : sizeof(uint16_t)); }
};

class Pages {
 public:
  // At most `limit` pages. A shape without layers: pages are counted here and lie elsewhere, at() is nullptr. poison: a new page is full of NaN, for tests.
  Pages(const PageShape& shape, uint32_t limit, bool poison = false);
  ~Pages();
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  // A page with one user, or false when all are taken or there is no memory.
  bool take(uint32_t* page);
  void share(uint32_t page) {
    if (kept_[page] != 0 && users_[page] == 1) idle_--;
    users_[page]++;
  }
  // One user less; the last one frees it.
  void give_back(uint32_t page);
  // A user that only remembers what the page holds: while there is no other, the page counts as idle. At most one a page.
  void keep(uint32_t page);
  void forget(uint32_t page);
  bool idle(uint32_t page) const { return kept_[page] != 0 && users_[page] == 1; }
  void* at(uint32_t page) { return memory_[page]; }

  const PageShape& shape() const { return shape_; }
  uint32_t limit() const { return limit_; }
  // Taken, idle ones included; of these the idle ones; and those that can be taken.
  uint32_t in_use() const { return static_cast<uint32_t>(memory_.size() - free_.size()); }
  uint32_t idle() const { return idle_; }
  uint32_t free() const { return limit_ - in_use(); }

 private:
  const PageShape shape_;
  const uint32_t limit_;
  const bool poison_;
  std::vector<void*> memory_;
  std::vector<uint32_t> users_;
  std::vector<uint8_t> kept_;
  std::vector<uint32_t> free_;
  uint32_t idle_ = 0;
};

// Positions of one sequence, from 0. Gives its pages back when it ends.
class Sequence {
 public:
  explicit Sequence(Pages* pages) : pages_(pages) {}
  ~Sequence() { cut(0); }
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  // Room for positions 0 … positions − 1; false (and what there was before) when pages run out.
  bool reserve(uint32_t positions);
  // Forgets what lies from this position on; whole pages are given back.
  void cut(uint32_t positions);
  // Begins with the first `positions` (a multiple of 16) of another sequence of the same pages, which are shared and must not be
  // written any more. Only while empty.
  void begin_like(const Sequence& other, uint32_t positions);
  // Begins with this page of somebody else's, or goes on with it.
  void append(uint32_t page);
  // Page number index becomes another one that holds the same, shared.
  void replace(size_t index, uint32_t page);

  const std::vector<uint32_t>& pages() const { return list_; }
  const void* const* table() const { return table_.data(); }
  void* page_of(uint32_t position) const { return pages_->at(list_[position / 16]); }
  uint32_t room() const { return static_cast<uint32_t>(list_.size()) * 16; }

 private:
  Pages* const pages_;
  std::vector<uint32_t> list_;
  std::vector<const void*> table_;
};

}  // namespace zg::cpu
