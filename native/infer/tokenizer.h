// Tokenizers of model files (inference.md section 5): SentencePiece-style merging by score (tokenizer.ggml.model `llama`) and
// byte-level BPE (`gpt2`). A Tokenizer is read from a GGUF file once, then only read; whoever encodes brings an Encoder, which holds
// the working memory and the cache of short pieces.
//
// Text is bytes: what is no UTF-8 is kept byte by byte. Control tokens never come out of ordinary text: their names are matched only
// where the caller asks for it, and they take no part in merging.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gguf.h"
#include "tokenizer_special.h"
#include "tokenizer_split.h"
#include "tokenizer_table.h"

namespace zg {

// Longer text is refused: callers bound it much lower, by the context.
constexpr size_t kMaxTextBytes = size_t{16} << 20;

enum class TokenType : uint8_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

// -1: the file has none.
struct SpecialIds {
  int32_t bos = -1;
  int32_t eos = -1;
  int32_t eot = -1;
  int32_t eom = -1;
  int32_t unknown = -1;
  int32_t padding = -1;
};

// Ids of a short piece that was encoded before: direct-mapped, 64 bytes an entry, 1 MiB in all.
class PieceCache {
 public:
  static constexpr size_t kMaxPieceBytes = 30;
  static constexpr size_t kMaxIds = 8;

  PieceCache() : entries_(kEntries) {}
  // Appends the ids of a known piece.
  bool get(std::string_view piece, std::vector<int32_t>* out) {
    if (piece.size() > kMaxPieceBytes) return false;
    last_ = &entries_[hash_bytes(piece, salt_) & (kEntries - 1)];
    const Entry& e = *last_;
    if (e.size != piece.size() || std::memcmp(e.bytes, piece.data(), piece.size()) != 0) return false;
    out->insert(out->end(), e.ids, e.ids + e.count);
    return true;
  }
  // Keeps the ids of the piece that get() was last asked for.
  void put(std::string_view piece, const int32_t* ids, size_t count) {
    if (piece.size() > kMaxPieceBytes || count > kMaxIds) return;
    Entry& e = *last_;
    e.size = static_cast<uint8_t>(piece.size());
    e.count = static_cast<uint8_t>(count);
    std::memcpy(e.bytes, piece.data(), piece.size());
    // A piece of a damaged vocabulary may have none.
    if (count > 0) std::memcpy(e.ids, ids, count * sizeof *ids);
  }

 private:
  static constexpr size_t kEntries = 16384;
  struct Entry {
    uint8_t size = 0;
    uint8_t count = 0;
    char bytes[kMaxPieceBytes] = {};
    int32_t ids[kMaxIds] = {};
  };
  std::vector<Entry> entries_;
  Entry* last_ = nullptr;
  uint64_t salt_ = process_salt();
};

// Working memory of one caller; for one Tokenizer and one thread.
struct Encoder {
  // A run of bytes that is not merged any further. Neighbours by index; -1 at the ends; size 0: joined into its left neighbour.
  struct Symbol {
    uint32_t start;
    uint32_t size;
    int32_t id;
    int32_t previous;
    int32_t next;
  };
  // A pair that may merge: by `order` ascending (rank, or the score turned round), then by place.
  struct Candidate {
    float score;
    uint32_t rank;
    int32_t left;
    int32_t left_id;
    int32_t right_id;
    int32_t joined;
    uint32_t size;
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
  std::vector<Fragment> fragments;
  std::string text;
  PieceCache cache;
};

class Tokenizer {
 public:
  // Reads the vocabulary, or nullptr with the reason in error. warnings gets what is odd but can be lived with, a few lines at most.
  // pre overrides tokenizer.ggml.pre when it is not empty.
  static std::unique_ptr<Tokenizer> open(std::shared_ptr<const gguf::File> file, std::string_view pre,
                                         std::vector<std::string>* warnings, gguf::Error* error) noexcept;

