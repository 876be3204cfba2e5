// Tests of the deterministic reference by itself.
//
//   det_check rules             the facts of inference.md 12.3 about the elementary functions, on samples; RoPE's nearest floats
//   det_check logits DIRECTORY HALF < LINES    LINES: model, token count, spread, tokens, ten ids with logits. One line a model:
//                               name, worst and mean of the ten logits' largest error in units of the spread. HALF 1: the F16 cache
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "double_double.h"
#include "forward_det.h"

namespace {

using namespace zg::det;

int failures = 0;
void expect(bool ok, const char* what) {
  if (ok) return;
  printf("wrong: %s\n", what);
  failures++;
}

double ulps(float got, double want) {
  const auto near = static_cast<float>(want);
  return std::fabs(static_cast<double>(got) - want) / (static_cast<double>(std::nextafterf(std::fabs(near), INFINITY)) - std::fabs(static_cast<double>(near)));
}

int rules() {
  expect(zexp(0) == 1 && zexp(-0.0f) == 1, "zexp(0) = 1");
  expect(zexp(-87.4f) == 0 && std::isinf(zexp(88.8f)) && std::isnan(zexp(NAN)), "zexp outside its range");
  expect(silu(-90.0f) == 0 || std::fabs(silu(-90.0f)) < 1e-30f, "silu(-90) underflows towards 0");
  double worst = 0;
  float before = 0;
  // Every 1 021st float from −87.3 up to 88.7.
  for (uint32_t b = bits_of(-87.3f); b > 0x80000000u; b = b > 0x80000000u + 1021 ? b - 1021 : 0x80000000u) {
    const float y = zexp(float_of(b));
    expect(y >= before, "zexp is monotonic");
    before = y;
    worst = std::fmax(worst, ulps(y, std::exp(static_cast<double>(float_of(b)))));
  }
  for (uint32_t b = 0; b < bits_of(88.7f); b += 1021) {
    const float y = zexp(float_of(b));
    expect(y >= before, "zexp is monotonic");
    before = y;
    worst = std::fmax(worst, ulps(y, std::exp(static_cast<double>(float_of(b)))));
  }
  expect(worst <= 1.01, "zexp within 1.01 ulp");
  printf("zexp %.3f ulp", worst);
  worst = 0;
  for (uint32_t b = 0x30000000u; b < bits_of(10.0f); b += 1021) {
    const float x = float_of(b);
    expect(ztanh(-x) == -ztanh(x), "ztanh is odd");
    worst = std::fmax(worst, ulps(ztanh(x), std::tanh(static_cast<double>(x))));
  }
  expect(worst <= 2.6, "ztanh within 2.6 ulp");
  printf(", ztanh %.3f", worst);
  worst = 0;
  for (uint32_t b = 0x00800000u; b < 0x7f800000u; b += 10'007) {
    const double want = std::log(static_cast<double>(float_of(b)));
    if (std::fabs(want) > 1e-6) worst = std::fmax(worst, ulps(zlog(float_of(b)), want));
  }
  expect(worst <= 2, "zlog within 2 ulp");
  printf(", zlog %.3f\n", worst);
  for (uint32_t h = 0; h < 65'536; h++) {
    const auto half = static_cast<uint16_t>(h);
    if ((h & 0x7fffu) <= 0x7c00u) expect(float_half(half_float(half)) == half, "half to float and back");
  }
  expect(float_half(65'520.0f) == 0x7c00 && float_half(65'519.0f) == 0x7bff && float_half(0x1p-25f) == 0, "rounding to half");
  // Blocks of activations at their edges.
  Activations a;
  float x[32] = {};
  x[3] = 0x1p-101f;
  quantize(x, 32, &a);
  expect(a.d[0] == 0 && a.q[3] == 0, "a block below 2^-100 is zero");
  x[3] = INFINITY;
  quantize(x, 32, &a);
  expect(std::isnan(a.d[0]) && a.q[3] == 0, "a block with infinity has no number for a scale");
  x[3] = 254.0f;
  x[4] = -1.0f;
  x[5] = 3.0f;
  quantize(x, 32, &a);
  expect(a.d[0] == 2 && a.q[3] == 127 && a.q[4] == 0 && a.q[5] == 2, "halves round to even");
  // Values of sin² + cos² in double-double, far away, and a number whose nearest float hangs on its lower part.
  for (double at : {0.1, 1.5, 1e3, 1e6 + 0.25}) {
    Dd s, c;
    sin_cos_dd({at, 0}, &s, &c);
    const Dd one = s * s + c * c - Dd{1, 0};
    expect(std::fabs(one.hi) < 1e-30, "sine and cosine");
  }
  const Dd e = exp_dd(log_dd({10'000, 0})) - Dd{10'000, 0};
  expect(std::fabs(e.hi) < 1e-26, "exponential of the logarithm");
  expect(nearest_float({1 + 0x1p-24, 0x1p-80}) == 1 + 0x1p-23f && nearest_float({1 + 0x1p-24, -0x1p-80}) == 1, "nearest float of a tie");
  return failures == 0 ? 0 : 1;
}

int logits(const std::string& directory, bool half) {
  char name[128];
  std::string last;
  std::unique_ptr<Model> model;
  std::unique_ptr<Forward> forward;
  double worst = 0;
  double sum = 0;
  int count = 0;
  int tokens = 0;
  double spread = 0;
  const auto flush = [&] {
    if (count > 0) printf("%s %.3g %.3g\n", last.c_str(), worst, sum / count);
    worst = sum = 0;
    count = 0;
  };
  while (scanf("%127s %d %lf", name, &tokens, &spread) == 3 && tokens > 0 && tokens < 4096) {
    std::vector<Row> rows(static_cast<size_t>(tokens));
    for (uint32_t i = 0; i < rows.size(); i++) {
      rows[i].position = i;
      if (scanf("%u", &rows[i].token) != 1) return 2;
    }
    rows.back().wants_logits = true;
    if (last != name) {
      flush();
      last = name;
      zg::gguf::Error error;
      model = Model::open((directory + "/" + name).c_str(), &error);
      if (model == nullptr) {
        printf("%s: %s\n", name, error.message.c_str());
        return 1;
      }
      forward = std::make_unique<Forward>(*model, 128, 2, half);
    }
    forward->cut(0, 0);
    std::vector<float> got;
    std::vector<uint32_t> failed;
    forward->run(rows, &got, nullptr, &failed);
    double most = 0;
    for (int i = 0; i < 10; i++) {
      uint32_t id = 0;
      double want = 0;
      if (scanf("%u %lf", &id, &want) != 2 || id >= got.size()) return 2;
      const double error = std::fabs(static_cast<double>(got[id]) - want) / spread;
      most = error > most || std::isnan(error) ? error : most;
    }
    worst = most > worst || std::isnan(most) ? most : worst;
    sum += most;
    count++;
  }
  flush();
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 2 && strcmp(arguments[1], "rules") == 0) return rules();
  if (count == 4 && strcmp(arguments[1], "logits") == 0) return logits(arguments[2], atoi(arguments[3]) != 0);
  fprintf(stderr, "usage: det_check rules | det_check logits DIRECTORY HALF\n");
  return 2;
}
