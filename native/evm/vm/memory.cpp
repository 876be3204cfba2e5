// Memory and the instructions that copy or hash it.
#include <algorithm>

#include "vm/machine.h"

namespace zg {
namespace {

// Yellow Paper, C_mem: 3 a word and the square of the words over 512.
constexpr uint64_t memory_price(uint64_t w) noexcept { return 3 * w + w * w / 512; }

// Base price and price a word for `size` bytes, taken off `gas`; false when it is not there.
bool pay_words(uint64_t& gas, const U256& size, uint64_t base, uint64_t word) noexcept {
  if (!size.is_u64() || size.w[0] > kMaxMemory) return false;
  return !__builtin_sub_overflow(gas, base + word * words(size.w[0]), &gas);
}

}  // namespace

Done expand(Machine& m, Frame& f, const U256& at, const U256& size, uint64_t gas) {
  if (!at.is_u64() || !size.is_u64() || at.w[0] > kMaxMemory || size.w[0] > kMaxMemory) return {gas, Status::out_of_gas};
  const uint64_t end = at.w[0] + size.w[0];
  if (end <= f.mem_size) return {gas, Status::success};
  if (end > kMaxMemory) return {gas, Status::out_of_gas};
  const uint64_t w = words(end);
  const uint64_t price = memory_price(w) - memory_price(f.mem_size / 32);
  if (gas < price) return {gas - price, Status::out_of_gas};
  m.arena->grow(f, w * 32);
  return {gas - price, Status::success};
}

Done op_keccak(Machine& m, Frame& f, U256* sp, uint64_t gas) {
  const U256 at = sp[-1], size = sp[-2];
  if (!pay_words(gas, size, 30, gas::kKeccakWord)) return {gas, Status::out_of_gas};
  if (!size.is_zero()) {
    const Done d = expand(m, f, at, size, gas);
    if (d.status != Status::success) return d;
    gas = d.gas;
    sp[-2] = U256::from(keccak({f.mem + at.w[0], size.w[0]}));
  } else {
    sp[-2] = U256::from(empty_code_hash());
  }
  return {gas, Status::success};
}

Done op_copy(Machine& m, Frame& f, U256* sp, ByteView source, uint64_t gas) {
  const U256 &to = sp[-1], &at = sp[-2], &size = sp[-3];
  if (!pay_words(gas, size, 3, gas::kWord)) return {gas, Status::out_of_gas};
  if (size.is_zero()) return {gas, Status::success};
  const Done d = expand(m, f, to, size, gas);
  if (d.status != Status::success) return d;
  const uint64_t start = std::min<uint64_t>(at.saturated(), source.size());
  const uint64_t n = std::min<uint64_t>(size.w[0], source.size() - start);
  uint8_t* p = f.mem + to.w[0];
  if (n > 0) std::memcpy(p, source.data() + start, n);
  std::memset(p + n, 0, size.w[0] - n);
  return d;
}

Done op_returndatacopy(Machine& m, Frame& f, U256* sp, uint64_t gas) {
  const U256 &at = sp[-2], &size = sp[-3];
  const uint64_t have = m.return_data.size();
  if (!at.is_u64() || !size.is_u64() || at.w[0] > have || size.w[0] > have - at.w[0]) return {gas, Status::return_data_bounds};
  return op_copy(m, f, sp, m.return_data, gas);
}

Done op_mcopy(Machine& m, Frame& f, U256* sp, uint64_t gas) {
  const U256 &to = sp[-1], &at = sp[-2], &size = sp[-3];
  if (!pay_words(gas, size, 3, gas::kWord)) return {gas, Status::out_of_gas};
  if (size.is_zero()) return {gas, Status::success};
  const Done d = expand(m, f, less(to, at) ? at : to, size, gas);
  if (d.status == Status::success) std::memmove(f.mem + to.w[0], f.mem + at.w[0], size.w[0]);
  return d;
}

}  // namespace zg
