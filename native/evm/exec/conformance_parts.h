// Shared by the files of conformance.h.
#pragma once

#include "base/rlp.h"
#include "state/memory_state.h"

namespace zg {

bool read_accounts(rlp::Reader& r, MemoryState& out);
Bytes run_block_request(ByteView request);

}  // namespace zg
