// Merging: by score (SPM) and by rank (BPE). Short pieces are scanned for their best pair again and again; long ones keep the pairs
// in a heap, where a pair whose sides have changed since is recognised when it comes up and dropped.
#include <algorithm>

#include "tokenizer.h"
#include "unicode.h"

namespace zg {
namespace {

// Below it the scan is faster than the heap.
constexpr size_t kScanBytes = 48;

using Candidate = Encoder::Candidate;
using Symbol = Encoder::Symbol;

// The heap's top is the one that all others are worse than: highest score, then leftmost.
bool worse_score(const Candidate& a, const Candidate& b) {
  if (a.score != b.score) return a.score < b.score;
  return a.left > b.left;
}

bool worse_rank(const Candidate& a, const Candidate& b) {
  if (a.rank != b.rank) return a.rank > b.rank;
  return a.left > b.left;
}

template <typename Worse>
Candidate pop(std::vector<Candidate>* heap, Worse worse) {
  std::pop_heap(heap->begin(), heap->end(), worse);
  const Candidate top = heap->back();
  heap->pop_back();
  return top;
}

template <typename Worse>
void push(std::vector<Candidate>* heap, const Candidate& c, Worse worse) {
  heap->push_back(c);
  std::push_heap(heap->begin(), heap->end(), worse);
}

// Takes the right side of a pair into the left one, which becomes id.
void join(std::vector<Symbol>* symbols, int32_t left, int32_t id) {
  Symbol& a = (*symbols)[static_cast<size_t>(left)];
  Symbol& b = (*symbols)[static_cast<size_t>(a.next)];
  a.size += b.size;
  a.id = id;
  b.size = 0;
  a.next = b.next;
  if (a.next >= 0) (*symbols)[static_cast<size_t>(a.next)].previous = left;
}

void link(std::vector<Symbol>* symbols) {
  const auto count = static_cast<int32_t>(symbols->size());
  for (int32_t i = 0; i < count; i++) {
    (*symbols)[static_cast<size_t>(i)].previous = i - 1;
    (*symbols)[static_cast<size_t>(i)].next = i + 1 < count ? i + 1 : -1;
  }
}

}  // namespace

void Tokenizer::emit_bytes(std::string_view bytes, std::vector<int32_t>* out) const {
  const bool all = std::all_of(bytes.begin(), bytes.end(), [this](char c) { return byte_ids_[static_cast<uint8_t>(c)] >= 0; });
  if (!all) {
    if (ids_.unknown >= 0) out->push_back(ids_.unknown);
    return;
  }
  for (const char c : bytes) out->push_back(byte_ids_[static_cast<uint8_t>(c)]);
}

void Tokenizer::merge_by_score(std::string_view word, Encoder* encoder, std::vector<int32_t>* out) const {
  std::vector<Symbol>& symbols = encoder->symbols;
  std::vector<Candidate>& heap = encoder->heap;
  symbols.clear();
  heap.clear();
  const char* end = word.data() + word.size();
  for (const char* p = word.data(); p < end;) {
    const uint32_t size = unicode::decode(p, end).size;
    symbols.push_back({static_cast<uint32_t>(p - word.data()), size, table_.find({p, size}), 0, 0});
    p += size;
  }
  link(&symbols);
  const auto consider = [&](int32_t left) {
    if (left < 0) return;
    const Symbol& a = symbols[static_cast<size_t>(left)];
    if (a.next < 0) return;
    const uint32_t size = a.size + symbols[static_cast<size_t>(a.next)].size;
    const int32_t id = table_.find(word.substr(a.start, size));
    if (id < 0) return;
    push(&heap, {scores_[static_cast<size_t>(id)], 0, left, 0, 0, id, size}, worse_score);
  };
  for (size_t i = 0; i + 1 < symbols.size(); i++) consider(static_cast<int32_t>(i));
  while (!heap.empty()) {
    const Candidate c = pop(&heap, worse_score);
    const Symbol& a = symbols[static_cast<size_t>(c.left)];
    if (a.size == 0 || a.next < 0 || a.size + symbols[static_cast<size_t>(a.next)].size != c.size) continue;
    join(&symbols, c.left, c.joined);
    consider(a.previous);
    consider(c.left);
  }
  for (int32_t i = symbols.empty() ? -1 : 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
    const Symbol& s = symbols[static_cast<size_t>(i)];
    if (s.id >= 0) {
      out->push_back(s.id);
    } else {
      emit_bytes(word.substr(s.start, s.size), out);
    }
  }
}

void Tokenizer::merge_by_rank(std::string_view word, Encoder* encoder, std::vector<int32_t>* out) const {
  if (word.size() > kScanBytes) return merge_long_by_rank(word, encoder, out);
  int32_t ids[kScanBytes];
  const Merge* merges[kScanBytes];
  size_t count = word.size();
  for (size_t i = 0; i < count; i++) ids[i] = byte_ids_[static_cast<uint8_t>(word[i])];
  for (size_t i = 0; i + 1 < count; i++) merges[i] = &merges_.find(ids[i], ids[i + 1]);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; i++) {
      if (merges[i]->rank < merges[best]->rank) best = i;
    }
    if (merges[best]->rank == kNoRank) break;
    ids[best] = merges[best]->joined;
    count--;
    for (size_t i = best + 1; i < count; i++) ids[i] = ids[i + 1];
    for (size_t i = best; i + 1 < count; i++) merges[i] = merges[i + 1];
    if (best > 0) merges[best - 1] = &merges_.find(ids[best - 1], ids[best]);
    if (best + 1 < count) merges[best] = &merges_.find(ids[best], ids[best + 1]);
  }
  for (size_t i = 0; i < count; i++) {
    if (ids[i] >= 0) {
      out->push_back(ids[i]);
    } else if (ids_.unknown >= 0) {
      out->push_back(ids_.unknown);
    }
  }
}

