#include "exec/config.h"

#include <algorithm>

namespace zg {

Revision ChainConfig::revision_at(uint64_t number, uint64_t timestamp) const noexcept {
  for (int i = kRevisions - 1; i > 0; --i) {
    const auto rev = static_cast<Revision>(i);
    const auto at = static_cast<size_t>(i);
    const uint64_t from = rev >= Revision::shanghai ? time_of[at] : block_of[at];
    if (from != kNever && from <= (rev >= Revision::shanghai ? timestamp : number)) return rev;
  }
  return Revision::frontier;
}

BlobSchedule ChainConfig::blobs_at(uint64_t timestamp, Revision rev) const noexcept {
  BlobSchedule now = blobs[static_cast<size_t>(rev)];
  for (const BlobFork& f : blob_forks) {
    if (f.time > timestamp) break;
    now = f.schedule;
  }
  return now;
}

ChainConfig ChainConfig::all_at(Revision rev, const U256& chain_id) {
  ChainConfig c;
  c.chain_id = chain_id;
  for (size_t i = 0; i < kRevisions; ++i) {
    const uint64_t from = i <= static_cast<size_t>(rev) ? 0 : kNever;
    c.block_of[i] = i <= static_cast<size_t>(Revision::paris) ? from : kNever;
    c.time_of[i] = i > static_cast<size_t>(Revision::paris) ? from : kNever;
  }
  // EIP-4844 and EIP-7691.
  c.blobs[static_cast<size_t>(Revision::cancun)] = {3, 6, 3'338'477};
  c.blobs[static_cast<size_t>(Revision::prague)] = {6, 9, 5'007'716};
  c.blobs[static_cast<size_t>(Revision::osaka)] = {6, 9, 5'007'716};
  return c;
}

U256 blob_base_fee(uint64_t excess, uint64_t update_fraction) noexcept {
  constexpr U256 kMost{~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0}};
  if (update_fraction == 0) return kMost;
  U256 sum;
  U256 term = update_fraction;
  // The terms of a Taylor series: they grow until i passes excess / fraction, then fall. Bounded where the sum overflows.
  for (uint64_t i = 1; !term.is_zero(); ++i) {
    if (!add_checked(sum, term, sum)) return kMost;
    U256 product;
    U256 divisor;
    if (!mul_checked(term, excess, product) || !mul_checked(update_fraction, i, divisor)) return kMost;
    term = divmod(product, divisor).quotient;
  }
  return divmod(sum, update_fraction).quotient;
}

}  // namespace zg
