// Prices that differ between revisions (Yellow Paper appendix G and the EIPs named below).
#pragma once

#include <cstdint>

#include "vm/revision.h"

namespace zg {

struct Schedule {
  uint16_t exp_byte;      // EIP-160
  uint16_t sload;         // EIP-150, 1884; from Berlin on 0: warm or cold instead
  uint16_t balance;       // EIP-150, 1884; likewise
  uint16_t extcode;       // EXTCODESIZE, EXTCODECOPY: EIP-150; likewise
  uint16_t extcode_hash;  // EIP-1052, 1884; likewise
  uint16_t call;          // EIP-150; likewise
  uint16_t selfdestruct;  // EIP-150
};

const Schedule& schedule_of(Revision revision) noexcept;

namespace gas {
inline constexpr uint64_t kWarm = 100, kColdAccount = 2600, kColdSlot = 2100;  // EIP-2929
inline constexpr uint64_t kCallValue = 9000, kCallStipend = 2300, kNewAccount = 25000;
inline constexpr uint64_t kCreate = 32000, kCodeByte = 200, kWord = 3, kKeccakWord = 6, kInitcodeWord = 2;
inline constexpr uint64_t kLog = 375, kLogTopic = 375, kLogByte = 8;
}  // namespace gas

inline constexpr int kMaxDepth = 1024;
inline constexpr size_t kMaxStack = 1024;
inline constexpr size_t kMaxCode = 24576;          // EIP-170
inline constexpr size_t kMaxInitcode = 2 * kMaxCode;  // EIP-3860
// Memory of a frame ends here whatever it pays: 2^32 bytes cost 3.5 * 10^13 gas.
inline constexpr uint64_t kMaxMemory = uint64_t{1} << 32;

}  // namespace zg
