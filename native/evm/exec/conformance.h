// Entries for public test fixtures: one request and one answer in RLP each. Pure functions, thread safe, no limits on gas: for tests and the test runners,
// never for the network. Shapes (… marks lists; numbers canonical):
//
//   state   [fork, chainId, [] | [target, max, fraction], env, pre, tx]                      → [root, logsHash, gasUsed, error]
//           env [number, timestamp, gasLimit, coinbase, difficulty, [] | [random], [] | [baseFee], [] | [excessBlobGas]]
//           pre [[address, nonce, balance, code, [[key, value]…]]…]
//           tx  error text, when it cannot even be written; or [type, nonce, gasPrice | maxFee, maxPriorityFee, gasLimit, to, value, data,
//               accessList [[address, [key…]]…], maxBlobFee, [hash…], authorizations [[chainId, address, nonce, yParity, r, s]…], sender | '', secretKey | '']
//           The block ends with a reward of nothing, which creates the coinbase before EIP-158, even when the transaction was refused. One whose type
//           the fork does not know is the exception, for suites differ: the older tools write every field of env whatever the fork and reward
//           always; the newer ones write only what the fork has (no base fee before London, no random before Paris) and make no block. So such a
//           transaction gets its reward when env has both base fee and random.
//   block   [network, chainId, [[fork, target, max, fraction]…], genesisBlock, pre, [block…]] → [lastHash, stateRoot, [error…], error]
//   tx      [fork, bytes]                                                                    → [error, hash, sender, intrinsicGas]
//   call    [fork, address, input, gas]    a precompile                                       → [ok, gasUsed, output]
//   trie    [[key, value]…]  in any order, keys distinct                                      → root
//   rlp     bytes: is it one well-formed item?                                                → 01 or empty
#pragma once

#include <string_view>

#include "base/types.h"

namespace zg {

// Empty when `kind` is unknown or the request malformed.
Bytes run_conformance(std::string_view kind, ByteView request);

}  // namespace zg