void Tokenizer::merge_long_by_rank(std::string_view word, Encoder* encoder, std::vector<int32_t>* out) const {
  std::vector<Symbol>& symbols = encoder->symbols;
  std::vector<Candidate>& heap = encoder->heap;
  symbols.clear();
  heap.clear();
  for (uint32_t i = 0; i < word.size(); i++) symbols.push_back({i, 1, byte_ids_[static_cast<uint8_t>(word[i])], 0, 0});
  link(&symbols);
  const auto consider = [&](int32_t left) {
    if (left < 0) return;
    const Symbol& a = symbols[static_cast<size_t>(left)];
    if (a.next < 0) return;
    const Symbol& b = symbols[static_cast<size_t>(a.next)];
    const Merge& m = merges_.find(a.id, b.id);
    if (m.rank != kNoRank) push(&heap, {0, m.rank, left, a.id, b.id, m.joined, a.size + b.size}, worse_rank);
  };
  for (size_t i = 0; i + 1 < symbols.size(); i++) consider(static_cast<int32_t>(i));
  while (!heap.empty()) {
    const Candidate c = pop(&heap, worse_rank);
    const Symbol& a = symbols[static_cast<size_t>(c.left)];
    if (a.size == 0 || a.next < 0) continue;
    const Symbol& b = symbols[static_cast<size_t>(a.next)];
    if (a.id != c.left_id || b.id != c.right_id || a.size + b.size != c.size) continue;
    join(&symbols, c.left, c.joined);
    consider(a.previous);
    consider(c.left);
  }
  for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
    const int32_t id = symbols[static_cast<size_t>(i)].id;
    if (id >= 0) {
      out->push_back(id);
    } else if (ids_.unknown >= 0) {
      out->push_back(ids_.unknown);
    }
  }
}

void Tokenizer::encode_bpe(std::string_view text, Encoder* encoder, std::vector<int32_t>* out) const {
  const char* end = text.data() + text.size();
  for (const char* p = text.data(); p < end;) {
    const char* next = pre_->split(p, end);
    const std::string_view word(p, static_cast<size_t>(next - p));
    p = next;
    if (encoder->cache.get(word, out)) continue;
    const size_t before = out->size();
    const int32_t whole = pre_->whole_pieces ? table_.find(word) : -1;
    if (whole >= 0) {
      out->push_back(whole);
    } else {
      merge_by_rank(word, encoder, out);
    }
    encoder->cache.put(word, out->data() + before, out->size() - before);
  }
}

void Tokenizer::encode_spm(std::string_view text, bool prefix, Encoder* encoder, std::vector<int32_t>* out) const {
  // A `▁` in the text is the same as a space.
  constexpr std::string_view kMark = "\xe2\x96\x81";
  std::string& plain = encoder->text;
  plain.clear();
  if (prefix) plain.push_back(' ');
  for (size_t at = 0; at < text.size();) {
    const size_t mark = std::min(text.find(kMark, at), text.size());
    plain.append(text, at, mark - at);
    if (mark == text.size()) break;
    plain.push_back(' ');
    at = mark + kMark.size();
  }
  if (!words_apart_) return merge_by_score(plain, encoder, out);
  for (size_t start = 0; start < plain.size();) {
    size_t end = start + 1;
    while (end < plain.size() && (plain[end] != ' ' || plain[end - 1] == ' ')) end++;
    const std::string_view word = std::string_view(plain).substr(start, end - start);
    start = end;
    if (encoder->cache.get(word, out)) continue;
    const size_t before = out->size();
    merge_by_score(word, encoder, out);
    encoder->cache.put(word, out->data() + before, out->size() - before);
  }
}

void Tokenizer::encode_fragment(std::string_view text, Encoder* encoder, std::vector<int32_t>* out) const {
  if (spm_) {
    encode_spm(text, space_prefix_, encoder, out);
  } else {
    encode_bpe(text, encoder, out);
  }
}

bool Tokenizer::encode(std::string_view text, bool special, Encoder* encoder, std::vector<int32_t>* out) const noexcept {
  if (text.size() > kMaxTextBytes) return false;
  if (!specials_.cut(text, special, {}, &encoder->fragments)) return false;
  for (const Fragment& f : encoder->fragments) {
    if (f.id >= 0) {
      out->push_back(f.id);
    } else {
      encode_fragment(text.substr(f.start, f.size), encoder, out);
    }
  }
  return true;
}

bool Tokenizer::encode_guarded(std::string_view text, std::string_view mark, Encoder* encoder,
                               std::vector<int32_t>* out) const noexcept {
  if (text.size() > kMaxTextBytes || mark.empty()) return false;
  std::vector<Fragment> fragments;
  if (!specials_.cut(text, true, mark, &fragments)) return false;
  std::string plain;
  for (const Fragment& f : fragments) {
    const std::string_view part = text.substr(f.start, f.size);
    if (f.id >= 0) {
      out->push_back(f.id);
    } else if (part.find(mark) == std::string_view::npos) {
      encode_fragment(part, encoder, out);
    } else {
      plain.clear();
      for (size_t at = 0; at < part.size();) {
        const size_t next = std::min(part.find(mark, at), part.size());
        plain.append(part, at, next - at);
        at = next + mark.size();
      }
      // A mark may have stood within the name of a user-defined token, which counts in all text.
      if (!encode(plain, false, encoder, out)) return false;
    }
  }
  return true;
}

}  // namespace zg
