#include "corpus.h"

#include <algorithm>
#include <cstring>
#include <fstream>

#include "random.h"

namespace zg::train {

namespace {

constexpr uint64_t kMaxTokens = 1ull << 30;

class Input {
 public:
  explicit Input(std::vector<char> bytes) : bytes_(std::move(bytes)) {}

  template <class N>
  bool number(N* out) {
    return take(out, 1);
  }
  template <class N>
  bool take(N* out, uint64_t count) {
    if (count > (bytes_.size() - at_) / sizeof(N)) return false;
    std::memcpy(out, bytes_.data() + at_, count * sizeof(N));
    at_ += count * sizeof(N);
    return true;
  }
  template <class N>
  bool list(std::vector<N>* out, uint64_t count) {
    if (count > kMaxTokens || count > (bytes_.size() - at_) / sizeof(N)) return false;
    out->resize(count);
    return count == 0 || take(out->data(), count);
  }
  bool done() const { return at_ == bytes_.size(); }
  uint64_t size() const { return bytes_.size(); }
  /// FNV-1a over words.
  uint64_t digest() const {
    uint64_t h = 0xcbf29ce484222325ull;
    for (const char c : bytes_) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
    return h;
  }

 private:
  std::vector<char> bytes_;
  size_t at_ = 0;
};

/// Empty when the list is one of `vocab` ids and its starts lie in it.
std::string check_list(TokenList* list, uint32_t vocab, bool samples) {
  const auto inside = [&](uint32_t t) { return (t & ~kCounts) < vocab; };
  if (!std::all_of(list->tokens.begin(), list->tokens.end(), inside)) return "a token outside the vocabulary";
  list->counted = static_cast<uint64_t>(std::count_if(list->tokens.begin(), list->tokens.end(), [](uint32_t t) { return (t & kCounts) != 0; }));
  if (list->tokens.empty()) return list->starts.empty() ? "" : "starts out of range";
  if (list->starts.empty() || list->starts[0] != 0 || !std::is_sorted(list->starts.begin(), list->starts.end()) ||
      list->starts.back() >= list->tokens.size()) {
    return "starts out of range";
  }
  if (!samples) return "";
  for (size_t i = 0; i < list->starts.size(); i++) {
    const size_t end = i + 1 < list->starts.size() ? list->starts[i + 1] : list->tokens.size();
    if (end - list->starts[i] < 2) return "a sample of less than two tokens";
  }
  return "";
}

size_t end_of(const TokenList& list, size_t sample) {
  return sample + 1 < list.starts.size() ? list.starts[sample + 1] : list.tokens.size();
}

void add_sample(const TokenList& list, size_t sample, Window* w) {
  w->starts.push_back(w->size());
  for (size_t p = list.starts[sample]; p + 1 < end_of(list, sample); p++) {
    const uint32_t next = list.tokens[p + 1];
    w->tokens.push_back(static_cast<int32_t>(list.tokens[p] & ~kCounts));
    w->targets.push_back((next & kCounts) != 0 ? static_cast<int32_t>(next & ~kCounts) : -1);
  }
}

/// `length` tokens of a stream from a place on, behind the opening token where there is one.
Window cut_stream(const Corpus& corpus, const TokenList& list, size_t from, long length) {
  Window w;
  w.starts = {0};
  size_t p = from;
  if (corpus.opening >= 0) {
    w.tokens.push_back(corpus.opening);
  } else {
    w.tokens.push_back(static_cast<int32_t>(list.tokens[p++] & ~kCounts));
  }
  for (; p < list.tokens.size(); p++) {
    const uint32_t next = list.tokens[p];
    w.targets.push_back((next & kCounts) != 0 ? static_cast<int32_t>(next & ~kCounts) : -1);
    if (w.size() == length) return w;
    if (p + 1 < list.tokens.size()) w.tokens.push_back(static_cast<int32_t>(next & ~kCounts));
  }
  return w;
}

}  // namespace

std::string read_corpus(const std::string& path, Corpus* corpus) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return "cannot open " + path;
  Input in({std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()});
  corpus->digest = in.digest();
  corpus->bytes = in.size();
  char magic[8];
  uint32_t version = 0, vocab = 0, opening = 0, kind = 0, sets = 0;
  if (!in.take(magic, 8) || std::memcmp(magic, "ZGTOKENS", 8) != 0) return path + ": not a token file";
  if (!in.number(&version) || version != 2) return path + ": unknown version of a token file";
  if (!in.number(&vocab) || !in.number(&opening) || !in.number(&kind) || !in.number(&sets)) return path + ": cut short";
  if (vocab < 2 || vocab > 1 << 20 || (opening >= vocab && opening != UINT32_MAX) || kind > 1 || sets < 1 || sets > 64) {
    return path + ": header out of range";
  }
  corpus->vocab = vocab;
  corpus->opening = opening == UINT32_MAX ? -1 : static_cast<int32_t>(opening);
  corpus->samples = kind == 1;
  double weights = 0;
  for (uint32_t i = 0; i < sets; i++) {
    TextSet set;
    uint32_t name_size = 0;
    float weight = 0;
    uint64_t tokens = 0, starts = 0, held_out = 0, held_starts = 0;
    std::vector<char> name;
    if (!in.number(&name_size) || name_size > 255 || !in.list(&name, name_size) || !in.number(&weight) || !in.number(&tokens) ||
        !in.number(&starts) || !in.number(&held_out) || !in.number(&held_starts) || !in.number(&set.held_out_bytes) ||
        !in.list(&set.training.tokens, tokens) || !in.list(&set.training.starts, starts) || !in.list(&set.held_out.tokens, held_out) ||
        !in.list(&set.held_out.starts, held_starts)) {
      return path + ": cut short";
    }
    set.name.assign(name.begin(), name.end());
    set.weight = static_cast<double>(weight);
    if (!(weight > 0) || tokens < 2) return path + ": set " + set.name + " is empty";
    for (TokenList* list : {&set.training, &set.held_out}) {
      const std::string fault = check_list(list, vocab, corpus->samples);
      if (!fault.empty()) return path + ": set " + set.name + ": " + fault;
    }
    if (set.training.counted == 0) return path + ": set " + set.name + " has nothing to learn";
    weights += set.weight;
    corpus->sets.push_back(std::move(set));
  }
  if (!in.done()) return path + ": bytes after the end";
  if (corpus->samples && sets != 1) return path + ": samples come in one set";
  for (TextSet& set : corpus->sets) set.weight /= weights;
  return "";
}

