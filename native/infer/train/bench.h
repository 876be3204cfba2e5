// Speed of this processor's products beside its peak, in one process.
#pragma once

#include <string>

namespace zg::train {

/// Times the products of a layer of `width` and `hidden` over `rows` tokens, forward and backward, and one core's peak of
/// fused multiply-adds (and of BF16 pairs). One JSON object a line, GFLOP/s.
std::string bench_products(long width, long hidden, long rows);

}  // namespace zg::train
