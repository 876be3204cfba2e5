// A genesis from the bytes that lib/evm/genesis.ts writes, and the block header that follows from its rules.
#pragma once

#include "chain/chain.h"

namespace zg {

// Null: read. Else what is wrong. `config_bytes` of the result is the whole input.
const char* decode_genesis(ByteView in, Genesis& out);

}  // namespace zg
