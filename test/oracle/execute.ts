/** Executes a block's transactions: to build a block, or to check one made elsewhere. */
import type { Common } from '@ethereumjs/common'
import { createTxFromRLP, type TypedTransaction } from '@ethereumjs/tx'
import { type RunTxResult, runTx } from '@ethereumjs/vm'
import { sha256 } from '@noble/hashes/sha2.js'
import { encodeHeader, makeBlock, sealHeader } from '../../cmd/zg-chain/core/block.ts'
import { effectiveGasPrice, feeCap, MIN_GAS_LIMIT, nextBaseFee } from '../../cmd/zg-chain/core/fees.ts'
import { EMPTY_CODE_HASH, EMPTY_LIST_HASH, EMPTY_TRIE_ROOT, keccak256 } from '../../cmd/zg-chain/core/hash.ts'
import { bloomOf, mergeBloom } from '../../cmd/zg-chain/core/receipts.ts'
import { floorGas, intrinsicGas, isImpersonated, MAX_INITCODE_BYTES } from '../../cmd/zg-chain/core/transaction.ts'
import { receiptsRoot, transactionsRoot } from '../../cmd/zg-chain/core/trie-root.ts'
import type { Block, BlockHeader, Receipt, Transaction } from '../../cmd/zg-chain/core/types.ts'
import { concat, equalBytes } from '../../lib/base/bytes.ts'
import { AssertionError, messageOf, ZgError } from '../../lib/base/errors.ts'
import { fromHex } from '../../lib/base/hex.ts'
import type { BuiltPayload, StateRef } from './engine-types.ts'
import { type Execution, type ExecutionOptions, execution } from './evm.ts'
import type { Overlay } from './nodes.ts'
import { addressOf } from './state.ts'
import { refusalWords } from './words.ts'

/** Fields that no block of this implementation sets otherwise. */
const FIXED_HEADER = {
  ommersHash: EMPTY_LIST_HASH,
  difficulty: 0n,
  nonce: new Uint8Array(8),
  withdrawalsRoot: EMPTY_TRIE_ROOT,
  blobGasUsed: 0n,
  excessBlobGas: 0n
} as const

const BEACON_ROOTS = fromHex('0x000F3df6D732807Ef1319fB7B8bB8522d0Beac02')
const HISTORY = fromHex('0x0000F90827F1C53a10cb7A02335B175320002935')
/** EIP-7685 requests made by system contracts, by type byte. Type 0 (deposits, EIP-6110) needs a deposit contract, which no genesis names. */
const REQUESTS: [type: number, contract: Uint8Array][] = [
  [1, fromHex('0x00000961Ef480Eb55e80D19ad83579A64c007002')],
  [2, fromHex('0x0000BBdDc7CE488642fb579F8B00f3a590007251')]
]
/** EIP-7934's bound, kept under Prague too: what a peer would have to take. */
const MAX_BLOCK_BYTES = 8 * 1024 * 1024 - 2 * 1024 * 1024

export interface Outcome {
  block: Block
  receipts: Receipt[]
  rejected: BuiltPayload['rejected']
  touched: Uint8Array[]
}

interface Environment {
  timestamp: number
  prevRandao: Uint8Array
  suggestedFeeRecipient: Uint8Array
  parentBeaconBlockRoot: Uint8Array
  gasLimit: bigint
  baseFeePerGas: bigint
}

/** Why a transaction is not in the block: dropped for good, or left for a later one. */
type Refusal = { reason: string; permanent: boolean }

/** Builds a block on `parent` of as many of `transactions` as fit and are valid. */
export async function buildBlock(
  opts: ExecutionOptions,
  overlay: Overlay,
  parent: StateRef,
  env: Environment & { transactions: Transaction[]; buildTimeMs: number }
): Promise<Outcome> {
  const run = await begin(opts, overlay, parent, env)
  const rejected: BuiltPayload['rejected'] = []
  const started = opts.clock.monotonic()
  for (const tx of env.transactions) {
    if (opts.clock.monotonic() - started > env.buildTimeMs) break
    if (env.gasLimit - run.gasUsed < 21_000n) break
    const refusal = await run.add(tx)
    if (refusal?.permanent) rejected.push({ hash: tx.hash, reason: refusal.reason })
  }
  const sealed = await run.finish()
  const header = sealHeader({ ...headerBase(parent, env), ...sealed, extraData: new Uint8Array(0) })
  return { block: makeBlock(header, run.included), receipts: run.receipts, rejected, touched: run.touched() }
}