std::string Windows::fault() const {
  if (!corpus_.samples) return "";
  for (const TokenList* list : {&corpus_.sets[0].training, &corpus_.sets[0].held_out}) {
    for (size_t i = 0; i < list->starts.size(); i++) {
      const size_t size = end_of(*list, i) - list->starts[i] - 1;
      if (size > static_cast<size_t>(length_)) {
        return "a sample of " + std::to_string(size) + " tokens is longer than the context of " + std::to_string(length_);
      }
    }
  }
  return "";
}

void Windows::open_epoch(uint64_t epoch) {
  const TokenList& list = corpus_.sets[0].training;
  order_.resize(list.starts.size());
  for (size_t i = 0; i < order_.size(); i++) order_[i] = static_cast<uint32_t>(i);
  Random random(seed_, 0x65706f6368000000ull + epoch);
  for (size_t i = order_.size(); i > 1; i--) std::swap(order_[i - 1], order_[random.below(i)]);
  ranges_.clear();
  size_t first = 0, filled = 0;
  for (size_t i = 0; i < order_.size(); i++) {
    const size_t size = end_of(list, order_[i]) - list.starts[order_[i]] - 1;
    if (filled + size > static_cast<size_t>(length_) && i > first) {
      ranges_.push_back({first, i});
      first = i;
      filled = 0;
    }
    filled += size;
  }
  ranges_.push_back({first, order_.size()});
  epoch_ = epoch;
}

uint64_t Windows::in_epoch() {
  if (!corpus_.samples) {
    uint64_t tokens = 0;
    for (const TextSet& set : corpus_.sets) tokens += set.training.tokens.size();
    return std::max<uint64_t>(1, (tokens + static_cast<uint64_t>(length_) - 1) / static_cast<uint64_t>(length_));
  }
  if (epoch_ == ~0ull) open_epoch(0);
  if (epoch_ == 0) return ranges_.size();
  Windows other(corpus_, length_, seed_);
  return other.in_epoch();
}

Window Windows::window(uint64_t index) {
  if (corpus_.samples) {
    if (epoch_ == ~0ull || index < epoch_begin_) {
      epoch_begin_ = 0;
      open_epoch(0);
    }
    while (index - epoch_begin_ >= ranges_.size()) {
      epoch_begin_ += ranges_.size();
      open_epoch(epoch_ + 1);
    }
    Window w;
    const Range& range = ranges_[index - epoch_begin_];
    for (size_t i = range.first; i < range.last; i++) add_sample(corpus_.sets[0].training, order_[i], &w);
    return w;
  }
  Random random(seed_, 0x77696e646f770000ull + index);
  double at = random.uniform();
  size_t which = 0;
  while (which + 1 < corpus_.sets.size() && at >= corpus_.sets[which].weight) at -= corpus_.sets[which++].weight;
  const TokenList& list = corpus_.sets[which].training;
  const auto wanted = static_cast<uint64_t>(length_);
  uint64_t choices = 1;
  if (list.tokens.size() >= wanted) {
    choices = static_cast<uint64_t>(std::upper_bound(list.starts.begin(), list.starts.end(), list.tokens.size() - wanted) - list.starts.begin());
  }
  return cut_stream(corpus_, list, list.starts[random.below(std::max<uint64_t>(choices, 1))], length_);
}

std::vector<HeldOutWindow> held_out_windows(const Corpus& corpus, long length, size_t most) {
  std::vector<HeldOutWindow> all;
  const auto add = [&](size_t set, Window window) {
    const auto counted = static_cast<uint64_t>(std::count_if(window.targets.begin(), window.targets.end(), [](int32_t t) { return t >= 0; }));
    if (counted > 0) all.push_back({set, std::move(window), counted});
  };
  for (size_t s = 0; s < corpus.sets.size(); s++) {
    const TokenList& list = corpus.sets[s].held_out;
    if (!corpus.samples) {
      const size_t least = corpus.opening >= 0 ? 1 : 2;
      for (size_t from = 0; from + least <= list.tokens.size(); from += static_cast<size_t>(length)) add(s, cut_stream(corpus, list, from, length));
      continue;
    }
    Window open;
    for (size_t i = 0; i < list.starts.size(); i++) {
      const auto size = static_cast<long>(end_of(list, i) - list.starts[i] - 1);
      if (open.size() > 0 && open.size() + size > length) {
        add(s, std::move(open));
        open = Window{};
      }
      add_sample(list, i, &open);
    }
    if (open.size() > 0) add(s, std::move(open));
  }
  if (most == 0 || most >= all.size()) return all;
  std::vector<HeldOutWindow> some;
  for (size_t i = 0; i < most; i++) some.push_back(all[i * all.size() / most]);
  return some;
}

}  // namespace zg::train
