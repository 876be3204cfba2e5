// Standard base64 (RFC 4648, section 4) with padding and nothing else: no line breaks, no missing padding, no bits behind the data.
// Bodies of JSON-RPC carry segments this way.
#pragma once

#include <cstddef>
#include <cstdint>

#include "keccak.h"

namespace zg {

constexpr size_t base64_length(size_t bytes) noexcept { return (bytes + 2) / 3 * 4; }

// Bytes that `size` characters stand for; the characters are only looked at for padding. size is a multiple of 4.
size_t base64_bytes(const uint8_t* text, size_t size) noexcept;

// Writes base64_length(size) characters. The path is that of the hashing: AVX2 or none.
void base64_encode(const uint8_t* data, size_t size, uint8_t* out, const Kernels& k) noexcept;

// Writes base64_bytes(text, size) bytes. False when anything is wrong, and then `out` has garbage.
bool base64_decode(const uint8_t* text, size_t size, uint8_t* out, const Kernels& k) noexcept;

#if defined(__x86_64__)
// As far as whole vectors go: the bytes read, a multiple of 24 (encode) and 32 (decode; it stops before a vector with anything wrong).
size_t base64_encode_avx2(const uint8_t* data, size_t size, uint8_t* out) noexcept;
size_t base64_decode_avx2(const uint8_t* text, size_t size, uint8_t* out) noexcept;
#endif

}  // namespace zg
