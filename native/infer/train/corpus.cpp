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
    return take(out->data(), count);
  }
  bool done() const { return at_ == bytes_.size(); }

 private:
  std::vector<char> bytes_;
  size_t at_ = 0;
};

bool below(const std::vector<uint16_t>& tokens, uint32_t vocab) {
  return std::all_of(tokens.begin(), tokens.end(), [&](uint16_t t) { return t < vocab; });
}

}  // namespace

std::string read_corpus(const std::string& path, Corpus* corpus) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return "cannot open " + path;
  Input in({std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()});
  char magic[8];
  uint32_t version = 0, vocab = 0, opening = 0, sets = 0;
  if (!in.take(magic, 8) || std::memcmp(magic, "ZGTOKENS", 8) != 0) return path + ": not a token file";
  if (!in.number(&version) || version != 1) return path + ": unknown version of a token file";
  if (!in.number(&vocab) || !in.number(&opening) || !in.number(&sets)) return path + ": cut short";
  if (vocab < 2 || vocab > 65535 || opening >= vocab || sets < 1 || sets > 64) return path + ": header out of range";
  corpus->vocab = vocab;
  corpus->opening = static_cast<int32_t>(opening);
  double weights = 0;
  for (uint32_t i = 0; i < sets; i++) {
    TextSet set;
    uint32_t name_size = 0;
    float weight = 0;
    uint64_t tokens = 0, starts = 0, held_out = 0;
    std::vector<char> name;
    if (!in.number(&name_size) || name_size > 255 || !in.list(&name, name_size) || !in.number(&weight) ||
        !in.number(&tokens) || !in.number(&starts) || !in.number(&held_out) || !in.number(&set.held_out_bytes) ||
        !in.list(&set.tokens, tokens) || !in.list(&set.starts, starts) || !in.list(&set.held_out, held_out)) {
      return path + ": cut short";
    }
    set.name.assign(name.begin(), name.end());
    set.weight = static_cast<double>(weight);
    if (!(weight > 0) || tokens < 2 || starts < 1 || held_out < 2) return path + ": set " + set.name + " is empty";
    if (!below(set.tokens, vocab) || !below(set.held_out, vocab)) return path + ": a token outside the vocabulary";
    if (set.starts[0] != 0 || !std::is_sorted(set.starts.begin(), set.starts.end()) || set.starts.back() >= tokens) {
      return path + ": starts of set " + set.name + " out of range";
    }
    weights += set.weight;
    corpus->sets.push_back(std::move(set));
  }
  if (!in.done()) return path + ": bytes after the end";
  for (TextSet& set : corpus->sets) set.weight /= weights;
  return "";
}

void draw_window(const Corpus& corpus, uint64_t seed, uint64_t index, long length, int32_t* tokens, int32_t* targets) {
  Random random(seed, 0x77696e646f770000ull + index);
  double at = random.uniform();
  size_t which = 0;
  while (which + 1 < corpus.sets.size() && at >= corpus.sets[which].weight) at -= corpus.sets[which++].weight;
  const TextSet& set = corpus.sets[which];
  const auto wanted = static_cast<uint64_t>(length);
  uint64_t choices = 1;
  if (set.tokens.size() >= wanted) {
    choices = static_cast<uint64_t>(std::upper_bound(set.starts.begin(), set.starts.end(), set.tokens.size() - wanted) -
                                    set.starts.begin());
  }
  const uint64_t from = set.starts[random.below(choices)];
  tokens[0] = corpus.opening;
  for (long i = 0; i < length; i++) {
    const uint64_t p = from + static_cast<uint64_t>(i);
    targets[i] = p < set.tokens.size() ? set.tokens[p] : -1;
    if (i + 1 < length) tokens[i + 1] = targets[i] < 0 ? corpus.opening : targets[i];
  }
}

std::vector<HeldOutWindow> held_out_windows(const Corpus& corpus, long length) {
  std::vector<HeldOutWindow> windows;
  for (size_t s = 0; s < corpus.sets.size(); s++) {
    const size_t size = corpus.sets[s].held_out.size();
    for (size_t from = 0; from < size; from += static_cast<size_t>(length)) {
      windows.push_back({s, from, std::min(length, static_cast<long>(size - from))});
    }
  }
  return windows;
}

void fill_held_out(const Corpus& corpus, const HeldOutWindow& window, int32_t* tokens, int32_t* targets) {
  const uint16_t* text = corpus.sets[window.set].held_out.data() + window.from;
  tokens[0] = corpus.opening;
  for (long i = 0; i < window.length; i++) {
    targets[i] = text[i];
    if (i + 1 < window.length) tokens[i + 1] = text[i];
  }
}

}  // namespace zg::train
