#include "bench.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "kernels.h"
#include "random.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace zg::train {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

#ifdef __x86_64__
// Twelve independent sums hide the latency of every processor of today.
template <class Step>
__attribute__((always_inline)) inline double peak(double flops_each, Step step) {
  double best = 0;
  for (int round = 0; round < 5; round++) {
    constexpr long kLoops = 4'000'000;
    const auto start = Clock::now();
    step(kLoops);
    best = std::max(best, flops_each * 12 * kLoops / seconds_since(start) * 1e-9);
  }
  return best;
}

__attribute__((target("avx2,fma"))) double peak_avx2() {
  return peak(16, [](long loops) __attribute__((target("avx2,fma"))) {
    __m256 s[12] = {};
    const __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(0.25f);
    for (long i = 0; i < loops; i++) {
#pragma GCC unroll 12
      for (__m256& x : s) {
        x = _mm256_fmadd_ps(a, b, x);
        asm volatile("" : "+x"(x));
      }
    }
  });
}

__attribute__((target("avx512f"))) double peak_avx512() {
  return peak(32, [](long loops) __attribute__((target("avx512f"))) {
    __m512 s[12] = {};
    const __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(0.25f);
    for (long i = 0; i < loops; i++) {
#pragma GCC unroll 12
      for (__m512& x : s) {
        x = _mm512_fmadd_ps(a, b, x);
        asm volatile("" : "+v"(x));
      }
    }
  });
}

__attribute__((target("avx512f,avx512bf16"))) double peak_bf16() {
  return peak(64, [](long loops) __attribute__((target("avx512f,avx512bf16"))) {
    __m512 s[12] = {};
    const __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(0.25f);
    for (long i = 0; i < loops; i++) {
#pragma GCC unroll 12
      for (__m512& x : s) {
        x = _mm512_dpbf16_ps(x, (__m512bh)a, (__m512bh)b);
        asm volatile("" : "+v"(x));
      }
    }
  });
}
#endif

double rate_of(const Kernels<float>& k, int form, long m, long n, long depth, std::vector<float>& a, std::vector<float>& b,
               std::vector<float>& c) {
  double best = 0;
  for (int round = 0; round < 4; round++) {
    const long times = std::max(1l, 200'000'000 / (m * n * depth));
    const auto start = Clock::now();
    for (long i = 0; i < times; i++) {
      if (form == 0) k.gemm(m, n, depth, a.data(), depth, 1, b.data(), 1, depth, c.data(), n, false);
      if (form == 1) k.gemm(m, n, depth, a.data(), depth, 1, b.data(), n, 1, c.data(), n, false);
      if (form == 2) k.gemm(m, n, depth, a.data(), 1, m, b.data(), n, 1, c.data(), n, true);
    }
    best = std::max(best, 2e-9 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(depth) *
                              static_cast<double>(times) / seconds_since(start));
  }
  return best;
}

}  // namespace

std::string bench_products(long width, long hidden, long rows) {
  std::string out;
  char line[256];
#ifdef __x86_64__
  const std::string widest = available_levels().back();
  if (widest != "generic") {
    std::snprintf(line, sizeof line, "{\"event\":\"peak\",\"fma\":%.1f,\"bf16\":%.1f}\n",
                  widest == "avx512" ? peak_avx512() : peak_avx2(), has_bf16() ? peak_bf16() : 0.0);
    out += line;
  }
#endif
  std::vector<std::string> levels = available_levels();
  if (has_bf16()) levels.push_back("bf16");
  const long most = std::max({width, 2 * hidden, rows});
  std::vector<float> a(static_cast<size_t>(most * most)), b(a.size()), c(a.size());
  Random random(1, 2);
  for (float& x : a) x = static_cast<float>(random.uniform() - 0.5);
  for (float& x : b) x = static_cast<float>(random.uniform() - 0.5);
  for (const std::string& level : levels) {
    const Kernels<float>& k = *kernels_for<float>(level);
    const double forward = rate_of(k, 0, rows, 2 * hidden, width, a, b, c), down = rate_of(k, 0, rows, width, hidden, a, b, c);
    const double back = rate_of(k, 1, rows, width, 2 * hidden, a, b, c), gradient = rate_of(k, 2, 2 * hidden, width, rows, a, b, c);
    const double narrow = rate_of(k, 0, 64, rows, 32, a, b, c);
    std::snprintf(line, sizeof line,
                  "{\"event\":\"products\",\"level\":\"%s\",\"forward\":%.1f,\"down\":%.1f,\"backward\":%.1f,\"gradient\":%.1f,\"scores\":%.1f}\n",
                  level.c_str(), forward, down, back, gradient, narrow);
    out += line;
  }
  if (!out.empty()) out.pop_back();
  return out;
}

}  // namespace zg::train
