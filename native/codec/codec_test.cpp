// All paths of this machine against the scalar one, as a plain program for the sanitizers (scripts/build-native.mjs --sanitize).
// Every buffer is allocated with exactly its size, so that a read or write one byte beyond it is reported.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "cpu.h"
#include "merkle.h"

// da_test.cpp, pora_test.cpp, rs_test.cpp
size_t da_failures();
size_t pora_failures();
size_t rs_failures();

namespace {

uint32_t state = 1;
size_t failures = 0;

uint8_t next_byte() {
  state = state * 1664525 + 1013904223;
  return static_cast<uint8_t>(state >> 24);
}

std::unique_ptr<uint8_t[]> random_bytes(size_t size) {
  auto out = std::make_unique<uint8_t[]>(size);
  for (size_t i = 0; i < size; i++) out[i] = next_byte();
  return out;
}

void expect_equal(const uint8_t* a, const uint8_t* b, size_t size, const char* path, const char* what, size_t n) {
  if (std::memcmp(a, b, size) == 0) return;
  std::fprintf(stderr, "%s differs from generic: %s %zu\n", path, what, n);
  failures++;
}

// keccak("") and keccak of 200 bytes 0xa3 are known values: the scalar path must not be wrong together with the rest.
void known_values() {
  const uint8_t empty[4] = {0xc5, 0xd2, 0x46, 0x01};
  const uint8_t a3[4] = {0x3a, 0x57, 0x66, 0x6b};
  uint8_t out[zg::kHashBytes];
  zg::keccak256(nullptr, 0, out);
  expect_equal(out, empty, 4, "generic", "known value of length", 0);
  uint8_t message[200];
  std::memset(message, 0xa3, sizeof message);
  zg::keccak256(message, sizeof message, out);
  expect_equal(out, a3, 4, "generic", "known value of length", 200);
}

void messages(const zg::Kernels& k) {
  for (size_t size = 0; size <= 560; size++) {
    const auto data = random_bytes(size);
    uint8_t want[zg::kHashBytes];
    uint8_t got[zg::kHashBytes];
    zg::keccak256(data.get(), size, want);
    k.one(data.get(), size, got);
    expect_equal(got, want, sizeof got, k.name, "message of length", size);
  }
}

void lanes(const zg::Kernels& k) {
  for (size_t shift = 0; shift < 8; shift++) {
    // Every alignment; the array ends where the last lane ends.
    const auto data = random_bytes(k.lanes * zg::kSectorBytes + shift);
    const auto got = std::make_unique<uint8_t[]>(k.lanes * zg::kHashBytes);
    uint8_t want[zg::kHashBytes];
    k.leaves(data.get() + shift, got.get());
    for (size_t i = 0; i < k.lanes; i++) {
      zg::keccak256(data.get() + shift + i * zg::kSectorBytes, zg::kSectorBytes, want);
      expect_equal(got.get() + i * zg::kHashBytes, want, sizeof want, k.name, "leaf", i);
    }
    const auto pairs = random_bytes(k.lanes * 2 * zg::kHashBytes + shift);
    k.nodes(pairs.get() + shift, got.get());
    for (size_t i = 0; i < k.lanes; i++) {
      zg::keccak256(pairs.get() + shift + i * 2 * zg::kHashBytes, 2 * zg::kHashBytes, want);
      expect_equal(got.get() + i * zg::kHashBytes, want, sizeof want, k.name, "node", i);
    }
  }
}

void segments(const zg::Kernels& k) {
  const size_t sizes[] = {0, 1, 255, 256, 257, 512, 4095, 4097, 65537, 262143, 262144, 262145, 524288, 700000};
  for (const size_t size : sizes) {
    const auto data = random_bytes(size);
    const size_t rest = size == 0 ? 0 : (size - 1) % zg::kSegmentBytes + 1;
    const size_t least = rest == 0 ? 1 : (rest + zg::kSectorBytes - 1) / zg::kSectorBytes;
    const size_t counts[] = {least, least + 1, least + 7, 1023, 1024};
    for (const size_t leaves : counts) {
      if (!zg::leaves_fit(size, leaves)) continue;
      const size_t bytes = zg::segment_count(size) * zg::kHashBytes;
      const auto want = std::make_unique<uint8_t[]>(bytes);
      const auto got = std::make_unique<uint8_t[]>(bytes);
      zg::segment_roots(data.get(), size, leaves, want.get(), zg::kGeneric);
      zg::segment_roots(data.get(), size, leaves, got.get(), k);
      expect_equal(got.get(), want.get(), bytes, k.name, "segments of size", size);
    }
  }
  for (size_t count = 1; count <= 130; count++) {
    const auto want = random_bytes(count * zg::kHashBytes);
    const auto got = std::make_unique<uint8_t[]>(count * zg::kHashBytes);
    std::memcpy(got.get(), want.get(), count * zg::kHashBytes);
    zg::tree_root(want.get(), count, zg::kGeneric);
    zg::tree_root(got.get(), count, k);
    expect_equal(got.get(), want.get(), zg::kHashBytes, k.name, "tree of leaves", count);
  }
}

}  // namespace

int main() {
  known_values();
  for (auto p = zg::available_kernels(); *p != nullptr; p++) {
    messages(**p);
    lanes(**p);
    segments(**p);
    std::printf("%s: done\n", (*p)->name);
  }
  if (zg::kernels_by_name("none") != nullptr) failures++;
  failures += da_failures();
  failures += pora_failures();
  failures += rs_failures();
  std::printf("%zu failures\n", failures);
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
