#include "trie/node.h"

namespace zg::trie {
namespace {

constexpr size_t kMaxNibbles = 64;

void head(uint8_t base, size_t size, Bytes& out) {
  if (size < 56) {
    out.push_back(static_cast<uint8_t>(base + size));
    return;
  }
  uint8_t be[8];
  size_t n = 0;
  for (size_t x = size; x != 0; x >>= 8) be[n++] = static_cast<uint8_t>(x);
  out.push_back(static_cast<uint8_t>(base + 55 + n));
  while (n > 0) out.push_back(be[--n]);
}

size_t head_size(size_t size) noexcept {
  size_t n = 1;
  if (size >= 56)
    for (size_t x = size; x != 0; x >>= 8) n++;
  return n;
}

size_t compact_size(size_t nibbles) noexcept {
  const size_t bytes = nibbles / 2 + 1;
  return bytes == 1 ? 1 : bytes + head_size(bytes);
}

// A reference inside a node: a hash is a string, a short node is itself.
void put_ref(const Ref& r, Bytes& out) {
  if (r.len == 0) {
    out.push_back(0x80);
    return;
  }
  if (r.len == 32) out.push_back(0xa0);
  out.insert(out.end(), r.b, r.b + r.len);
}
size_t ref_size(const Ref& r) noexcept { return r.len == 0 ? 1 : r.len == 32 ? 33 : r.len; }

}  // namespace

void rlp_string(ByteView s, Bytes& out) {
  if (s.size() == 1 && s[0] < 0x80) {
    out.push_back(s[0]);
    return;
  }
  head(0x80, s.size(), out);
  out.insert(out.end(), s.begin(), s.end());
}

size_t rlp_string_size(ByteView s) noexcept {
  return s.size() == 1 && s[0] < 0x80 ? 1 : s.size() + head_size(s.size());
}

void rlp_list_head(size_t payload, Bytes& out) { head(0xc0, payload, out); }

void rlp_compact(const uint8_t* nibbles, size_t count, bool leaf, Bytes& out) {
  const size_t bytes = count / 2 + 1;
  if (bytes > 1) head(0x80, bytes, out);
  const uint8_t flag = leaf ? 0x20 : 0x00;
  size_t i = 0;
  if ((count & 1) != 0) {
    out.push_back(static_cast<uint8_t>(flag | 0x10 | nibbles[0]));
    i = 1;
  } else {
    out.push_back(flag);
  }
  for (; i < count; i += 2) out.push_back(static_cast<uint8_t>(nibbles[i] << 4 | nibbles[i + 1]));
}

void rlp_leaf(const uint8_t* nibbles, size_t count, ByteView value, Bytes& out) {
  rlp_list_head(compact_size(count) + rlp_string_size(value), out);
  rlp_compact(nibbles, count, true, out);
  rlp_string(value, out);
}

void rlp_extension(const uint8_t* nibbles, size_t count, const Ref& child, Bytes& out) {
  rlp_list_head(compact_size(count) + ref_size(child), out);
  rlp_compact(nibbles, count, false, out);
  put_ref(child, out);
}

void rlp_branch(const Ref* refs, ByteView value, Bytes& out) {
  size_t payload = value.empty() ? 1 : rlp_string_size(value);
  for (size_t i = 0; i < 16; i++) payload += ref_size(refs[i]);
  rlp_list_head(payload, out);
  for (size_t i = 0; i < 16; i++) put_ref(refs[i], out);
  if (value.empty())
    out.push_back(0x80);
  else
    rlp_string(value, out);
}

Ref ref_of(ByteView rlp) noexcept {
  Ref r;
  if (rlp.size() < 32) {
    r.len = static_cast<uint8_t>(rlp.size());
    std::memcpy(r.b, rlp.data(), rlp.size());
  } else {
    r.len = 32;
    const Hash h = keccak(rlp);
    std::memcpy(r.b, h.b, 32);
  }
  return r;
}

// Branch: u16 present, u16 leaves, u16 with extension, u16 inline (little-endian), then for each present child: [u8 length] reference,
// [u8 count, nibbles]. `present` is never 0, which marks a stub: u16 0, u8 kind, u8 count, nibbles.
void encode_branch(const Branch& b, std::string& out) {
  uint16_t m[4] = {};
  for (size_t i = 0; i < 16; i++) {
    if (b.kind[i] == Kind::none) continue;
    const auto bit = static_cast<uint16_t>(1u << i);
    m[0] |= bit;
    if (b.kind[i] == Kind::leaf) m[1] |= bit;
    if (!b.ext[i].empty()) m[2] |= bit;
    if (b.ref[i].len != 32) m[3] |= bit;
  }
  out.clear();
  out.reserve(8 + 32 * static_cast<size_t>(__builtin_popcount(m[0])));
  for (const uint16_t x : m) {
    out.push_back(static_cast<char>(x & 255));
    out.push_back(static_cast<char>(x >> 8));
  }
  for (size_t i = 0; i < 16; i++) {
    if (b.kind[i] == Kind::none) continue;
    if (b.ref[i].len != 32) out.push_back(static_cast<char>(b.ref[i].len));
    out.append(reinterpret_cast<const char*>(b.ref[i].b), b.ref[i].len);
    if (!b.ext[i].empty()) {
      out.push_back(static_cast<char>(b.ext[i].size()));
      out.append(reinterpret_cast<const char*>(b.ext[i].data()), b.ext[i].size());
    }
  }
}

void encode_stub(const Stub& s, std::string& out) {
  out.assign(2, '\0');
  out.push_back(static_cast<char>(s.kind));
  out.push_back(static_cast<char>(s.ext.size()));
  out.append(reinterpret_cast<const char*>(s.ext.data()), s.ext.size());
}

bool is_stub(std::string_view record) noexcept { return record.size() >= 2 && record[0] == 0 && record[1] == 0; }

bool decode_stub(std::string_view r, Stub& out) {
  if (!is_stub(r) || r.size() < 4) return false;
  const auto kind = static_cast<uint8_t>(r[2]);
  const auto count = static_cast<uint8_t>(r[3]);
  if (kind < 1 || kind > 2 || count >= kMaxNibbles || r.size() != 4u + count) return false;
  out.kind = static_cast<Kind>(kind);
  out.ext.assign(r.begin() + 4, r.end());
  for (const uint8_t x : out.ext)
    if (x > 15) return false;
  return true;
}

bool decode_branch(std::string_view r, Branch& out) {
  if (r.size() < 8) return false;
  uint16_t m[4];
  for (size_t i = 0; i < 4; i++) m[i] = static_cast<uint16_t>(static_cast<uint8_t>(r[2 * i]) | static_cast<uint8_t>(r[2 * i + 1]) << 8);
  if (m[0] == 0 || ((m[1] | m[2] | m[3]) & ~m[0]) != 0 || (m[1] & m[2]) != 0) return false;
  size_t at = 8;
  for (size_t i = 0; i < 16; i++) {
    const auto bit = static_cast<uint16_t>(1u << i);
    if ((m[0] & bit) == 0) {
      out.kind[i] = Kind::none;
      out.ref[i].len = 0;
      out.ext[i].clear();
      continue;
    }
    out.kind[i] = (m[1] & bit) != 0 ? Kind::leaf : Kind::branch;
    size_t len = 32;
    if ((m[3] & bit) != 0) {
      if (at >= r.size()) return false;
      len = static_cast<uint8_t>(r[at++]);
      if (len == 0 || len >= 32) return false;
    }
    if (r.size() - at < len) return false;
    out.ref[i].len = static_cast<uint8_t>(len);
    std::memcpy(out.ref[i].b, r.data() + at, len);
    at += len;
    out.ext[i].clear();
    if ((m[2] & bit) != 0) {
      if (at >= r.size()) return false;
      const size_t count = static_cast<uint8_t>(r[at++]);
      if (count == 0 || count >= kMaxNibbles || r.size() - at < count) return false;
      out.ext[i].assign(r.begin() + static_cast<ptrdiff_t>(at), r.begin() + static_cast<ptrdiff_t>(at + count));
      for (const uint8_t x : out.ext[i])
        if (x > 15) return false;
      at += count;
    }
  }
  return at == r.size();
}

}  // namespace zg::trie
