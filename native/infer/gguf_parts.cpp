// A model split over several files, NAME-00001-of-00003.gguf and so on (inference.md section 1.1): each is a whole GGUF file with tensors of its
// own, the first has the metadata. They are opened together and checked against one another, since a part that is missing, swapped or
// there twice gives a model that answers nonsense.
#include <algorithm>
#include <cstdio>

#include "gguf.h"

namespace zg::gguf {
namespace {

constexpr uint32_t kMaxParts = 10'000;
// "-00001-of-00003.gguf".
constexpr size_t kSuffixBytes = 20;

std::string suffix(uint32_t index, uint32_t count) {
  char text[40];
  std::snprintf(text, sizeof text, "-%05u-of-%05u.gguf", index + 1, count);
  return text;
}

std::string base_name(const std::string& path) { return printable(path.substr(path.rfind('/') + 1)); }

bool fail(Error* error, std::string message) {
  error->message = std::move(message);
  return false;
}

}  // namespace

bool File::is_lone_part() const {
  uint32_t count = 1;
  Error ignored;
  return paths_.size() <= 1 && get("split.count", &count, &ignored) && count > 1;
}

std::unique_ptr<File> File::open(const char* path, Error* error) noexcept {
  auto named = open_part(path, error);
  uint32_t count = 1;
  if (named == nullptr || !named->get("split.count", &count, error)) return nullptr;
  return count > 1 ? open_parts(std::move(named), count, error) : std::move(named);
}

std::unique_ptr<File> File::open_parts(std::unique_ptr<File> named, uint32_t count, Error* error) {
  const std::string path = named->paths_[0];
  uint32_t number = 0;
  if (!named->get("split.no", &number, error)) return nullptr;
  if (count > kMaxParts || number >= count) {
    fail(error, "metadata 'split.no': part " + std::to_string(number) + " of " + std::to_string(count) + " cannot be");
    return nullptr;
  }
  // Which part the name says it is: the parts' names differ in nothing else.
  const size_t cut = path.size() - std::min(path.size(), kSuffixBytes);
  uint32_t by_name = count;
  for (uint32_t i = 0; i < count && by_name == count; i++) {
    if (path.compare(cut, std::string::npos, suffix(i, count)) == 0) by_name = i;
  }
  if (by_name == count) {
    fail(error, "the model is split over " + std::to_string(count) + " files, whose names end in " + suffix(0, count) +
                    " and so on; this one's does not, so the others cannot be found");
    return nullptr;
  }
  std::unique_ptr<File> first;
  for (uint32_t i = 0; i < count; i++) {
    const std::string name = path.substr(0, cut) + suffix(i, count);
    std::unique_ptr<File> part = i == by_name ? std::move(named) : open_part(name.c_str(), error);
    if (part == nullptr) {
      fail(error, "part " + std::to_string(i + 1) + " of " + std::to_string(count) + ", '" + base_name(name) + "': " + error->message);
      return nullptr;
    }
    uint32_t own_count = 1;
    uint32_t own = UINT32_MAX;
    if (!part->get("split.count", &own_count, error) || !part->get("split.no", &own, error)) return nullptr;
    if (own_count != count) {
      fail(error, "'" + base_name(name) + "' is a part of " + std::to_string(own_count) + ", not of " + std::to_string(count));
      return nullptr;
    }
    if (own != i) {
      fail(error, "'" + base_name(name) + "' holds part " + std::to_string(uint64_t{own} + 1) + " of " + std::to_string(count) +
                      ": parts were swapped, or one was copied over another");
      return nullptr;
    }
    if (first == nullptr) {
      first = std::move(part);
    } else if (!first->join(std::move(part), i, error)) {
      return nullptr;
    }
  }
  uint32_t tensors = static_cast<uint32_t>(first->tensors_.size());
  if (!first->get("split.tensors.count", &tensors, error)) return nullptr;
  if (tensors != first->tensors_.size()) {
    fail(error, "the " + std::to_string(count) + " parts have " + std::to_string(first->tensors_.size()) + " tensors together, " +
                    std::to_string(tensors) + " wanted");
    return nullptr;
  }
  return first;
}

// Takes over a part's tensors.
bool File::join(std::unique_ptr<File> part, uint32_t index, Error* error) {
  for (const Tensor& t : part->tensors_) {
    const auto at = static_cast<uint32_t>(tensors_.size());
    const auto [place, fresh] = tensor_index_.emplace(t.name, at);
    if (!fresh) {
      return fail(error, "tensor '" + printable(t.name) + "' is in part " + std::to_string(tensors_[place->second].part + 1) +
                             " and again in part " + std::to_string(index + 1));
    }
    tensors_.push_back(t);
    tensors_.back().part = index;
  }
  paths_.push_back(part->paths_[0]);
  parts_.push_back(std::move(part));
  return true;
}

uint64_t File::size() const {
  uint64_t bytes = size_;
  for (const auto& part : parts_) bytes += part->size_;
  return bytes;
}

bool File::maps(const uint8_t* begin, const uint8_t* end) const {
  for (const auto& part : parts_) {
    if (part->maps(begin, end)) return true;
  }
  const auto at = reinterpret_cast<uintptr_t>(data_);
  return mapping_ != nullptr && reinterpret_cast<uintptr_t>(begin) >= at && reinterpret_cast<uintptr_t>(end) <= at + size_;
}

bool File::unchanged() const {
  for (const auto& part : parts_) {
    if (!part->unchanged()) return false;
  }
  return mapping_ == nullptr || mapping_->unchanged();
}

}  // namespace zg::gguf
