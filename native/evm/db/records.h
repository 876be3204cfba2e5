// Keys and records of the state in the key-value store. The first byte of a key says what it is:
//
//   a ‖ keccak(address)                            account: nonce, balance, code hash, storage root
//   s ‖ keccak(address) ‖ keccak(slot)             slot: the value without leading zeros
//   c ‖ hash                                       code
//   p ‖ hash                                       preimage: an address (20 bytes) or a slot (32)
//   T ‖ depth ‖ nibbles, t ‖ owner ‖ depth ‖ …     trie nodes (trie/state_trie.h)
//   h ‖ key of an account or a slot ‖ be64 version  the value before that version; empty: none
//   k ‖ be64 version                               root after the version, and which keys it changed
//   S                                              the head
//
// The chain's own entries use other first bytes.
#pragma once

#include <string>
#include <string_view>

#include "base/types.h"
#include "base/u256.h"
#include "state/reader.h"

namespace zg::db {

struct Record {
  AccountData data;
  Hash storage_root = empty_trie_root();
};

inline void append(std::string& to, const Hash& h) { to.append(reinterpret_cast<const char*>(h.b), 32); }
inline void append64(std::string& to, uint64_t x) {
  for (int shift = 56; shift >= 0; shift -= 8) to.push_back(static_cast<char>(x >> shift));
}
inline uint64_t read64(std::string_view v) {
  uint64_t x = 0;
  for (size_t i = 0; i < 8; i++) x = x << 8 | static_cast<uint8_t>(v[i]);
  return x;
}
inline Hash hash_at(std::string_view v, size_t at) { return Hash::from(reinterpret_cast<const uint8_t*>(v.data()) + at); }

inline std::string key1(char kind, const Hash& h) {
  std::string k(1, kind);
  append(k, h);
  return k;
}
inline std::string account_key(const Hash& h) { return key1('a', h); }
inline std::string slot_key(const Hash& account, const Hash& slot) {
  std::string k;
  k.reserve(65);
  k.push_back('s');
  append(k, account);
  append(k, slot);
  return k;
}
inline std::string history_key(std::string_view key, uint64_t version) {
  std::string k;
  k.reserve(1 + key.size() + 8);
  k.push_back('h');
  k.append(key);
  append64(k, version);
  return k;
}
inline std::string version_key(uint64_t version) {
  std::string k(1, 'k');
  append64(k, version);
  return k;
}

inline void append_trimmed(std::string& to, const U256& x) {
  uint8_t be[32];
  x.to_be(be);
  const size_t n = x.byte_width();
  to.append(reinterpret_cast<const char*>(be) + 32 - n, n);
}
inline std::string encode_slot(const U256& x) {
  std::string s;
  append_trimmed(s, x);
  return s;
}
inline bool decode_slot(std::string_view v, U256& out) {
  if (v.size() > 32) return false;
  out = U256::from_be(as_bytes(v));
  return true;
}

inline void append_varint(std::string& to, uint64_t x) {
  for (; x >= 128; x >>= 7) to.push_back(static_cast<char>(x | 128));
  to.push_back(static_cast<char>(x));
}
inline bool read_varint(std::string_view& in, uint64_t& out) {
  out = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    if (in.empty()) return false;
    const auto b = static_cast<uint8_t>(in[0]);
    in.remove_prefix(1);
    out |= static_cast<uint64_t>(b & 127) << shift;
    if (b < 128) return true;
  }
  return false;
}

// u8 flags (1: code, 2: storage), varint nonce, u8 length and balance, [code hash], [storage root]. Never empty.
inline std::string encode_account(const Record& r) {
  const bool code = r.data.code_hash != empty_code_hash();
  const bool storage = r.storage_root != empty_trie_root();
  std::string s(1, static_cast<char>((code ? 1 : 0) | (storage ? 2 : 0)));
  append_varint(s, r.data.nonce);
  s.push_back(static_cast<char>(r.data.balance.byte_width()));
  append_trimmed(s, r.data.balance);
  if (code) append(s, r.data.code_hash);
  if (storage) append(s, r.storage_root);
  return s;
}
inline bool decode_account(std::string_view v, Record& out) {
  if (v.empty() || static_cast<uint8_t>(v[0]) > 3) return false;
  const int flags = v[0];
  v.remove_prefix(1);
  if (!read_varint(v, out.data.nonce) || v.empty()) return false;
  const auto n = static_cast<uint8_t>(v[0]);
  v.remove_prefix(1);
  if (n > 32 || v.size() != n + ((flags & 1) != 0 ? 32u : 0u) + ((flags & 2) != 0 ? 32u : 0u)) return false;
  out.data.balance = U256::from_be(as_bytes(v.substr(0, n)));
  v.remove_prefix(n);
  out.data.code_hash = empty_code_hash();
  out.storage_root = empty_trie_root();
  if ((flags & 1) != 0) {
    out.data.code_hash = hash_at(v, 0);
    v.remove_prefix(32);
  }
  if ((flags & 2) != 0) out.storage_root = hash_at(v, 0);
  return true;
}

// What the tries hold: rlp([nonce, balance, storage root, code hash]), and rlp of a slot's value.
inline void rlp_number(const U256& x, Bytes& out) {
  uint8_t be[32];
  x.to_be(be);
  const size_t n = x.byte_width();
  if (n == 1 && be[31] < 128) {
    out.push_back(be[31]);
    return;
  }
  out.push_back(static_cast<uint8_t>(0x80 + n));
  out.insert(out.end(), be + 32 - n, be + 32);
}
inline void rlp_account(const Record& r, Bytes& out) {
  const size_t begin = out.size();
  out.push_back(0xf8);
  out.push_back(0);
  rlp_number(U256(r.data.nonce), out);
  rlp_number(r.data.balance, out);
  out.push_back(0xa0);
  out.insert(out.end(), r.storage_root.b, r.storage_root.b + 32);
  out.push_back(0xa0);
  out.insert(out.end(), r.data.code_hash.b, r.data.code_hash.b + 32);
  // Two hashes make it 68 bytes and more, 110 at most: always the long form with one byte.
  out[begin + 1] = static_cast<uint8_t>(out.size() - begin - 2);
}

}  // namespace zg::db
