// Blocks executed again under a tracer.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "chain/chain.h"
#include "trace/tracer.h"

namespace zg {

struct TraceRequest {
  std::string name;    // of the tracer; see trace/tracer.h
  std::string config;
  // Raised when time is over; the tracer raises it too.
  std::shared_ptr<std::atomic<bool>> stop = std::make_shared<std::atomic<bool>>(false);
};

// Of one transaction: the tracer's JSON. Of all: a list of {"txHash", "result"}. Runs on the caller's thread.
// `not_found`: no such block or index; `pruned`: its parent's state is gone; `rejected`: genesis, unknown tracer, trace too large; `stopped`: out of time.
Failure trace_block(Chain& chain, uint64_t number, std::optional<uint32_t> index, const TraceRequest& request, std::string& json);
// A block given as RLP, on the state of its parent, which must be canonical.
Failure trace_raw(Chain& chain, ByteView raw, const TraceRequest& request, std::string& json);

// What the first `count` transactions of a block have done to one account's storage. `cleared`: what was there before them is gone. Slots in order.
Failure storage_within(Chain& chain, uint64_t number, uint32_t count, const Address& address, const std::atomic<bool>& stop, bool& cleared,
                       std::vector<std::pair<U256, U256>>& slots);

}  // namespace zg
