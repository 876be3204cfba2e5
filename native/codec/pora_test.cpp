// Sealing, searching and base64 on all paths against the scalar ones; part of codec_test.cpp.
#include <cstdio>
#include <cstring>
#include <memory>

#include "base64.h"
#include "blake2b.h"
#include "cpu.h"
#include "pora.h"

namespace {

uint32_t state = 11;
size_t failures = 0;

std::unique_ptr<uint8_t[]> random_bytes(size_t size) {
  auto out = std::make_unique<uint8_t[]>(size);
  for (size_t i = 0; i < size; i++) {
    state = state * 1664525 + 1013904223;
    out[i] = static_cast<uint8_t>(state >> 24);
  }
  return out;
}

void expect_equal(const uint8_t* a, const uint8_t* b, size_t size, const char* path, const char* what, size_t n) {
  if (std::memcmp(a, b, size) == 0) return;
  std::fprintf(stderr, "%s differs: %s %zu\n", path, what, n);
  failures++;
}

void mining(const zg::Kernels& k) {
  for (const size_t count : {1, 3, 8, 11}) {
    const auto masks = random_bytes(count * zg::kHashBytes);
    const auto data = random_bytes(count * zg::kSealBytes);
    const auto want = std::make_unique<uint8_t[]>(count * zg::kSealBytes);
    const auto got = std::make_unique<uint8_t[]>(count * zg::kSealBytes);
    zg::pora_seal(masks.get(), data.get(), want.get(), count, zg::kGeneric);
    zg::pora_seal(masks.get(), data.get(), got.get(), count, k);
    expect_equal(got.get(), want.get(), count * zg::kSealBytes, k.name, "seals", count);
    zg::pora_unseal(masks.get(), want.get(), got.get(), count, k);
    expect_equal(got.get(), data.get(), count * zg::kSealBytes, k.name, "unsealed seals", count);

    const auto nonces = random_bytes(count * zg::kHashBytes);
    const size_t sizes[] = {zg::kPadSeedBytes * count, zg::kPadBytes * count, zg::kHashBytes * count};
    std::unique_ptr<uint8_t[]> a[3];
    std::unique_ptr<uint8_t[]> b[3];
    for (size_t i = 0; i < 3; i++) {
      a[i] = std::make_unique<uint8_t[]>(sizes[i]);
      b[i] = std::make_unique<uint8_t[]>(sizes[i]);
    }
    const uint8_t* m = masks.get();
    zg::pora_pads(m, nonces.get(), m, m, count, a[0].get(), a[1].get(), a[2].get(), zg::kGeneric);
    zg::pora_pads(m, nonces.get(), m, m, count, b[0].get(), b[1].get(), b[2].get(), k);
    for (size_t i = 0; i < 3; i++) expect_equal(b[i].get(), a[i].get(), sizes[i], k.name, "pads", count);
  }
  const auto segment = random_bytes(zg::kSegmentSeals * zg::kSealBytes);
  const auto seed = random_bytes(zg::kPadSeedBytes);
  const auto pad = random_bytes(zg::kPadBytes);
  for (const uint64_t held : {~uint64_t{0}, uint64_t{1} << 63, uint64_t{0x8100000000000010}}) {
    uint8_t want[zg::kHashBytes];
    uint8_t got[zg::kHashBytes];
    const size_t best = zg::pora_best(held, seed.get(), segment.get(), pad.get(), want, zg::kPoraGeneric);
    const size_t found = zg::pora_best(held, seed.get(), segment.get(), pad.get(), got, zg::pora_for(k));
    if (best != found || (held >> best & 1) == 0) failures++;
    expect_equal(got, want, sizeof want, k.name, "quality of seal", best);
  }
  uint8_t none[zg::kHashBytes];
  if (zg::pora_best(0, seed.get(), segment.get(), pad.get(), none, zg::pora_for(k)) != zg::kSegmentSeals) failures++;
}

void base64(const zg::Kernels& k) {
  for (size_t size = 0; size <= 200; size++) {
    const auto data = random_bytes(size);
    const size_t length = zg::base64_length(size);
    const auto want = std::make_unique<uint8_t[]>(length);
    const auto got = std::make_unique<uint8_t[]>(length);
    const auto back = std::make_unique<uint8_t[]>(size);
    zg::base64_encode(data.get(), size, want.get(), zg::kGeneric);
    zg::base64_encode(data.get(), size, got.get(), k);
    expect_equal(got.get(), want.get(), length, k.name, "base64 of size", size);
    if (zg::base64_bytes(got.get(), length) != size || !zg::base64_decode(got.get(), length, back.get(), k)) failures++;
    expect_equal(back.get(), data.get(), size, k.name, "bytes of base64 of size", size);
  }
}

}  // namespace

size_t pora_failures() {
  // RFC 7693, appendix A: BLAKE2b-512("abc") begins so.
  const uint8_t abc[4] = {0xba, 0x80, 0xa5, 0x3f};
  uint8_t hash[zg::kBlake2bBytes];
  zg::blake2b_512(reinterpret_cast<const uint8_t*>("abc"), 3, hash);
  expect_equal(hash, abc, sizeof abc, "generic", "BLAKE2b of length", 3);
  for (auto p = zg::available_kernels(); *p != nullptr; p++) {
    mining(**p);
    base64(**p);
    std::printf("pora %s: done\n", (*p)->name);
  }
  return failures;
}