  // Appends the ids of text, without BOS; special: names of control tokens become those tokens. False when the text is too long or
  // made to have too many special tokens.
  bool encode(std::string_view text, bool special, Encoder* encoder, std::vector<int32_t>* out) const noexcept;
  // The same for text whose parts went through guard(): names of control tokens count in what was not guarded. The mark itself is
  // left out; without marks the ids are those of encode() with special set.
  bool encode_guarded(std::string_view text, std::string_view mark, Encoder* encoder, std::vector<int32_t>* out) const noexcept;
  // Appends text so marked that no control token comes of it.
  void guard(std::string_view text, std::string_view mark, std::string* out) const noexcept { specials_.guard(text, mark, out); }
  // The bytes of an id; of control tokens only when special is set. Empty for ids that are not there.
  std::string_view piece(int64_t id, bool special) const noexcept;
  // Appends the bytes of ids as a text of its own: the space that encode() put in front is left out.
  void decode(const int32_t* ids, size_t count, bool special, std::string* out) const noexcept;

  size_t size() const { return pieces_.count(); }
  TokenType type(size_t id) const { return static_cast<TokenType>(types_[id]); }
  const SpecialIds& special_ids() const { return ids_; }
  // Ids that end an answer, ascending.
  const std::vector<int32_t>& end_ids() const { return end_ids_; }
  bool add_bos() const { return add_bos_; }
  bool add_eos() const { return add_eos_; }
  bool space_prefix() const { return space_prefix_; }
  // `llama` or `gpt2`.
  std::string_view model() const { return model_; }
  std::string_view chat_template() const { return chat_template_; }

 private:
  Tokenizer() = default;
  bool read(std::string_view pre, std::vector<std::string>* warnings, gguf::Error* error);
  bool read_tokens(std::vector<std::string>* warnings, gguf::Error* error);
  bool read_ids(std::vector<std::string>* warnings, gguf::Error* error);
  bool read_types(uint64_t count, gguf::Error* error);
  bool read_scores(gguf::Error* error);
  bool read_merges(std::vector<std::string>* warnings, gguf::Error* error);
  void find_end_ids();

  bool mergeable(size_t id) const { return type(id) == TokenType::kNormal || type(id) == TokenType::kUserDefined; }
  void encode_fragment(std::string_view text, Encoder* encoder, std::vector<int32_t>* out) const;
  void encode_spm(std::string_view text, bool prefix, Encoder* encoder, std::vector<int32_t>* out) const;
  void encode_bpe(std::string_view text, Encoder* encoder, std::vector<int32_t>* out) const;
  void merge_by_score(std::string_view word, Encoder* encoder, std::vector<int32_t>* out) const;
  void merge_by_rank(std::string_view word, Encoder* encoder, std::vector<int32_t>* out) const;
  void merge_long_by_rank(std::string_view word, Encoder* encoder, std::vector<int32_t>* out) const;
  void emit_bytes(std::string_view bytes, std::vector<int32_t>* out) const;

  std::shared_ptr<const gguf::File> file_;
  std::string_view model_;
  std::string_view chat_template_;
  bool spm_ = false;
  const PreTokenizer* pre_ = nullptr;
  bool add_bos_ = false;
  bool add_eos_ = false;
  bool space_prefix_ = false;
  // No token crosses from something else into a space, so that words can be merged on their own.
  bool words_apart_ = false;
  SpecialIds ids_;
  std::vector<int32_t> end_ids_;
  std::vector<uint8_t> types_;
  std::vector<float> scores_;
  // What each id stands for in text: `▁` is a space, BPE's printable characters are bytes again.
  Pieces pieces_;
  // Ids that merging may give.
  PieceTable table_{pieces_};
  MergeTable merges_;
  // The id of each single byte, or -1: byte tokens (SPM), pieces of one byte (BPE).
  int32_t byte_ids_[256];
  SpecialNames specials_;
};

}  // namespace zg
