#include "base/rlp.h"

namespace zg::rlp {

std::optional<Item> next(ByteView& in) noexcept {
  if (in.empty()) return std::nullopt;
  const uint8_t head = in[0];
  size_t head_size = 1;
  size_t size = 0;
  const bool is_list = head >= 0xc0;
  if (head < 0x80) {
    head_size = 0;
    size = 1;
  } else {
    const uint8_t base = is_list ? 0xc0 : 0x80;
    const unsigned short_size = head - base;
    if (short_size <= 55) {
      size = short_size;
    } else {
      const size_t length_bytes = short_size - 55;
      if (in.size() < 1 + length_bytes || in[1] == 0) return std::nullopt;
      // At most 8 bytes: head is at most 0xff.
      for (size_t i = 0; i < length_bytes; ++i) size = (size << 8) | in[1 + i];
      if (size <= 55) return std::nullopt;
      head_size = 1 + length_bytes;
    }
  }
  if (size > in.size() - head_size) return std::nullopt;
  // One byte below 0x80 stands for itself.
  if (!is_list && head_size == 1 && size == 1 && in[1] < 0x80) return std::nullopt;
  Item item{is_list, in.subspan(head_size, size), in.first(head_size + size)};
  in = in.subspan(head_size + size);
  return item;
}

std::optional<Item> single(ByteView in) noexcept {
  auto item = next(in);
  if (item && !in.empty()) return std::nullopt;
  return item;
}

Reader::Reader(const std::optional<Item>& item) noexcept {
  if (item && item->is_list) in_ = item->payload;
  else ok_ = false;
}

Item Reader::item() noexcept {
  if (ok_) {
    if (auto got = next(in_)) return *got;
    ok_ = false;
  }
  return {};
}

ByteView Reader::bytes() noexcept {
  const Item i = item();
  if (i.is_list) ok_ = false;
  return ok_ ? i.payload : ByteView{};
}

void Reader::fixed(uint8_t* out, size_t n) noexcept {
  const ByteView v = bytes();
  if (v.size() != n) ok_ = false;
  if (ok_) std::memcpy(out, v.data(), n);
  else std::memset(out, 0, n);
}

Address Reader::address() noexcept {
  Address a;
  fixed(a.b, 20);
  return a;
}

Hash Reader::hash() noexcept {
  Hash h;
  fixed(h.b, 32);
  return h;
}

uint64_t Reader::u64() noexcept {
  const ByteView v = bytes();
  if (v.size() > 8 || (!v.empty() && v[0] == 0)) ok_ = false;
  if (!ok_) return 0;
  uint64_t x = 0;
  for (const uint8_t b : v) x = (x << 8) | b;
  return x;
}

U256 Reader::u256() noexcept {
  const ByteView v = bytes();
  if (v.size() > 32 || (!v.empty() && v[0] == 0)) ok_ = false;
  if (!ok_ || v.empty()) return {};
  return U256::from_be(v);
}

std::optional<Address> Reader::maybe_address() noexcept {
  const ByteView v = bytes();
  if (v.size() == 20) return Address::from(v.data());
  if (!v.empty()) ok_ = false;
  return std::nullopt;
}

Reader Reader::list() noexcept {
  const Item i = item();
  if (ok_ && i.is_list) return Reader(i.payload);
  ok_ = false;
  Reader r{ByteView{}};
  r.fail();
  return r;
}

namespace {

// The head of an item of `size` bytes, `base` 0x80 or 0xc0; how many bytes of `out` it takes.
size_t write_head(uint8_t out[9], uint8_t base, size_t size) noexcept {
  if (size <= 55) {
    out[0] = static_cast<uint8_t>(base + size);
    return 1;
  }
  size_t n = 0;
  for (size_t s = size; s != 0; s >>= 8) ++n;
  out[0] = static_cast<uint8_t>(base + 55 + n);
  for (size_t i = 0; i < n; ++i) out[1 + i] = static_cast<uint8_t>(size >> (8 * (n - 1 - i)));
  return 1 + n;
}

}  // namespace

void Writer::bytes(ByteView v) {
  if (v.size() == 1 && v[0] < 0x80) {
    out.push_back(v[0]);
    return;
  }
  uint8_t head[9];
  const size_t n = write_head(head, 0x80, v.size());
  out.insert(out.end(), head, head + n);
  out.insert(out.end(), v.begin(), v.end());
}

void Writer::u64(uint64_t x) {
  uint8_t be[8];
  size_t n = 0;
  for (int shift = 56; shift >= 0; shift -= 8) {
    const auto b = static_cast<uint8_t>(x >> shift);
    if (n != 0 || b != 0) be[n++] = b;
  }
  bytes({be, n});
}

void Writer::u256(const U256& x) {
  uint8_t be[32];
  x.to_be(be);
  const size_t n = x.byte_width();
  bytes({be + 32 - n, n});
}

void Writer::close(size_t at) {
  uint8_t head[9];
  const size_t n = write_head(head, 0xc0, out.size() - at);
  out.insert(out.begin() + static_cast<std::ptrdiff_t>(at), head, head + n);
}

}  // namespace zg::rlp
