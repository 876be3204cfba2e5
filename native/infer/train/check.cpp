#include "check.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "kernels.h"
#include "model.h"
#include "random.h"

namespace zg::train {

namespace {

// A central difference of step h errs by h^2 times the third derivative and by rounding / h: 1e-5 balances them in double
// at about 1e-9 of the gradient's size. A wrong term shows as 1e-2 and more.
constexpr double kStep = 1e-5;
constexpr double kDoubleTolerance = 1e-6;
constexpr double kFloatTolerance = 2e-5;
constexpr double kProductTolerance = 1e-5;
constexpr int kPlacesPerTensor = 12;

/// Largest difference of a level's product from a plain triple loop, relative to the sum of absolute terms.
double product_error(const Kernels<float>& k, Random& random) {
  double worst = 0;
  const long sizes[][3] = {{1, 1, 1}, {3, 5, 7}, {8, 32, 192}, {13, 33, 193}, {17, 70, 400}, {6, 16, 31}, {9, 48, 385}};
  for (const auto& size : sizes) {
    const long m = size[0], n = size[1], depth = size[2];
    for (int form = 0; form < 4; form++) {
      std::vector<float> a(static_cast<size_t>(m * depth)), b(static_cast<size_t>(depth * n)), c(static_cast<size_t>(m * n));
      for (float& x : a) x = static_cast<float>(random.normal());
      for (float& x : b) x = static_cast<float>(random.normal());
      for (float& x : c) x = static_cast<float>(random.normal());
      const std::vector<float> before = c;
      const bool add = form == 3;
      const long ars = form == 1 ? 1 : depth, acs = form == 1 ? m : 1, brs = form == 2 ? 1 : n, bcs = form == 2 ? depth : 1;
      k.gemm(m, n, depth, a.data(), ars, acs, b.data(), brs, bcs, c.data(), n, add);
      for (long i = 0; i < m; i++) {
        for (long j = 0; j < n; j++) {
          double sum = add ? static_cast<double>(before[static_cast<size_t>(i * n + j)]) : 0, size_of = std::fabs(sum);
          for (long p = 0; p < depth; p++) {
            const double term = static_cast<double>(a[static_cast<size_t>(i * ars + p * acs)]) *
                                static_cast<double>(b[static_cast<size_t>(p * brs + j * bcs)]);
            sum += term;
            size_of += std::fabs(term);
          }
          worst = std::max(worst, std::fabs(static_cast<double>(c[static_cast<size_t>(i * n + j)]) - sum) / size_of);
        }
      }
    }
  }
  return worst;
}

double length_of(const std::vector<double>& v) {
  double s = 0;
  for (const double x : v) s += x * x;
  return std::sqrt(s);
}

}  // namespace

bool check_gradients(uint64_t seed, std::string* json) {
  Config config;
  config.vocab = 70;
  config.width = 32;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.hidden = 48;
  config.context = 80;  // more than one block of query rows and of logit rows
  const Layout layout = layout_of(config);
  const auto count = static_cast<size_t>(layout.count);
  std::vector<float> start(count);
  initialize(config, layout, seed, start.data());
  Random random(seed, 0x636865636b);
  // Norms away from 1 and an embedding of some size, so that no term hides behind a small one.
  for (const Tensor& t : layout.tensors) {
    for (long i = 0; i < t.rows * t.columns; i++) {
      float& x = start[static_cast<size_t>(t.offset + i)];
      if (t.norm) x = static_cast<float>(0.7 + 0.6 * random.uniform());
      if (t.offset == layout.embedding) x = static_cast<float>(0.3 * random.normal());
    }
  }
  const long n = config.context - 3;
  std::vector<int32_t> tokens(static_cast<size_t>(n)), targets(static_cast<size_t>(n));
  for (int32_t& t : tokens) t = static_cast<int32_t>(random.below(static_cast<uint64_t>(config.vocab)));
  for (int32_t& t : targets) t = static_cast<int32_t>(random.below(static_cast<uint64_t>(config.vocab)));
  targets[5] = -1;

  bool good = true;
  std::string levels;
  for (const std::string& level : available_levels()) {
    std::vector<double> p(start.begin(), start.end()), exact(count);
    const Model<double> model(config, *kernels_for<double>(level));
    Workspace<double> space(config);
    model.loss(p.data(), tokens.data(), targets.data(), n, space, exact.data(), 1);
    double worst = 0;
    const char* worst_name = "";
    for (const Tensor& t : layout.tensors) {
      std::vector<double> difference, mine;
      for (int i = 0; i < kPlacesPerTensor; i++) {
        const size_t at = static_cast<size_t>(t.offset) + random.below(static_cast<uint64_t>(t.rows * t.columns));
        const double kept = p[at];
        p[at] = kept + kStep;
        const double above = model.loss(p.data(), tokens.data(), targets.data(), n, space, nullptr, 1);
        p[at] = kept - kStep;
        const double under = model.loss(p.data(), tokens.data(), targets.data(), n, space, nullptr, 1);
        p[at] = kept;
        mine.push_back(exact[at]);
        difference.push_back((above - under) / (2 * kStep) - exact[at]);
      }
      const double error = length_of(difference) / std::max(length_of(mine), 1e-3);
      if (!(error <= worst)) {
        worst = error;
        worst_name = t.name;
      }
    }
    const Model<float> small(config, *kernels_for<float>(level));
    Workspace<float> small_space(config);
    std::vector<float> found(count);
    small.loss(start.data(), tokens.data(), targets.data(), n, small_space, found.data(), 1);
    std::vector<double> apart(count);
    for (size_t i = 0; i < count; i++) apart[i] = static_cast<double>(found[i]) - exact[i];
    const double in_float = length_of(apart) / length_of(exact);
    const double product = product_error(*kernels_for<float>(level), random);
    const bool fine = worst <= kDoubleTolerance && in_float <= kFloatTolerance && product <= kProductTolerance;
    good = good && fine;
    char line[400];
    std::snprintf(line, sizeof line,
                  "%s{\"level\":\"%s\",\"ok\":%s,\"finite_difference_error\":%.3g,\"worst_tensor\":\"%s\","
                  "\"float_error\":%.3g,\"product_error\":%.3g}",
                  levels.empty() ? "" : ",", level.c_str(), fine ? "true" : "false", worst, worst_name, in_float, product);
    levels += line;
  }
  *json = std::string("{\"event\":\"gradients\",\"ok\":") + (good ? "true" : "false") + ",\"seed\":" + std::to_string(seed) +
          ",\"parameters\":" + std::to_string(count) + ",\"levels\":[" + levels + "]}";
  return good;
}

}  // namespace zg::train
