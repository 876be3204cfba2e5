// The fast mode's parts on all paths of this machine against the plain ones, for the sanitizers; codec_test.cpp calls it. Every buffer has
// exactly its size, so that a read or write one byte beyond it is reported.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <numeric>
#include <vector>

#include "cpu.h"
#include "da_blob.h"
#include "da_sums.h"

namespace {

uint32_t state = 7;
size_t failures = 0;

uint32_t next_number() {
  state = state * 1664525 + 1013904223;
  return state >> 16;
}

using Bytes = std::unique_ptr<uint8_t[]>;

Bytes random_bytes(size_t size) {
  auto out = std::make_unique<uint8_t[]>(size);
  for (size_t i = 0; i < size; i++) out[i] = static_cast<uint8_t>(next_number());
  return out;
}

Bytes copy_of(const Bytes& from, size_t size) {
  auto out = std::make_unique<uint8_t[]>(size);
  std::memcpy(out.get(), from.get(), size);
  return out;
}

void expect_equal(const uint8_t* a, const uint8_t* b, size_t size, const char* path, const char* what, size_t n) {
  if (std::memcmp(a, b, size) == 0) return;
  std::fprintf(stderr, "%s differs: %s %zu\n", path, what, n);
  failures++;
}

// Each row in memory of its own.
struct Rows {
  std::vector<Bytes> memory;
  std::vector<const uint8_t*> pointers;
  void add(Bytes row) {
    pointers.push_back(row.get());
    memory.push_back(std::move(row));
  }
};

Rows random_rows(size_t count, size_t w) {
  Rows rows;
  for (size_t i = 0; i < count; i++) rows.add(random_bytes(w));
  return rows;
}

void strips(const zg::Lanes& lanes) {
  for (size_t size = 64; size <= 64 * 5; size += 64) {
    for (const uint16_t factor : {uint16_t{1}, uint16_t{2}, uint16_t{0x8000}, static_cast<uint16_t>(next_number())}) {
      uint8_t wide[zg::kFactorBytes];
      uint8_t plain[zg::kFactorBytes];
      lanes.expand(factor, wide);
      zg::kLanesGeneric.expand(factor, plain);
      const auto a = random_bytes(size);
      const auto b = random_bytes(size);
      for (int kind = 0; kind < 3; kind++) {
        const auto ga = copy_of(a, size);
        const auto gb = copy_of(b, size);
        const auto wa = copy_of(a, size);
        const auto wb = copy_of(b, size);
        const auto apply = [kind, size](const zg::Lanes& l, uint8_t* x, uint8_t* y, const uint8_t* table) {
          if (kind == 0) l.forward(x, y, size, table);
          if (kind == 1) l.backward(x, y, size, table);
          if (kind == 2) l.scale(x, y, size, table);
        };
        apply(zg::kLanesGeneric, ga.get(), gb.get(), plain);
        apply(lanes, wa.get(), wb.get(), wide);
        expect_equal(wa.get(), ga.get(), size, lanes.name, "strip, first half", size);
        expect_equal(wb.get(), gb.get(), size, lanes.name, "strip, second half", size);
      }
    }
  }
}

void code(const zg::Lanes& lanes) {
  for (size_t k = 1; k <= zg::kMaxRows; k *= 2) {
    for (const size_t w : {size_t{64}, k <= 64 ? size_t{4096 + 192} : size_t{320}}) {
      const Rows rows = random_rows(k, w);
      const auto want = std::make_unique<uint8_t[]>(2 * k * w);
      const auto got = std::make_unique<uint8_t[]>(2 * k * w);
      if (!zg::encode_rows(rows.pointers.data(), k, w, want.get(), zg::kLanesGeneric)) failures++;
      if (!zg::encode_rows(rows.pointers.data(), k, w, got.get(), lanes)) failures++;
      expect_equal(got.get(), want.get(), 2 * k * w, lanes.name, "parity of k", k);
      std::vector<uint16_t> indexes(3 * k);
      std::iota(indexes.begin(), indexes.end(), uint16_t{0});
      for (size_t i = 0; i < k; i++) std::swap(indexes[i], indexes[i + next_number() % (3 * k - i)]);
      std::vector<const uint8_t*> known;
      for (size_t i = 0; i < k; i++) {
        known.push_back(indexes[i] < k ? rows.pointers[indexes[i]] : got.get() + (indexes[i] - k) * w);
      }
      const auto out = std::make_unique<uint8_t[]>(k * w);
      if (!zg::decode_rows(indexes.data(), known.data(), k, w, out.get(), lanes)) failures++;
      for (size_t i = 0; i < k; i++) expect_equal(out.get() + i * w, rows.pointers[i], w, lanes.name, "decoded row", i);
    }
    const auto z = random_bytes(16 * k);
    const auto want = std::make_unique<uint8_t[]>(48 * k);
    const auto got = std::make_unique<uint8_t[]>(48 * k);
    if (!zg::extend_z(z.get(), k, want.get(), zg::kLanesGeneric) || !zg::extend_z(z.get(), k, got.get(), lanes)) failures++;
    expect_equal(got.get(), want.get(), 48 * k, lanes.name, "z of k", k);
  }
}

void hashes(const zg::Kernels& k) {
  const auto tag = random_bytes(zg::kTagBytes);
  const auto seed = random_bytes(zg::kHashBytes);
  for (const size_t w : {64, 192, 256, 2048, 2112, 31744, 32448, 32512, 32576, 32704}) {
    const size_t count = w > 4096 ? 3 : 19;
    const Rows rows = random_rows(count, w);
    const auto want = std::make_unique<uint8_t[]>(32 * count);
    const auto got = std::make_unique<uint8_t[]>(32 * count);
    zg::row_roots(tag.get(), rows.pointers.data(), count, w, want.get(), zg::kGeneric);
    zg::row_roots(tag.get(), rows.pointers.data(), count, w, got.get(), k);
    expect_equal(got.get(), want.get(), 32 * count, k.name, "row roots of width", w);
    if (!zg::row_sums(seed.get(), rows.pointers.data(), count, w, want.get(), zg::kGeneric)) failures++;
    if (!zg::row_sums(seed.get(), rows.pointers.data(), count, w, got.get(), k)) failures++;
    expect_equal(got.get(), want.get(), 16 * count, k.name, "row sums of width", w);
  }
  for (size_t count = 0; count <= 33; count++) {
    const auto got = std::make_unique<uint8_t[]>(32 * count);
    zg::hash_stream(seed.get(), 5, count, got.get(), k);
    for (size_t i = 0; i < count; i++) {
      uint8_t message[40] = {};
      std::memcpy(message, seed.get(), 32);
      message[32] = static_cast<uint8_t>(5 + i);
      uint8_t want[32];
      zg::keccak256(message, sizeof message, want);
      expect_equal(got.get() + 32 * i, want, 32, k.name, "stream", i);
    }
  }
  for (size_t n = 1; n <= 256; n *= 2) {
    const auto want = random_bytes(32 * (2 * n - 1));
    const auto got = copy_of(want, 32 * (2 * n - 1));
    zg::tree_nodes(want.get(), n, zg::kGeneric);
    zg::tree_nodes(got.get(), n, k);
    expect_equal(got.get(), want.get(), 32 * (2 * n - 1), k.name, "tree of leaves", n);
  }
}

// Data that ends within a row, at a row, and after none.
void blobs(const zg::Kernels& k, const zg::Lanes& lanes) {
  uint8_t tag[zg::kTagBytes] = {1, 3, 0, 0, 192, 0, 0, 0, 1};
  for (const size_t size : {0, 1, 191, 192, 193, 1000, 8 * 192 - 1, 8 * 192}) {
    const auto data = random_bytes(size);
    const auto parity = std::make_unique<uint8_t[]>(16 * 192);
    const auto want = std::make_unique<uint8_t[]>(24 * 32 + 8 * 16);
    const auto got = std::make_unique<uint8_t[]>(24 * 32 + 8 * 16);
    if (!zg::encode_blob(tag, data.get(), size, nullptr, want.get(), zg::kGeneric, zg::kLanesGeneric)) failures++;
    if (!zg::encode_blob(tag, data.get(), size, parity.get(), got.get(), k, lanes)) failures++;
    expect_equal(got.get(), want.get(), 24 * 32 + 8 * 16, lanes.name, "blob of", size);
  }
  const auto data = random_bytes(8 * 192 + 1);
  uint8_t out[24 * 32 + 8 * 16];
  if (zg::encode_blob(tag, data.get(), 8 * 192 + 1, nullptr, out, k, lanes)) failures++;
  for (const auto& [at, value] : {std::pair<int, int>{0, 2}, {1, 11}, {4, 0}, {4, 65}, {5, 0x80}, {7, 1}}) {
    uint8_t wrong[zg::kTagBytes];
    std::memcpy(wrong, tag, sizeof tag);
    wrong[at] = static_cast<uint8_t>(value);
    zg::DaShape shape;
    if (zg::shape_of(wrong, &shape)) failures++;
  }
}

}  // namespace

size_t da_failures() {
  for (auto l = zg::available_lanes(); *l != nullptr; l++) {
    strips(**l);
    code(**l);
    blobs(zg::kGeneric, **l);
    std::printf("da, %s: done\n", (*l)->name);
  }
  for (auto k = zg::available_kernels(); *k != nullptr; k++) {
    hashes(**k);
    blobs(**k, *zg::lanes_for((*k)->name));
    std::printf("da, %s: done\n", (*k)->name);
  }
  if (zg::lanes_by_name("none") != nullptr) failures++;
  return failures;
}
