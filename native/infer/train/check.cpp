#include "check.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "../det/forward_det.h"
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
constexpr double kPairTolerance = 8e-3;
constexpr int kPlacesPerTensor = 6;

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

/// A shape of one kind, small and drawn by the seed; `kind` is an architecture, or mixtral.
std::string shape_of(const std::string& kind, Random& random, Config* out) {
  Config c;
  c.vocab = 50 + static_cast<long>(random.below(40));
  c.kv_heads = 1 + static_cast<long>(random.below(2));
  c.heads = c.kv_heads * (1 + static_cast<long>(random.below(2)));
  c.head_size = 4 + 2 * static_cast<long>(random.below(4));
  c.width = kind == "llama" ? c.heads * c.head_size : 18 + 2 * static_cast<long>(random.below(8));
  c.hidden = 20 + static_cast<long>(random.below(20));
  c.layers = kind == "gemma3" ? 6 : 2;
  c.context = kind == "llama" ? 80 : 24;  // more than one block of query rows
  c.tied = random.below(2) == 0;
  const bool mixture = kind == "mixtral" || kind == "qwen3moe";
  if (mixture) c.experts = 4, c.experts_used = 2;
  const bool is_llama = kind == "llama" || kind == "mixtral";
  if (is_llama) c.q_bias = c.o_bias = random.below(2) == 0;
  std::string fault = new_config(is_llama ? "llama" : kind, c, 7, 10'000, out);
  if (!fault.empty()) return fault;
  if (is_llama) {
    for (uint32_t i = 0; i < out->rope[0].dims / 2; i++) out->rope[0].divisors.push_back(1 + static_cast<float>(i));
  }
  if (kind == "qwen2") {
    out->rope[0].yarn = true;
    out->rope[0].yarn_factor = 4;
    out->rope[0].original_context = 8;
  }
  // Caps that bend the numbers of so small a model.
  if (out->score_cap != 0) out->score_cap = 1.5, out->logit_cap = 2;
  return "";
}

Window window_of(const Config& c, Random& random) {
  Window w;
  for (long i = 0; i < c.context - 3; i++) {
    w.tokens.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(c.vocab))));
    w.targets.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(c.vocab))));
  }
  w.targets[5] = w.targets[6] = -1;
  w.starts = {0, 4, c.context - 8};
  return w;
}

struct Result {
  double worst = 0;
  std::string worst_name;
  double in_float = 0;
};

/// Derivatives of all tensors of `tensors` in `values`, which is the base or the adapter of the weights.
Result compare(const Config& config, const AdapterConfig& adapter, const std::string& level, const Window& window,
               const std::vector<float>& base, const std::vector<float>& low, Random& random) {
  const Model<double> model(config, adapter, *kernels_for<double>(level));
  Workspace<double> space(config, adapter.rank);
  std::vector<double> b(base.begin(), base.end()), a(low.begin(), low.end());
  const bool adapts = adapter.rank > 0;
  std::vector<double>& p = adapts ? a : b;
  std::vector<double> exact(p.size());
  const auto loss = [&](double* gradient) {
    const Gradient<double> to = adapts ? Gradient<double>{nullptr, gradient} : Gradient<double>{gradient, nullptr};
    return model.loss({b.data(), adapts ? a.data() : nullptr}, window, space, to, 1);
  };
  loss(exact.data());
  Result result;
  for (const Tensor& t : adapts ? model.adapter_layout().tensors : model.layout().tensors) {
    std::vector<double> difference, mine;
    for (int i = 0; i < kPlacesPerTensor; i++) {
      const size_t at = static_cast<size_t>(t.offset) + random.below(static_cast<uint64_t>(t.count()));
      const double kept = p[at];
      p[at] = kept + kStep;
      const double above = loss(nullptr);
      p[at] = kept - kStep;
      const double under = loss(nullptr);
      p[at] = kept;
      mine.push_back(exact[at]);
      difference.push_back((above - under) / (2 * kStep) - exact[at]);
    }
    const double error = length_of(difference) / std::max(length_of(mine), 1e-2);
    if (!(error <= result.worst)) {
      result.worst = error;
      result.worst_name = t.name;
    }
  }
  const Model<float> small(config, adapter, *kernels_for<float>(level));
  Workspace<float> small_space(config, adapter.rank);
  std::vector<float> found(p.size());
  const Gradient<float> to = adapts ? Gradient<float>{nullptr, found.data()} : Gradient<float>{found.data(), nullptr};
  small.loss({base.data(), adapts ? low.data() : nullptr}, window, small_space, to, 1);
  std::vector<double> apart(p.size());
  for (size_t i = 0; i < apart.size(); i++) apart[i] = static_cast<double>(found[i]) - exact[i];
  result.in_float = length_of(apart) / length_of(exact);
  return result;
}

}  // namespace

