// The compression function F of BLAKE2b (RFC 7693, 3.2) with any number of rounds, for EIP-152. Thread safe.
#pragma once

#include <cstdint>
#include <span>

namespace zg {

// Works on h in place, on the widest path of this machine: about 7 ns a round with AVX-512VL, 10 without vectors.
void blake2f(uint32_t rounds, uint64_t h[8], const uint64_t m[16], const uint64_t t[2], bool last) noexcept;

// The reference, and every path of this machine, widest first: for tests.
using Blake2fFn = void (*)(uint32_t rounds, uint64_t h[8], const uint64_t m[16], const uint64_t t[2], bool last) noexcept;
void blake2f_plain(uint32_t rounds, uint64_t h[8], const uint64_t m[16], const uint64_t t[2], bool last) noexcept;
std::span<const Blake2fFn> blake2f_paths() noexcept;

}  // namespace zg
