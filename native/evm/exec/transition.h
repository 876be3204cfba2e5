// One transaction on a state: validity, intrinsic gas, fees, authorizations, execution, refunds (Yellow Paper 6, EIP-1559, 2929, 2930, 3529, 3607,
// 3651, 4844, 7623, 7702, 7825).
#pragma once

#include <optional>
#include <string>

#include "exec/config.h"
#include "exec/transaction.h"
#include "precompiles/precompiles.h"
#include "vm/evm.h"

namespace zg {

// Why a transaction may not be included. `text` has geth's words and figures ("nonce too low: address 0x…, tx: 1 state: 2").
enum class TxRefusal : uint8_t {
  none, type_not_supported, wrong_chain, invalid_signature, nonce_too_low, nonce_too_high, nonce_max, fee_below_base, tip_above_fee,
  insufficient_funds, intrinsic_gas, floor_gas, initcode_size, sender_not_eoa, gas_above_cap, gas_above_block, blob_fee_below_base, blob_invalid,
  authorization_list_empty, create_not_allowed,
  override_invalid  // of a call: never from run_transaction
};

struct TxOutcome {
  TxRefusal refusal = TxRefusal::none;
  std::string text;        // of a refusal
  Status status = Status::success;
  uint64_t gas_used = 0;   // charged
  uint64_t gas_refund = 0; // granted
  uint64_t gas_peak = 0;   // before refunds
  U256 gas_price;          // effective
  Bytes output;
  std::vector<Log> logs;
  std::optional<Address> created;
};

struct TransitionOptions {
  uint64_t gas_available = ~uint64_t{0};  // left in the block
  uint64_t blob_gas_available = ~uint64_t{0};
  // Who sent it, where the transaction does not say (blocks recover senders beside their transactions). Null: tx.sender.
  const Address* sender = nullptr;
  // eth_call and its like: no nonce, no sender code, no gas cap, no balance check for gas when the price is 0.
  bool is_call = false;
  bool skip_balance = false;
  // eth_simulateV1 with validation: neither the sender's code (EIP-3607) nor the cap of EIP-7825 is looked at.
  bool any_sender = false;
  Tracer* tracer = nullptr;
  const std::atomic<bool>* stop = nullptr;
  // Called after execution and before finish_transaction: accounts as they are, the warm set (access lists, prestate tracer).
  void (*before_finish)(void* context, WorkingState& state) = nullptr;
  void* context = nullptr;
};

inline constexpr uint64_t kGasPerBlob = 131'072;
inline constexpr uint64_t kTxGasCap = 16'777'216;  // EIP-7825

uint64_t intrinsic_gas(const Transaction& tx, Revision rev) noexcept;
// EIP-7623; 21 000 before Prague.
uint64_t floor_gas(const Transaction& tx, Revision rev) noexcept;

// Runs begin_transaction … finish_transaction of `state`. After a refusal the state is as before.
TxOutcome run_transaction(WorkingState& state, const ChainConfig& config, Revision rev, const BlockEnv& block, const Precompiles& precompiles,
                          const Transaction& tx, const TransitionOptions& options = {});

// A call from 0xff…fe with 30 000 000 gas, no fee, no nonce (EIP-4788, 2935, 7002, 7251). nullopt: there is no code at the address.
std::optional<Result> system_call(WorkingState& state, Revision rev, const BlockEnv& block, const Precompiles& precompiles, const Address& to,
                                  ByteView input);

}  // namespace zg