/** Executes a block and compares every header field. @throws {ZgError} ERR_REJECTED naming what is wrong. */
export async function verifyBlock(
  opts: ExecutionOptions,
  overlay: Overlay,
  parent: StateRef,
  block: Block
): Promise<Outcome> {
  const h = block.header
  checkHeader(h, parent.header)
  const env: Environment = {
    timestamp: h.timestamp,
    prevRandao: h.prevRandao,
    suggestedFeeRecipient: h.beneficiary,
    parentBeaconBlockRoot: h.parentBeaconBlockRoot ?? new Uint8Array(32),
    gasLimit: h.gasLimit,
    baseFeePerGas: h.baseFeePerGas ?? 0n
  }
  const run = await begin(opts, overlay, parent, env)
  for (const [i, tx] of block.transactions.entries()) {
    const refusal = await run.add(tx)
    if (refusal !== undefined) throw rejected(`transaction ${i} is invalid: ${refusal.reason}`)
  }
  const sealed = await run.finish()
  const own = sealHeader({ ...headerBase(parent, env), ...sealed, extraData: h.extraData })
  for (const name of Object.keys(sealed) as (keyof typeof sealed)[]) {
    const [have, want] = [h[name], own[name]]
    const same = have instanceof Uint8Array ? equalBytes(have, want as Uint8Array) : have === want
    if (!same) throw rejected(`invalid ${name}`)
  }
  if (!equalBytes(own.hash, h.hash)) throw rejected('invalid block hash')
  return { block, receipts: run.receipts, rejected: [], touched: run.touched() }
}

function headerBase(parent: StateRef, env: Environment) {
  return {
    ...FIXED_HEADER,
    parentHash: parent.header.hash,
    number: parent.header.number + 1,
    beneficiary: env.suggestedFeeRecipient,
    gasLimit: env.gasLimit,
    timestamp: env.timestamp,
    prevRandao: env.prevRandao,
    baseFeePerGas: env.baseFeePerGas,
    parentBeaconBlockRoot: env.parentBeaconBlockRoot
  }
}

/** What needs no execution. Equal timestamps are valid (chain.md 1). */
function checkHeader(h: BlockHeader, parent: BlockHeader): void {
  const limitStep = h.gasLimit > parent.gasLimit ? h.gasLimit - parent.gasLimit : parent.gasLimit - h.gasLimit
  const faults: [boolean, string][] = [
    [!equalBytes(h.hash, keccak256(encodeHeader(h))), 'block hash'],
    [!equalBytes(h.parentHash, parent.hash), 'parent hash'],
    [h.number !== parent.number + 1, 'block number'],
    [h.timestamp < parent.timestamp, 'timestamp'],
    [h.extraData.length > 32, 'extra data'],
    [!equalBytes(h.ommersHash, FIXED_HEADER.ommersHash), 'ommers hash'],
    [!equalBytes(h.nonce, FIXED_HEADER.nonce), 'nonce'],
    [!equalBytes(h.withdrawalsRoot ?? new Uint8Array(0), FIXED_HEADER.withdrawalsRoot), 'withdrawals root'],
    [h.blobGasUsed !== 0n, 'blob gas used'],
    [h.excessBlobGas !== 0n, 'excess blob gas'],
    [h.gasLimit < MIN_GAS_LIMIT || (limitStep > 0n && limitStep >= parent.gasLimit / 1024n), 'gas limit'],
    [h.baseFeePerGas !== nextBaseFee(parent), 'base fee']
  ]
  for (const [wrong, what] of faults) if (wrong) throw rejected(`invalid ${what}`)
}