bool check_gradients(uint64_t seed, std::string* json) {
  bool good = true;
  std::string rows;
  char line[500];
  const auto add = [&](bool fine) {
    good = good && fine;
    rows += (rows.empty() ? "" : ",") + std::string(line);
  };
  const std::vector<std::string> levels = available_levels();
  Random random(seed, 0x636865636b);
  for (const char* kind : {"llama", "mixtral", "qwen2", "qwen3", "qwen3moe", "gemma", "gemma2", "gemma3"}) {
    Config config;
    const std::string fault = shape_of(kind, random, &config);
    if (!fault.empty()) {
      *json = "{\"event\":\"gradients\",\"ok\":false,\"error\":\"" + fault + "\"}";
      return false;
    }
    const Layout layout = layout_of(config);
    std::vector<float> base(static_cast<size_t>(layout.count));
    initialize(config, layout, random.next(), base.data());
    // Norms away from 1, biases away from 0 and matrices of some size, so that no term hides behind a small one.
    for (const Tensor& t : layout.tensors) {
      for (long i = 0; i < t.count(); i++) {
        float& x = base[static_cast<size_t>(t.offset + i)];
        if (t.kind == Kind::kNorm) x = static_cast<float>(0.7 + 0.6 * random.uniform());
        if (t.kind == Kind::kBias || t.offset == layout.embedding) x = static_cast<float>(0.3 * random.normal());
        if (t.kind == Kind::kMatrix && t.offset != layout.embedding) x *= 1.5f;
      }
    }
    AdapterConfig adapter;
    adapter.rank = 3;
    adapter.alpha = 5;
    adapter.targets.assign(std::begin(kTargets), std::end(kTargets));
    const AdapterLayout pairs = adapter_layout_of(config, adapter);
    std::vector<float> low(static_cast<size_t>(pairs.count));
    for (float& x : low) x = static_cast<float>(0.2 * random.normal());
    const Window window = window_of(config, random);
    for (const std::string& level : levels) {
      // Every level once; the graphs do not depend on it.
      if (std::string(kind) != "llama" && level != levels.back()) continue;
      for (const bool adapts : {false, true}) {
        const Result r = compare(config, adapts ? adapter : AdapterConfig{}, level, window, base, adapts ? low : std::vector<float>{}, random);
        const bool fine = r.worst <= kDoubleTolerance && r.in_float <= kFloatTolerance;
        std::snprintf(line, sizeof line,
                      "{\"architecture\":\"%s\",\"adapter\":%s,\"level\":\"%s\",\"ok\":%s,\"finite_difference_error\":%.3g,"
                      "\"worst_tensor\":\"%s\",\"float_error\":%.3g}",
                      kind, adapts ? "true" : "false", level.c_str(), fine ? "true" : "false", r.worst, r.worst_name.c_str(), r.in_float);
        add(fine);
      }
    }
  }
  std::string products;
  for (const std::string& level : levels) {
    const double error = product_error(*kernels_for<float>(level), random);
    good = good && error <= kProductTolerance;
    std::snprintf(line, sizeof line, "%s{\"level\":\"%s\",\"error\":%.3g}", products.empty() ? "" : ",", level.c_str(), error);
    products += line;
  }
  if (has_bf16()) {
    // Each factor is rounded by at most 2^-9 of itself.
    const double error = product_error(*kernels_for<float>("bf16"), random);
    good = good && error > 1e-5 && error <= kPairTolerance;
    std::snprintf(line, sizeof line, ",{\"level\":\"bf16\",\"error\":%.3g}", error);
    products += line;
  }
  *json = std::string("{\"event\":\"gradients\",\"ok\":") + (good ? "true" : "false") + ",\"seed\":" + std::to_string(seed) +
          ",\"checks\":[" + rows + "],\"products\":[" + products + "]}";
  return good;
}

std::string compare_reference(const std::string& path, long count, uint64_t seed, std::string* json) {
  gguf::Error error;
  const auto file = det::Model::open(path.c_str(), &error);
  if (file == nullptr) return path + ": " + error.message;
  const Config config = config_of(*file, count);
  std::vector<float> base;
  const std::string fault = load_parameters(*file, layout_of(config), &base);
  if (!fault.empty()) return fault;
  Random random(seed, 0x696473);
  Window window;
  std::vector<det::Row> rows;
  for (long i = 0; i < config.context; i++) {
    const uint64_t id = random.below(static_cast<uint64_t>(config.vocab));
    window.tokens.push_back(static_cast<int32_t>(id));
    window.targets.push_back(-1);
    det::Row row{};
    row.token = static_cast<uint32_t>(id);
    row.position = static_cast<uint32_t>(i);
    row.wants_logits = true;
    rows.push_back(row);
  }
  window.starts = {0};
  const Model<float> model(config, {}, *kernels_for<float>(""));
  Workspace<float> space(config, 0);
  model.forward({base.data(), nullptr}, window, space);
  det::Forward reference(*file, static_cast<uint32_t>(config.context), 1, false);
  std::vector<float> theirs;
  std::vector<uint32_t> failed;
  reference.run(rows, &theirs, nullptr, &failed);
  std::vector<float> ours(static_cast<size_t>(config.vocab));
  double worst = 0;
  for (long p = 0; p < config.context; p++) {
    model.logits_at({base.data(), nullptr}, p, space, ours.data());
    const float* row = theirs.data() + p * config.vocab;
    double mean = 0, square = 0, apart = 0;
    for (long j = 0; j < config.vocab; j++) mean += static_cast<double>(row[j]) / static_cast<double>(config.vocab);
    for (long j = 0; j < config.vocab; j++) {
      square += (static_cast<double>(row[j]) - mean) * (static_cast<double>(row[j]) - mean) / static_cast<double>(config.vocab);
      apart = std::max(apart, std::fabs(static_cast<double>(ours[static_cast<size_t>(j)]) - static_cast<double>(row[j])));
    }
    const double spread = apart / std::sqrt(square);
    if (!(spread <= worst)) worst = spread;
  }
  const auto is_quantized = [](const gguf::Tensor& t) { return !det::is_float_type(static_cast<det::Type>(t.type->id)); };
  const bool quantized = std::any_of(file->file->tensors().begin(), file->file->tensors().end(), is_quantized);
  char line[200];
  std::snprintf(line, sizeof line, "{\"event\":\"reference\",\"architecture\":\"%s\",\"apart\":%.3g,\"quantized\":%s}", config.architecture.name,
                worst, quantized ? "true" : "false");
  *json = line;
  return "";
}

}  // namespace zg::train
