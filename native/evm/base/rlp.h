// Recursive Length Prefix (Ethereum Yellow Paper, appendix B). The reader is strict: it refuses what an encoder would not have
// written (long forms of short things, leading zeros of lengths), never allocates, and stays within the bytes it was given.
#pragma once

#include <optional>

#include "base/types.h"
#include "base/u256.h"

namespace zg::rlp {

// One item: a string or a list. `payload` is what is inside, `whole` the item with its head.
struct Item {
  bool is_list = false;
  ByteView payload;
  ByteView whole;
};

// The first item of `in`; moves `in` behind it. nullopt when it is malformed.
std::optional<Item> next(ByteView& in) noexcept;
// The only item of `in`: nothing may follow.
std::optional<Item> single(ByteView in) noexcept;

// Walks the items of a list in order. After any failure `ok` is false and everything that follows yields zeros, so that a decoder
// reads all its fields and asks once at the end: `r.done()`.
class Reader {
 public:
  explicit Reader(ByteView list_payload) noexcept : in_(list_payload) {}
  // Of a list item; anything else: not ok.
  explicit Reader(const std::optional<Item>& item) noexcept;
  [[nodiscard]] bool ok() const noexcept { return ok_; }
  [[nodiscard]] bool empty() const noexcept { return in_.empty(); }
  // All was well and nothing is left.
  [[nodiscard]] bool done() const noexcept { return ok_ && in_.empty(); }
  void fail() noexcept { ok_ = false; }
  Item item() noexcept;
  // A string of any length.
  ByteView bytes() noexcept;
  // A string of exactly n bytes, written to `out`.
  void fixed(uint8_t* out, size_t n) noexcept;
  Address address() noexcept;
  Hash hash() noexcept;
  // A canonical number: no leading zeros, at most 8 or 32 bytes.
  uint64_t u64() noexcept;
  U256 u256() noexcept;
  // Empty, or an address of 20 bytes.
  std::optional<Address> maybe_address() noexcept;
  Reader list() noexcept;

 private:
  ByteView in_;
  bool ok_ = true;
};

// Writes items one behind the other. Lists: `size_t at = w.open(); …; w.close(at)`.
class Writer {
 public:
  Bytes out;
  void bytes(ByteView v);
  void u64(uint64_t x);
  void u256(const U256& x);
  void address(const Address& a) { bytes(a.view()); }
  void hash(const Hash& h) { bytes(h.view()); }
  void maybe_address(const std::optional<Address>& a) { bytes(a ? a->view() : ByteView{}); }
  // An item that is encoded already.
  void raw(ByteView item) { out.insert(out.end(), item.begin(), item.end()); }
  [[nodiscard]] size_t open() const noexcept { return out.size(); }
  // Puts the head of a list before everything that was written since `at`.
  void close(size_t at);
};

}  // namespace zg::rlp
