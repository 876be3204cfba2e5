/** What a stateful precompile sees of its call, and what it answers: the same for every engine. */
import type { SlotStore } from '../../../lib/contracts/da-signers.ts'

export interface PrecompileCall {
  /** 20 bytes: who calls, and who signed the transaction. */
  caller: Uint8Array
  origin: Uint8Array
  /** Under STATICCALL, at any depth. */
  isStatic: boolean
  data: Uint8Array
  chainId: bigint
  /** Number of the block that is executed. */
  blockNumber: bigint
  /** Storage of the precompile's own account. */
  state: SlotStore
  /** As the BLOCKHASH instruction: zeros outside the last 256 blocks. */
  blockHash(number: bigint): Promise<Uint8Array>
}

export interface PrecompileLog {
  topics: Uint8Array[]
  data: Uint8Array
}

export interface PrecompileAnswer {
  output: Uint8Array
  /** Emitted from the precompile's address. */
  logs: PrecompileLog[]
}

/** A call that fails: all its gas is gone, nothing it wrote stays, the text goes back as a revert reason. */
export class PrecompileError extends Error {}

export interface Precompile {
  /** 20 bytes. */
  address: Uint8Array
  /** Fixed gas of a call, charged before anything else; undefined for input without a known selector: all gas is lost. */
  gasOf(data: Uint8Array): bigint | undefined
  /** @throws {PrecompileError} for a call that fails; the engine undoes what it wrote. */
  run(call: PrecompileCall): Promise<PrecompileAnswer>
}
