/**
 * What the chain is made of, as plain data: the RPC and the second implementation in test/ speak these types.
 *
 * Bytes are Uint8Array, amounts and gas bigint, heights and seconds number. What a fork does not have yet is absent.
 */
export interface BlockHeader {
  hash: Uint8Array
  parentHash: Uint8Array
  ommersHash: Uint8Array
  beneficiary: Uint8Array
  stateRoot: Uint8Array
  transactionsRoot: Uint8Array
  receiptsRoot: Uint8Array
  /** 256 bytes. */
  logsBloom: Uint8Array
  /** 0 since the merge. */
  difficulty: bigint
  number: number
  gasLimit: bigint
  gasUsed: bigint
  /** Seconds; equal timestamps of neighbours are valid (chain.md 1). */
  timestamp: number
  extraData: Uint8Array
  /** The header's mix hash: PREVRANDAO. */
  prevRandao: Uint8Array
  /** 8 bytes. */
  nonce: Uint8Array
  /** London. */
  baseFeePerGas?: bigint | undefined
  /** Shanghai. */
  withdrawalsRoot?: Uint8Array | undefined
  /** Cancun. */
  blobGasUsed?: bigint | undefined
  excessBlobGas?: bigint | undefined
  parentBeaconBlockRoot?: Uint8Array | undefined
  /** Prague. */
  requestsHash?: Uint8Array | undefined
}

export interface AccessListEntry {
  address: Uint8Array
  storageKeys: Uint8Array[]
}

export interface Authorization {
  chainId: bigint
  address: Uint8Array
  nonce: bigint
  yParity: number
  r: bigint
  s: bigint
}

/** A signed transaction with its sender. The pool refuses type 3; blocks made elsewhere may hold it. */
export interface Transaction {
  hash: Uint8Array
  type: number
  /** Absent for a legacy transaction without replay protection. */
  chainId?: bigint | undefined
  nonce: bigint
  /** Types 0 and 1. */
  gasPrice?: bigint | undefined
  /** Types 2, 3 and 4. */
  maxFeePerGas?: bigint | undefined
  maxPriorityFeePerGas?: bigint | undefined
  gasLimit: bigint
  to: Uint8Array | null
  value: bigint
  data: Uint8Array
  accessList?: AccessListEntry[] | undefined
  /** Type 4. */
  authorizationList?: Authorization[] | undefined
  /** Type 3. */
  maxFeePerBlobGas?: bigint | undefined
  blobVersionedHashes?: Uint8Array[] | undefined
  /** As signed: 27/28 or EIP-155 for type 0, else y parity. */
  v: bigint
  r: bigint
  s: bigint
  from: Uint8Array
  /** EIP-2718 bytes. */
  raw: Uint8Array
}

export interface Log {
  address: Uint8Array
  topics: Uint8Array[]
  data: Uint8Array
}

export interface Receipt {
  type: number
  status: 0 | 1
  /** Before Byzantium, instead of the status: the state after the transaction. */
  root?: Uint8Array | undefined
  gasUsed: bigint
  cumulativeGasUsed: bigint
  effectiveGasPrice: bigint
  logsBloom: Uint8Array
  logs: Log[]
  /** The same as `logs.length`, without reading the logs. */
  readonly logCount: number
  contractAddress: Uint8Array | null
}

export interface Withdrawal {
  index: bigint
  validatorIndex: bigint
  address: Uint8Array
  /** Gwei. */
  amount: bigint
}

export interface Block {
  header: BlockHeader
  transactions: Transaction[]
  /** Before the merge. */
  ommers: BlockHeader[]
  /** Shanghai. */
  withdrawals?: Withdrawal[] | undefined
  /** RLP of the whole: what `size` counts. */
  raw: Uint8Array
}

/** A log with its place, as eth_getLogs returns it. */
export interface PlacedLog extends Log {
  blockHash: Uint8Array
  blockNumber: number
  blockTimestamp: number
  transactionHash: Uint8Array
  transactionIndex: number
  logIndex: number
}

export interface Account {
  nonce: bigint
  balance: bigint
  codeHash: Uint8Array
}

/** State after a block (or on top of it, for dev changes). Absent accounts are undefined, absent slots zero. */
export interface StateReader {
  account(address: Uint8Array): Promise<Account | undefined>
  code(address: Uint8Array): Promise<Uint8Array>
  /** `slot` and the answer have 32 bytes. */
  storage(address: Uint8Array, slot: Uint8Array): Promise<Uint8Array>
  proof(address: Uint8Array, slots: Uint8Array[]): Promise<StateProof>
  /** The same at once: microseconds each. */
  readonly now: {
    account(address: Uint8Array): Account | undefined
    code(address: Uint8Array): Uint8Array
    storage(address: Uint8Array, slot: Uint8Array): Uint8Array
  }
}

export interface StateProof {
  account: Account & { storageRoot: Uint8Array }
  accountProof: Uint8Array[]
  storage: { key: Uint8Array; value: bigint; proof: Uint8Array[] }[]
}

/** A message for eth_call and eth_estimateGas. */
export interface CallRequest {
  from: Uint8Array
  to: Uint8Array | null
  gas: bigint
  gasPrice: bigint
  value: bigint
  data: Uint8Array
  accessList?: AccessListEntry[]
  authorizationList?: Authorization[]
  nonce?: bigint
  maxFeePerBlobGas?: bigint
  blobVersionedHashes?: Uint8Array[]
}

export interface StateOverride {
  balance?: bigint
  nonce?: bigint
  code?: Uint8Array
  /** Replaces all storage. */
  state?: [slot: Uint8Array, value: Uint8Array][]
  /** Changes single slots. */
  stateDiff?: [slot: Uint8Array, value: Uint8Array][]
  /** The precompile at this address acts at another one instead. */
  movePrecompileTo?: Uint8Array
}

export interface BlockOverride {
  number?: number
  timestamp?: number
  gasLimit?: bigint
  beneficiary?: Uint8Array
  prevRandao?: Uint8Array
  baseFeePerGas?: bigint
  blobBaseFee?: bigint
}

export interface CallResult {
  /** Gas the sender would be charged, intrinsic gas included, after refunds. */
  gasUsed: bigint
  gasRefund: bigint
  returnData: Uint8Array
  logs: Log[]
  /**
   * Absent on success. `text` is geth's wording (`execution reverted`, `out of gas`, `invalid opcode`, …). `refused`: it never ran (no
   * money, too little gas to begin); `stopped`: its time was over.
   */
  error?: { kind: 'revert' | 'out of gas' | 'other' | 'refused' | 'stopped'; text: string }
  /** Touched addresses and slots, for eth_createAccessList. */
  accessList?: AccessListEntry[]
  /** JSON of the tracer that was asked for. */
  trace?: string
}
