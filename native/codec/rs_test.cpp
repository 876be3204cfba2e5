// All paths of the storage code against the scalar one; part of codec_test.cpp.
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "rs.h"
#include "rs_sum.h"

namespace {

uint32_t state = 7;
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

void dots(const zg::RsPath& path) {
  const size_t sizes[] = {1, 31, 63, 64, 65, 128, 200, 4096, 4161, 9000};
  for (const size_t size : sizes) {
    for (size_t rows = 1; rows <= 9; rows++) {
      const size_t cols = rows % 5 + 1;
      const auto matrix = random_bytes(rows * cols);
      std::vector<std::unique_ptr<uint8_t[]>> in;
      std::vector<std::unique_ptr<uint8_t[]>> out;
      std::vector<std::unique_ptr<uint8_t[]>> want;
      std::vector<const uint8_t*> from;
      std::vector<uint8_t*> to;
      std::vector<uint8_t*> expected;
      for (size_t c = 0; c < cols; c++) from.push_back(in.emplace_back(random_bytes(size)).get());
      for (size_t r = 0; r < rows; r++) {
        to.push_back(out.emplace_back(random_bytes(size)).get());
        expected.push_back(want.emplace_back(random_bytes(size)).get());
      }
      zg::kRsGeneric.dot(matrix.get(), rows, cols, from.data(), expected.data(), size);
      path.dot(matrix.get(), rows, cols, from.data(), to.data(), size);
      for (size_t r = 0; r < rows; r++) expect_equal(to[r], expected[r], size, path.name, "row of size", size);
    }
  }
}

void sums(const zg::RsPath& path) {
  const auto rho = random_bytes(zg::kTowerBytes);
  const size_t sizes[] = {1, 256, 511, 512, 513, 4097, zg::kMaxShardBytes};
  for (const size_t size : sizes) {
    const auto shard = random_bytes(size);
    uint8_t want[zg::kTowerBytes] = {};
    for (size_t i = size; i-- > 0;) {
      zg::tower_mul(want, rho.get(), want);
      want[0] ^= shard[i];
    }
    uint8_t got[zg::kTowerBytes];
    if (!zg::shard_sum(rho.get(), shard.get(), size, got, path)) failures++;
    expect_equal(got, want, sizeof want, path.name, "sum of size", size);
  }
}

// Shards made again from the last k are what they were.
void recovery(size_t k, size_t m) {
  constexpr size_t kSize = 3;
  std::vector<std::unique_ptr<uint8_t[]>> word;
  std::vector<const uint8_t*> data;
  std::vector<uint8_t*> parity;
  for (size_t i = 0; i < k + m; i++) word.push_back(random_bytes(kSize));
  for (size_t i = 0; i < k; i++) data.push_back(word[i].get());
  for (size_t i = k; i < k + m; i++) parity.push_back(word[i].get());
  std::vector<uint8_t> matrix(k * m);
  zg::rs_parity_matrix(k, m, matrix.data());
  zg::kRsGeneric.dot(matrix.data(), m, k, data.data(), parity.data(), kSize);
  std::vector<uint16_t> have;
  std::vector<uint16_t> wanted;
  std::vector<const uint8_t*> from;
  for (size_t i = 0; i < k + m; i++) (i < m ? wanted : have).push_back(static_cast<uint16_t>(i));
  for (const uint16_t i : have) from.push_back(word[i].get());
  std::vector<uint8_t> back(k * m);
  std::vector<uint8_t> work(2 * k * k);
  zg::rs_recovery_matrix(k, have.data(), wanted.data(), m, back.data(), work.data());
  for (size_t w = 0; w < m; w++) {
    uint8_t out[kSize];
    uint8_t* to = out;
    zg::kRsGeneric.dot(back.data() + w * k, 1, k, from.data(), &to, kSize);
    expect_equal(out, word[w].get(), kSize, "generic", "recovery of a code with k", k);
  }
}

}  // namespace

size_t rs_failures() {
  for (auto p = zg::available_rs(); *p != nullptr; p++) {
    dots(**p);
    sums(**p);
    std::printf("rs %s: done\n", (*p)->name);
  }
  recovery(1, 1);
  recovery(4, 2);
  recovery(8, 4);
  recovery(128, 128);
  if (zg::rs_by_name("none") != nullptr) failures++;
  return failures;
}
