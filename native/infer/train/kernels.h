// The loops in which training spends its time, one table of functions for each level of SIMD and each number type.
// Matrices are dense with explicit strides; every sum over k runs in ascending order of k, so that a result depends on
// neither thread count nor blocking, only on the level (wider levels fuse multiply and add).
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace zg::train {

struct AdamStep {
  double rate;       // learning rate after schedule
  double beta1;
  double beta2;
  double correct1;   // 1 / (1 - beta1^t)
  double correct2;   // 1 / (1 - beta2^t)
  double epsilon;
  double decay;      // decoupled weight decay, already 0 for norms
  double grad_scale;  // 1 / lanes, and the clipping factor
};

template <class T>
struct Kernels {
  /// c[m][n] (+)= sum over k of a(i, k) * b(k, j); a(i,k) = a[i*ars + k*acs], b(k,j) = b[k*brs + j*bcs], rows of c at ldc.
  void (*gemm)(long m, long n, long k, const T* a, long ars, long acs, const T* b, long brs, long bcs, T* c, long ldc,
               bool add);
  /// The same without rounding to BF16 on any level: for what decides (routers).
  void (*gemm_exact)(long m, long n, long k, const T* a, long ars, long acs, const T* b, long brs, long bcs, T* c, long ldc,
                     bool add);
  /// s = soft-max of scale * s over n entries; returns the logarithm of the sum of exponentials.
  T (*softmax)(T* s, long n, T scale);
  /// s = exp(scale * s - log_sum): the soft-max again from its saved logarithm.
  void (*softmax_again)(T* s, long n, T scale, T log_sum);
  /// p = scale * p * (dp - mean): from probabilities and their gradients to gradients of the scores.
  void (*softmax_back)(const T* p, T* dp, long n, T scale, T mean);
  /// out = g * sigmoid(g) * u.
  void (*silu_mul)(const T* g, const T* u, T* out, long n);
  /// From d(out): dg and du.
  void (*silu_mul_back)(const T* g, const T* u, const T* dout, T* dg, T* du, long n);
  /// The same with the tanh form of GELU.
  void (*gelu_mul)(const T* g, const T* u, T* out, long n);
  void (*gelu_mul_back)(const T* g, const T* u, const T* dout, T* dg, T* du, long n);
  /// s = limit * tanh(scale * s / limit).
  void (*cap)(T* s, long n, T scale, T limit);
  /// y = x * r * w with r = 1 / sqrt(mean(x*x) + epsilon); returns r.
  T (*rms)(const T* x, const T* w, T* y, long n, T epsilon);
  /// dx += the gradient through rms; dw += its gradient, unless null.
  void (*rms_back)(const T* x, const T* w, const T* dy, T r, T* dx, T* dw, long n);
  T (*dot)(const T* a, const T* b, long n);
  void (*add_to)(T* y, const T* x, long n);
  /// y += factor * x.
  void (*add_times)(T* y, const T* x, long n, T factor);
  void (*adam)(T* p, T* m, T* v, const T* g, long n, const AdamStep& step);
};

template <class T>
const Kernels<T>& kernels_generic();
template <class T>
const Kernels<T>& kernels_avx2();
template <class T>
const Kernels<T>& kernels_avx512();
/// As avx512, but the products of floats take their factors as BF16 (sums in float); doubles as ever.
template <class T>
const Kernels<T>& kernels_bf16();

/// Names of the levels this processor can run in full precision, narrowest first.
std::vector<std::string> available_levels();
/// True when it has products of BF16 pairs (level "bf16").
bool has_bf16();

/// The table for `level`; "" takes ZG_CPU from the environment, else the widest available. Null when it cannot run here.
template <class T>
const Kernels<T>* kernels_for(const std::string& level);

}  // namespace zg::train
