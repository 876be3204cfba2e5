// Contract code with what the interpreter needs to know about it, computed once and shared.
#pragma once

#include <memory>
#include <vector>

#include "base/types.h"

namespace zg {

// Immutable; shared between threads.
class Code {
 public:
  // Analyses `bytes`: 1 bit a byte says whether it is a JUMPDEST outside of push data. `hash` is keccak of the bytes.
  static std::shared_ptr<const Code> make(Bytes bytes, const Hash& hash);
  static std::shared_ptr<const Code> make(Bytes bytes);
  static const std::shared_ptr<const Code>& empty();

  [[nodiscard]] const Hash& hash() const noexcept { return hash_; }
  [[nodiscard]] ByteView bytes() const noexcept { return {padded_.data(), size_}; }
  [[nodiscard]] size_t size() const noexcept { return size_; }
  // The bytes and at least 33 zeros behind them: a PUSH32 at the end may read on, and then STOPs.
  [[nodiscard]] const uint8_t* padded() const noexcept { return padded_.data(); }
  [[nodiscard]] bool is_jumpdest(uint64_t at) const noexcept {
    return at < size_ && ((jumpdests_[at >> 6] >> (at & 63)) & 1) != 0;
  }
  // The 20 bytes behind ef0100 when this is a delegation (EIP-7702).
  [[nodiscard]] bool delegation(Address& target) const noexcept;

 private:
  Bytes padded_;
  size_t size_ = 0;
  Hash hash_{};
  std::vector<uint64_t> jumpdests_;
};

// Codes by hash, process-wide and bounded (bytes); thread safe.
class CodeCache {
 public:
  static CodeCache& instance();
  std::shared_ptr<const Code> find(const Hash& hash);
  void add(const std::shared_ptr<const Code>& code);
  [[nodiscard]] size_t bytes();
};

}  // namespace zg
