#include "pages.h"

#include <cstdlib>
#include <cstring>

namespace zg::cpu {
namespace {

constexpr size_t kAlign = 64;
// Of halves as of floats.
constexpr int kNanByte = 0xff;

}  // namespace

Pages::Pages(const PageShape& shape, uint32_t limit, bool poison) : shape_(shape), limit_(limit), poison_(poison) {}

Pages::~Pages() {
  for (void* p : memory_) std::free(p);
}

bool Pages::take(uint32_t* page) {
  if (free_.empty()) {
    if (memory_.size() >= limit_) return false;
    void* memory = nullptr;
    if (shape_.bytes() > 0) {
      // Loads of whole vectors may reach behind the last value.
      const size_t bytes = (shape_.bytes() + 2 * kAlign - 1) / kAlign * kAlign;
      memory = std::aligned_alloc(kAlign, bytes);
      if (memory == nullptr) return false;
      // Padding of values is read, and must not be rubbish that is slow.
      std::memset(memory, 0, bytes);
    }
    free_.push_back(static_cast<uint32_t>(memory_.size()));
    memory_.push_back(memory);
    users_.push_back(0);
    kept_.push_back(0);
  }
  *page = free_.back();
  free_.pop_back();
  users_[*page] = 1;
  if (poison_ && memory_[*page] != nullptr) std::memset(memory_[*page], kNanByte, shape_.bytes());
  return true;
}

void Pages::give_back(uint32_t page) {
  if (--users_[page] == 0) free_.push_back(page);
  if (idle(page)) idle_++;
}

void Pages::keep(uint32_t page) {
  users_[page]++;
  kept_[page] = 1;
}

void Pages::forget(uint32_t page) {
  if (idle(page)) idle_--;
  kept_[page] = 0;
  give_back(page);
}

bool Sequence::reserve(uint32_t positions) {
  const size_t before = list_.size();
  while (room() < positions) {
    uint32_t page = 0;
    if (!pages_->take(&page)) {
      cut(static_cast<uint32_t>(before) * 16);
      return false;
    }
    list_.push_back(page);
    table_.push_back(pages_->at(page));
  }
  return true;
}

void Sequence::cut(uint32_t positions) {
  const size_t keep = (size_t{positions} + 15) / 16;
  while (list_.size() > keep) {
    pages_->give_back(list_.back());
    list_.pop_back();
    table_.pop_back();
  }
}

void Sequence::begin_like(const Sequence& other, uint32_t positions) {
  if (!list_.empty()) return;
  for (uint32_t i = 0; i < positions / 16 && i < other.list_.size(); i++) {
    pages_->share(other.list_[i]);
    list_.push_back(other.list_[i]);
    table_.push_back(other.table_[i]);
  }
}

void Sequence::append(uint32_t page) {
  pages_->share(page);
  list_.push_back(page);
  table_.push_back(pages_->at(page));
}

void Sequence::replace(size_t index, uint32_t page) {
  if (list_[index] == page) return;
  pages_->share(page);
  pages_->give_back(list_[index]);
  list_[index] = page;
  table_[index] = pages_->at(page);
}

}  // namespace zg::cpu
