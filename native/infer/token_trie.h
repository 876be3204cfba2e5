// The vocabulary as a trie over bytes, so that one walk tells which tokens a grammar allows. Immutable, shared between threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace zg::infer {

class TokenTrie {
 public:
  struct Node {
    // Index of the first node behind this one's subtree; children follow their parent at once.
    uint32_t next;
    // Tokens that end here: ids()[first] … ids()[first + count − 1].
    uint32_t first;
    uint16_t count;
    // 1 for children of the root.
    uint16_t depth;
    uint8_t byte;
  };
  // Longer tokens (runs of spaces and the like) are left out: no grammar needs them.
  static constexpr size_t kMaxDepth = 256;

  // pieces: bytes of every id; ids whose bytes are empty (control tokens) are in no path.
  static std::shared_ptr<const TokenTrie> build(const std::vector<std::string_view>& pieces);

  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<uint32_t>& ids() const { return ids_; }
  // Number of ids in the vocabulary, those without bytes included.
  size_t size() const { return size_; }
  // Every single byte is a token.
  bool every_byte() const { return every_byte_; }
  std::string_view piece(uint32_t id) const { return {bytes_.data() + starts_[id], starts_[id + 1] - starts_[id]}; }
  // Splits bytes from the left, always taking the longest token. False when some byte begins no token.
  bool split(std::string_view bytes, std::vector<uint32_t>* out) const;

 private:
  std::vector<Node> nodes_;
  std::vector<uint32_t> ids_;
  std::vector<char> bytes_;
  std::vector<uint32_t> starts_;
  size_t size_ = 0;
  bool every_byte_ = false;
};

}  // namespace zg::infer