/** Opens a block: system calls before, then transactions one by one, then `finish`. */
async function begin(opts: ExecutionOptions, overlay: Overlay, parent: StateRef, env: Environment) {
  const exec = await execution(opts, overlay, {
    root: parent.stateRoot,
    env: {
      number: parent.header.number + 1,
      timestamp: env.timestamp,
      gasLimit: env.gasLimit,
      beneficiary: env.suggestedFeeRecipient,
      prevRandao: env.prevRandao,
      baseFeePerGas: env.baseFeePerGas,
      blobBaseFee: 1n
    }
  })
  const { vm, state } = exec
  // One checkpoint over the whole block: tries are written once, at its end, not after each transaction.
  await vm.evm.journal.checkpoint()
  // Their failure does not make a block invalid: what they record is then absent.
  await exec.system(BEACON_ROOTS, env.parentBeaconBlockRoot)
  await exec.system(HISTORY, parent.header.hash)

  const included: Transaction[] = []
  const receipts: Receipt[] = []
  const logsBloom = new Uint8Array(256)
  let bodyBytes = 0
  let gasUsed = 0n

  return {
    included,
    receipts,
    get gasUsed() {
      return gasUsed
    },
    touched: () => [...state.touched].map(a => fromHex(a)),

    /** Executes a transaction; on a refusal the state is as before. */
    async add(tx: Transaction): Promise<Refusal | undefined> {
      const refusal = await check(exec, tx, env, gasUsed)
      if (refusal !== undefined) return refusal
      if (bodyBytes + tx.raw.length > MAX_BLOCK_BYTES) return { reason: 'block size limit reached', permanent: false }
      await exec.turn()
      let result: RunTxResult
      try {
        result = await runTx(vm, { tx: withSender(tx, opts.common), block: exec.block, blockGasUsed: gasUsed })
      } catch (err) {
        if (err instanceof ZgError || err instanceof AssertionError) throw err
        return { reason: refusalWords(messageOf(err)), permanent: true }
      } finally {
        state.allowSender(undefined)
      }
      gasUsed += result.totalGasSpent
      bodyBytes += tx.raw.length
      const receipt = receiptOf(tx, result, gasUsed, env.baseFeePerGas)
      mergeBloom(logsBloom, receipt.logsBloom)
      included.push(tx)
      receipts.push(receipt)
      return undefined
    },

    async finish() {
      const requests: Uint8Array[] = []
      for (const [type, contract] of REQUESTS) {
        const { output, error } = await exec.system(contract, new Uint8Array(0))
        if (error !== undefined) throw rejected(`system call of request type ${type} failed: ${error}`)
        if (output.length > 0) requests.push(concat(Uint8Array.of(type), output))
      }
      await vm.evm.journal.commit()
      return {
        stateRoot: await state.getStateRoot(),
        transactionsRoot: transactionsRoot(included),
        receiptsRoot: receiptsRoot(receipts),
        logsBloom,
        gasUsed,
        requestsHash: sha256(concat(...requests.map(r => sha256(r))))
      }
    }
  }
}

/** Validity in the order of chain.md 7, in geth's words. What a later block may cure is not permanent. */
async function check(
  exec: Execution,
  tx: Transaction,
  env: Environment,
  gasUsed: bigint
): Promise<Refusal | undefined> {
  const from = addressOf(tx.from)
  const account = await exec.state.getAccount(from)
  const nonce = account?.nonce ?? 0n
  if (tx.nonce < nonce) return { reason: 'nonce too low', permanent: true }
  if (tx.nonce > nonce) return { reason: 'nonce too high', permanent: false }
  if (feeCap(tx) < env.baseFeePerGas) return { reason: 'max fee per gas less than block base fee', permanent: false }
  if (tx.maxPriorityFeePerGas !== undefined && tx.maxPriorityFeePerGas > feeCap(tx)) {
    return { reason: 'max priority fee per gas higher than max fee per gas', permanent: true }
  }
  if ((account?.balance ?? 0n) < tx.gasLimit * feeCap(tx) + tx.value) {
    return { reason: 'insufficient funds for gas * price + value', permanent: true }
  }
  if (tx.gasLimit < intrinsicGas(tx)) return { reason: 'intrinsic gas too low', permanent: true }
  if (tx.gasLimit < floorGas(tx)) return { reason: 'insufficient gas for floor data gas cost', permanent: true }
  if (tx.to === null && tx.data.length > MAX_INITCODE_BYTES) {
    return { reason: 'max initcode size exceeded', permanent: true }
  }
  if (tx.gasLimit > env.gasLimit) return { reason: 'exceeds block gas limit', permanent: true }
  if (tx.gasLimit > env.gasLimit - gasUsed) return { reason: 'gas limit reached', permanent: false }
  if (account !== undefined && !equalBytes(account.codeHash, EMPTY_CODE_HASH) && isImpersonated(tx)) {
    exec.state.allowSender(from)
  }
  return undefined
}

/** The library's transaction with the sender recovered at pool entry: its own recovery costs 1.6 ms. */
function withSender(tx: Transaction, common: Common): TypedTransaction {
  const typed = createTxFromRLP(tx.raw, { common, freeze: false }) as TypedTransaction
  const from = addressOf(tx.from)
  typed.getSenderAddress = () => from
  return typed
}

function receiptOf(tx: Transaction, result: RunTxResult, cumulativeGasUsed: bigint, baseFee: bigint): Receipt {
  const logs = (result.execResult.logs ?? []).map(([address, topics, data]) => ({ address, topics, data }))
  const status = result.execResult.exceptionError === undefined ? 1 : 0
  return {
    type: tx.type,
    status,
    gasUsed: result.totalGasSpent,
    logCount: logs.length,
    cumulativeGasUsed,
    effectiveGasPrice: effectiveGasPrice(tx, baseFee),
    logsBloom: bloomOf(logs),
    logs,
    contractAddress: tx.to === null && status === 1 ? (result.createdAddress?.bytes ?? null) : null
  }
}

function rejected(what: string): ZgError {
  return new ZgError('ERR_REJECTED', what)
}
