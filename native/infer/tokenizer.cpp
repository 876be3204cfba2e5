// Reading a vocabulary, and ids back to bytes. Encoding: tokenizer_merge.cpp.
#include "tokenizer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "unicode.h"

namespace zg {
namespace {

constexpr uint64_t kMaxTokens = uint64_t{1} << 22;
constexpr uint64_t kMaxVocabularyBytes = uint64_t{256} << 20;
constexpr std::string_view kMark = "\xe2\x96\x81";

// Tokens of these names end an answer, also where the file does not say so.
constexpr std::string_view kEndNames[] = {
    "<|im_end|>",      "<|eot_id|>", "<|eom_id|>",        "<|end|>",    "<end_of_turn>",
    "<|endoftext|>",   "</s>",       "<|end_of_text|>",   "<|return|>", "<|call|>",
};

bool fail(gguf::Error* error, std::string what) {
  error->message = std::move(what);
  return false;
}

std::string quoted(std::string_view text) {
  std::string out(1, '\'');
  out += gguf::printable(text);
  out += '\'';
  return out;
}

// Byte-level BPE writes each byte as a printable character: 33–126, 161–172 and 174–255 as themselves, the 68 others in ascending
// order as U+0100 … U+0143.
struct PrintableBytes {
  // By code point, -1 where it stands for no byte.
  int16_t byte_of[0x144];
  PrintableBytes() {
    std::fill(std::begin(byte_of), std::end(byte_of), int16_t{-1});
    int next = 0x100;
    for (int b = 0; b < 256; b++) {
      const bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      byte_of[plain ? b : next++] = static_cast<int16_t>(b);
    }
  }
  // Appends the bytes that text stands for; false, nothing appended, when it has another character.
  bool append(std::string_view text, std::string* out) const {
    const size_t before = out->size();
    for (const char *p = text.data(), *end = p + text.size(); p < end;) {
      const unicode::Decoded d = unicode::decode(p, end);
      if (d.code_point >= 0x144 || byte_of[d.code_point] < 0) {
        out->resize(before);
        return false;
      }
      out->push_back(static_cast<char>(byte_of[d.code_point]));
      p += d.size;
    }
    return true;
  }
};

const PrintableBytes& printable_bytes() {
  static const PrintableBytes table;
  return table;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// The byte of `<0xXX>`, or -1.
int byte_of_name(std::string_view name) {
  if (name.size() != 6 || name.substr(0, 3) != "<0x" || name[5] != '>') return -1;
  const int high = hex_digit(name[3]);
  const int low = hex_digit(name[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

void append_plain(std::string_view text, std::string* out) {
  for (size_t at = 0; at < text.size();) {
    const size_t mark = std::min(text.find(kMark, at), text.size());
    out->append(text, at, mark - at);
    if (mark == text.size()) break;
    out->push_back(' ');
    at = mark + kMark.size();
  }
}

}  // namespace

uint64_t process_salt() noexcept {
  static const uint64_t salt = [] {
    const auto now = static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
    return mix(now ^ mix(reinterpret_cast<uintptr_t>(&kEndNames)));
  }();
  return salt;
}

std::unique_ptr<Tokenizer> Tokenizer::open(std::shared_ptr<const gguf::File> file, std::string_view pre,
                                           std::vector<std::string>* warnings, gguf::Error* error) noexcept {
  std::unique_ptr<Tokenizer> t(new Tokenizer());
  t->file_ = std::move(file);
  if (!t->read(pre, warnings, error)) return nullptr;
  return t;
}

bool Tokenizer::read(std::string_view pre, std::vector<std::string>* warnings, gguf::Error* error) {
  const gguf::File& f = *file_;
  if (f.find("tokenizer.ggml.model") == nullptr) return fail(error, "the file has no tokenizer: key 'tokenizer.ggml.model'");
  if (!f.get("tokenizer.ggml.model", &model_, error)) return false;
  if (model_ != "llama" && model_ != "gpt2") {
    return fail(error, "tokenizer " + quoted(model_) + " is not known; known are llama and gpt2");
  }
  spm_ = model_ == "llama";
  if (!spm_) {
    std::string_view name = pre;
    if (name.empty() && !f.get("tokenizer.ggml.pre", &name, error)) return false;
    if (name.empty() || name == "default") {
      warnings->push_back("the file names no pre-tokenizer: gpt-2 is used, and the tokens may be wrong");
      name = "gpt-2";
    }
    pre_ = find_pre_tokenizer(name);
    if (pre_ == nullptr) {
      return fail(error, "pre-tokenizer " + quoted(name) +
                             " is not known; known are gpt-2, llama-bpe, qwen2, tekken, gpt-4o, smollm and their aliases");
    }
  }
  add_bos_ = spm_ || pre_->add_bos;
  space_prefix_ = spm_;
  if (!f.get("tokenizer.ggml.add_bos_token", &add_bos_, error) || !f.get("tokenizer.ggml.add_eos_token", &add_eos_, error) ||
      !f.get("tokenizer.ggml.add_space_prefix", &space_prefix_, error) ||
      !f.get("tokenizer.chat_template", &chat_template_, error)) {
    return false;
  }
  if (!read_tokens(warnings, error)) return false;
  if (!read_ids(warnings, error)) return false;
  return spm_ ? read_scores(error) : read_merges(warnings, error);
}

bool Tokenizer::read_types(uint64_t count, gguf::Error* error) {
  types_.assign(count, static_cast<uint8_t>(TokenType::kNormal));
  const gguf::Value* types = file_->find("tokenizer.ggml.token_type");
  if (types == nullptr) return true;
  if (types->type != gguf::ValueType::kArray || types->count != count) {
    return fail(error, "tokenizer.ggml.token_type is no array as long as the tokens");
  }
  for (uint64_t i = 0; i < count; i++) {
    int64_t type = 0;
    if (!types->to_int(i, &type)) return fail(error, "tokenizer.ggml.token_type does not hold integers");
    if (type < 1 || type > 6) {
      return fail(error, "tokenizer.ggml.token_type: token " + std::to_string(i) + " has the unknown type " + std::to_string(type));
    }
    types_[i] = static_cast<uint8_t>(type);
  }
  return true;
}

bool Tokenizer::read_tokens(std::vector<std::string>* warnings, gguf::Error* error) {
  const gguf::Value* tokens = file_->find("tokenizer.ggml.tokens");
  if (tokens == nullptr || !tokens->is_array_of(gguf::ValueType::kString) || tokens->count == 0) {
    return fail(error, "tokenizer.ggml.tokens is no array of strings, or is empty");
  }
  if (tokens->count > kMaxTokens || tokens->size > kMaxVocabularyBytes) {
    return fail(error, "tokenizer.ggml.tokens has " + std::to_string(tokens->count) + " tokens of " +
                           std::to_string(tokens->size) + " bytes, at most " + std::to_string(kMaxTokens) + " and " +
                           std::to_string(kMaxVocabularyBytes) + " are read");
  }
  if (!read_types(tokens->count, error)) return false;
  std::fill(std::begin(byte_ids_), std::end(byte_ids_), -1);
  pieces_.reserve(tokens->count, tokens->size - 8 * tokens->count);
  size_t odd_bytes = 0;
  std::string piece;
  std::string_view name;
  // Ids in the file's order; `plain` are those whose text may be merged.
  std::vector<int32_t> plain;
  plain.reserve(tokens->count);
  gguf::Strings names(*tokens);
  for (size_t id = 0; names.next(&name); id++) {
    const auto end_name = std::find(std::begin(kEndNames), std::end(kEndNames), name);
    // Some converters leave these ordinary, and users could then write them. `</s>` alone is also honest HTML.
    if (end_name != std::end(kEndNames) && name != "</s>" && type(id) == TokenType::kNormal) {
      types_[id] = static_cast<uint8_t>(TokenType::kControl);
    }
    piece.clear();
    bool as_written = false;
    if (type(id) == TokenType::kByte) {
      const int byte = byte_of_name(name);
      if (byte < 0) {
        odd_bytes++;
      } else {
        piece.push_back(static_cast<char>(byte));
        if (byte_ids_[byte] < 0) byte_ids_[byte] = static_cast<int32_t>(id);
      }
    } else if (mergeable(id) && spm_ && type(id) == TokenType::kNormal) {
      append_plain(name, &piece);
      // A real space cannot come out of text, where all spaces are `▁`.
      as_written = name.find(' ') != std::string_view::npos;
    } else if (mergeable(id) && !spm_) {
      as_written = !printable_bytes().append(name, &piece);
      if (as_written) piece = name;
    } else {
      piece = name;
      as_written = spm_ && name.find(' ') != std::string_view::npos;
    }
    pieces_.add(piece);
    if (mergeable(id) && !as_written && !piece.empty()) plain.push_back(static_cast<int32_t>(id));
    if (type(id) == TokenType::kControl || type(id) == TokenType::kUserDefined) {
      specials_.add(name, static_cast<int32_t>(id), type(id) == TokenType::kControl);
    }
  }
  specials_.prepare();
  if (odd_bytes > 0) warnings->push_back(std::to_string(odd_bytes) + " byte tokens are not named <0xXX> and are left out");
  table_.reserve(plain.size());
  words_apart_ = spm_;
  for (const int32_t id : plain) {
    table_.put(id);
    const std::string_view p = pieces_.at(static_cast<size_t>(id));
    const size_t word = p.find_first_not_of(' ');
    if (word != std::string_view::npos && p.find(' ', word) != std::string_view::npos) words_apart_ = false;
  }
  if (!spm_) {
    for (int b = 0; b < 256; b++) {
      const char c = static_cast<char>(b);
      byte_ids_[b] = table_.find({&c, 1});
    }
  }
  const auto missing = std::count(std::begin(byte_ids_), std::end(byte_ids_), -1);
  if (missing > 0 && !spm_) warnings->push_back(std::to_string(missing) + " bytes have no token and cannot be written");
  return true;
}

bool Tokenizer::read_ids(std::vector<std::string>* warnings, gguf::Error* error) {
  const auto count = static_cast<uint32_t>(size());
  const auto read_id = [&](const char* key, int32_t* out) {
    uint32_t id = count;
    if (!file_->get(key, &id, error)) return false;
    if (file_->find(key) == nullptr) return true;
    if (id >= count) {
      return fail(error, std::string(key) + " is " + std::to_string(id) + ", the vocabulary has " + std::to_string(count) + " tokens");
    }
    *out = static_cast<int32_t>(id);
    return true;
  };
  if (!read_id("tokenizer.ggml.bos_token_id", &ids_.bos) || !read_id("tokenizer.ggml.eos_token_id", &ids_.eos) ||
      !read_id("tokenizer.ggml.eot_token_id", &ids_.eot) || !read_id("tokenizer.ggml.eom_token_id", &ids_.eom) ||
      !read_id("tokenizer.ggml.unknown_token_id", &ids_.unknown) || !read_id("tokenizer.ggml.padding_token_id", &ids_.padding)) {
    return false;
  }
  if (ids_.unknown < 0) {
    const auto first = std::find(types_.begin(), types_.end(), static_cast<uint8_t>(TokenType::kUnknown));
    if (first != types_.end()) ids_.unknown = static_cast<int32_t>(first - types_.begin());
  }
  if (spm_ && ids_.unknown < 0 && std::count(std::begin(byte_ids_), std::end(byte_ids_), -1) > 0) {
    warnings->push_back("neither an unknown token nor all byte tokens: characters without a token are left out");
  }
  if (add_bos_ && ids_.bos < 0) {
    warnings->push_back("the file asks for a first token (BOS) and names none");
    add_bos_ = false;
  }
  find_end_ids();
  return true;
}

void Tokenizer::find_end_ids() {
  for (const int32_t id : {ids_.eos, ids_.eot, ids_.eom}) {
    if (id >= 0) end_ids_.push_back(id);
  }
  for (size_t id = 0; id < size(); id++) {
    if (type(id) != TokenType::kControl && type(id) != TokenType::kUserDefined) continue;
    const std::string_view name = pieces_.at(id);
    if (std::find(std::begin(kEndNames), std::end(kEndNames), name) != std::end(kEndNames)) {
      end_ids_.push_back(static_cast<int32_t>(id));
    }
  }
  std::sort(end_ids_.begin(), end_ids_.end());
  end_ids_.erase(std::unique(end_ids_.begin(), end_ids_.end()), end_ids_.end());
}

bool Tokenizer::read_scores(gguf::Error* error) {
  const gguf::Value* scores = file_->find("tokenizer.ggml.scores");
  if (scores == nullptr || scores->type != gguf::ValueType::kArray || scores->count != size()) {
    return fail(error, "tokenizer.ggml.scores is no array as long as the tokens");
  }
  scores_.resize(size());
  for (size_t i = 0; i < size(); i++) {
    if (!scores->to_float(i, &scores_[i])) return fail(error, "tokenizer.ggml.scores does not hold floats");
    // The order of merging would not be one.
    if (std::isnan(scores_[i])) {
      return fail(error, "tokenizer.ggml.scores: the score of token " + std::to_string(i) + " is not a number");
    }
  }
  return true;
}

bool Tokenizer::read_merges(std::vector<std::string>* warnings, gguf::Error* error) {
  const gguf::Value* merges = file_->find("tokenizer.ggml.merges");
  if (merges == nullptr || !(merges->is_array_of(gguf::ValueType::kString))) {
    return fail(error, "tokenizer.ggml.merges is no array of strings");
  }
  if (merges->count > 2 * kMaxTokens || merges->size > kMaxVocabularyBytes) {
    return fail(error, "tokenizer.ggml.merges has " + std::to_string(merges->count) + " merges, at most " +
                           std::to_string(2 * kMaxTokens) + " are read");
  }
  merges_.reserve(merges->count);
  size_t dropped = 0;
  std::string first_dropped;
  std::string bytes;
  // Merges are looked up side by side: each waits for memory several times, and a vocabulary has 150,000.
  struct Line {
    std::string_view merge;
    // Of the bytes: where it starts, where its second half does, where it ends; start = end: not two printable halves.
    size_t start, middle, end;
    uint64_t hashes[3];
    int32_t ids[3];
  };
  constexpr size_t kTogether = 64;
  Line lines[kTogether];
  gguf::Strings all(*merges);
  uint32_t rank = 0;
  for (size_t count = kTogether; count == kTogether; rank += static_cast<uint32_t>(count)) {
    bytes.clear();
    for (count = 0; count < kTogether && all.next(&lines[count].merge); count++) {
      Line& l = lines[count];
      l.start = l.middle = l.end = bytes.size();
      const size_t space = l.merge.find(' ', 1);
      if (space == std::string_view::npos || !printable_bytes().append(l.merge.substr(0, space), &bytes)) continue;
      l.middle = bytes.size();
      if (printable_bytes().append(l.merge.substr(space + 1), &bytes)) l.end = bytes.size();
    }
    const auto text = [&](const Line& l, int i) {
      const size_t from = i == 1 ? l.middle : l.start;
      return std::string_view(bytes).substr(from, (i == 0 ? l.middle : l.end) - from);
    };
    const auto each = [&](const auto& body) {
      for (size_t n = 0; n < count; n++) {
        for (int i = 0; i < 3 && lines[n].end > lines[n].start; i++) body(lines[n], i);
      }
    };
    each([&](Line& l, int i) { table_.fetch_slot(l.hashes[i] = table_.hash(text(l, i))); });
    each([&](Line& l, int i) { table_.fetch_piece(l.hashes[i]); });
    each([&](Line& l, int i) { l.ids[i] = table_.find(text(l, i), l.hashes[i]); });
    const auto known = [](const Line& l) { return l.end > l.start && l.ids[0] >= 0 && l.ids[1] >= 0 && l.ids[2] >= 0; };
    for (size_t n = 0; n < count; n++) {
      if (known(lines[n])) merges_.fetch(lines[n].ids[0], lines[n].ids[1]);
    }
    for (size_t n = 0; n < count; n++) {
      const Line& l = lines[n];
      if (known(l)) {
        merges_.put(l.ids[0], l.ids[1], rank + static_cast<uint32_t>(n), l.ids[2]);
      } else if (dropped++ == 0) {
        first_dropped = quoted(l.merge);
      }
    }
  }
  if (dropped > 0) {
    warnings->push_back(std::to_string(dropped) + " of " + std::to_string(merges->count) +
                        " merges are not two tokens that make a third and are left out, the first is " + first_dropped);
  }
  return true;
}

std::string_view Tokenizer::piece(int64_t id, bool special) const noexcept {
  if (id < 0 || static_cast<uint64_t>(id) >= size()) return {};
  const auto i = static_cast<size_t>(id);
  const TokenType t = type(i);
  if (!special && (t == TokenType::kControl || t == TokenType::kUnknown || t == TokenType::kUnused)) return {};
  return pieces_.at(i);
}

void Tokenizer::decode(const int32_t* ids, size_t count, bool special, std::string* out) const noexcept {
  const size_t start = out->size();
  for (size_t i = 0; i < count; i++) out->append(piece(ids[i], special));
  if (space_prefix_ && spm_ && out->size() > start && (*out)[start] == ' ') out->erase(start, 1);
}

}  // namespace zg
