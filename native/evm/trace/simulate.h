// eth_simulateV1: blocks of calls on top of a block, sealed in memory.
//
//   request   [validation 0 | 1, traceTransfers 0 | 1, gasCap, [[override, overrides, [call…]]…]]
//   override  [[number], [timestamp], [gasLimit], [feeRecipient], [prevRandao], [baseFee], [blobBaseFee], [withdrawal…] or empty]; each [] when absent
//   overrides as of lib/evm/types.ts
//   call      [from, to | '', [gas], [gasPrice], [maxFee], [tip], value, data, [accessList], [authorizations], [nonce], [maxBlobFee], [blobHashes]]
//   answer    [0, '', blocks] or [−code, text, []] of a JSON-RPC error
//   blocks    [[block, hash, [sender…], [[returnData, [[address, [topic…], data, index]…], gasUsed, maxUsedGas, status, errorCode, errorText, errorData]…]]…]
//             errorCode: 3 reverted, else 0; see cmd/zg-chain/rpc/simulate.ts
#pragma once

#include <atomic>

#include "chain/chain.h"

namespace zg {

// On the state after block `number`, or of the head with development changes when nullopt. Runs on the caller's thread.
Bytes simulate(Chain& chain, ByteView request, std::optional<uint64_t> number, const std::atomic<bool>& stop);

}  // namespace zg
