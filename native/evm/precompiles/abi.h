// The little ABI coding that precompiles with state need: strict, bounded by the input's own size. Errors are sticky: the first one's text stays.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/types.h"
#include "base/u256.h"

namespace zg {

// Reads the arguments of a call; every read outside the input fails and yields zeros.
class AbiReader {
 public:
  AbiReader(ByteView data, std::string& error, uint64_t base = 0) noexcept : data_(data), error_(error), base_(base) {}
  // Word i of the tuple.
  U256 uint(uint64_t i) { return U256::from_be(slice(base_ + 32 * i, 32)); }
  U256 uint_bits(uint64_t i, unsigned bits) {
    const U256 n = uint(i);
    if (n.bit_width() > bits) fail("invalid input: integer is out of range");
    return n;
  }
  Address address(uint64_t i) { return uint_bits(i, 160).address(); }
  // The tuple that word i points to.
  AbiReader tuple(uint64_t i) { return {data_, error_, target(i)}; }
  ByteView bytes(uint64_t i, uint64_t max) {
    const uint64_t at = target(i);
    const U256 length = U256::from_be(slice(at, 32));
    if (length > U256{max}) {
      fail("invalid input: more than " + std::to_string(max) + " bytes");
      return {};
    }
    return slice(at + 32, length.low());
  }
  std::vector<Address> addresses(uint64_t i, uint64_t max) {
    const uint64_t at = target(i);
    const U256 length = U256::from_be(slice(at, 32));
    std::vector<Address> out;
    if (length > U256{max}) {
      fail("invalid input: more than " + std::to_string(max) + " addresses");
      return out;
    }
    AbiReader items{data_, error_, at + 32};
    for (uint64_t n = 0; n < length.low() && error_.empty(); ++n) out.push_back(items.address(n));
    return out;
  }
  [[nodiscard]] bool failed() const noexcept { return !error_.empty(); }
  void fail(std::string text) {
    if (error_.empty()) error_ = std::move(text);
  }

 private:
  static constexpr uint8_t kZeros[32] = {};
  uint64_t target(uint64_t i) {
    const U256 offset = uint(i);
    if (offset > U256{data_.size()}) {
      fail("invalid input: offset is out of range");
      return data_.size();
    }
    return base_ + offset.low();
  }
  // Of 32 bytes at least: zeros stand in for what is not there.
  ByteView slice(uint64_t at, uint64_t size) {
    if (at > data_.size() || size > data_.size() - at) {
      fail("invalid input: too short");
      return {kZeros, size < 32 ? size : 32};
    }
    return data_.subspan(at, size);
  }

  ByteView data_;
  std::string& error_;
  uint64_t base_;
};

inline void abi_word(Bytes& out, const U256& x) {
  const Hash h = x.be();
  out.insert(out.end(), h.b, h.b + 32);
}
// Length and content, padded to whole words.
inline void abi_bytes(Bytes& out, ByteView v) {
  abi_word(out, U256{v.size()});
  out.insert(out.end(), v.begin(), v.end());
  out.resize(out.size() + (32 - v.size() % 32) % 32);
}
// Error(string).
inline Bytes abi_error(std::string_view text) {
  Bytes out{0x08, 0xc3, 0x79, 0xa0};
  abi_word(out, U256{32});
  abi_bytes(out, as_bytes(text));
  return out;
}

}  // namespace zg
