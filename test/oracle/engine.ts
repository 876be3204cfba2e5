/**
 * The first execution engine: @ethereumjs/vm with Prague rules over a KvStore of its own. Clear and slow (about 1 ms a
 * transfer); a native engine takes its place behind the same interface, and then this one is its oracle.
 *
 * States are kept for ever (archive): nodes are content addressed, so a state is its root and needs no bookkeeping. A built
 * block's nodes wait in memory until `forkchoiceUpdated` writes them in one synced batch.
 */
import type { Common } from '@ethereumjs/common'
import { createAccount } from '@ethereumjs/util'
import { nextBaseFee } from '../../cmd/zg-chain/core/fees.ts'
import { EMPTY_TRIE_ROOT } from '../../cmd/zg-chain/core/hash.ts'
import type { Block, Receipt, StateReader } from '../../cmd/zg-chain/core/types.ts'
import { equalBytes, utf8 } from '../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../lib/base/errors.ts'
import { toHex } from '../../lib/base/hex.ts'
import type { Clock } from '../../lib/ports/clock.ts'
import type { KvStore } from '../../lib/ports/kv.ts'
import { runCall } from './call.ts'
import type { AllocEntry, BuiltPayload, ExecutionEngine, PayloadStatus, StateRef } from './engine-types.ts'
import { type ExecutionOptions, pragueRules } from './evm.ts'
import { buildBlock, type Outcome, verifyBlock } from './execute.ts'
import { NodeStore, Overlay } from './nodes.ts'
import { reachable } from './reachable.ts'
import { addressOf, readerAt, State } from './state.ts'

/** Where the root of the genesis state stands; nodes have another first byte. */
const GENESIS_KEY = utf8('genesis')
/** Payloads that nobody chose; the oldest go first. */
const MAX_WAITING = 16

export interface EthereumjsOptions {
  chainId: number
  /** The engine's own store; closed with it. */
  kv: KvStore
  clock: Clock
  /** Hash of a canonical block, for BLOCKHASH. */
  blockHash(number: number): Promise<Uint8Array | undefined>
  /** Bound of the cache of trie nodes; default 64 MiB. */
  cacheBytes?: number
  /** Changed constants of the rules (differential tests). */
  wrongParams?: Parameters<typeof pragueRules>[1]
  /** No further transaction is started in a block after this long; default 2,000 ms. */
  buildTimeMs?: number
}

interface Waiting {
  block: Block
  receipts: Receipt[]
  overlay: Overlay
  /** What the block added and its root needs. */
  nodes: Map<string, Uint8Array>
}

/** @throws {ZgError} ERR_CORRUPT from any method when a node of a known state is missing. */
export function openEthereumjs(opts: EthereumjsOptions): ExecutionEngine {
  const common: Common = pragueRules(opts.chainId, opts.wrongParams)
  const store = new NodeStore(opts.kv, opts.cacheBytes ?? 64 * 1024 * 1024)
  const waiting = new Map<string, Waiting>()
  const execOpts: ExecutionOptions = { common, clock: opts.clock, blockHash: opts.blockHash }

  /** What to read a root through: the nodes of a block not yet durable, or the store. */
  function below(root: Uint8Array): Overlay | NodeStore {
    for (const w of waiting.values()) if (equalBytes(w.block.header.stateRoot, root)) return w.overlay
    return store
  }

  /** BLOCKHASH as seen by a child of `parent`. */
  function withParent(parent: StateRef['header']): ExecutionOptions {
    return {
      ...execOpts,
      blockHash: async number => (number === parent.number ? parent.hash : opts.blockHash(number))
    }
  }

  function remember(outcome: Outcome, overlay: Overlay): void {
    const { block, receipts } = outcome
    const nodes = reachable(overlay.nodes, block.header.stateRoot)
    waiting.set(toHex(block.header.hash), { block, receipts, overlay, nodes })
    for (const key of waiting.keys()) {
      if (waiting.size <= MAX_WAITING) break
      waiting.delete(key)
    }
  }

  async function writeAccounts(
    root: Uint8Array,
    overlay: Overlay,
    changes: Parameters<ExecutionEngine['writeState']>[1]
  ): Promise<Uint8Array> {
    const state = new State(common, overlay, root)
    await state.checkpoint()
    for (const change of changes) {
      const address = addressOf(change.address)
      const account = (await state.getAccount(address)) ?? createAccount({})
      if (change.account?.nonce !== undefined) account.nonce = change.account.nonce
      if (change.account?.balance !== undefined) account.balance = change.account.balance
      await state.putAccount(address, account)
      if (change.account?.code !== undefined) await state.putCode(address, change.account.code)
      for (const [slot, value] of change.storage ?? []) await state.putStorage(address, slot, value)
    }
    await state.commit()
    return state.getStateRoot()
  }

  return {
    async genesis(alloc: AllocEntry[]) {
      const overlay = new Overlay(store)
      const root = await writeAccounts(
        EMPTY_TRIE_ROOT,
        overlay,
        alloc.map(a => ({
          address: a.address,
          account: { nonce: a.nonce, balance: a.balance, ...(a.code.length > 0 ? { code: a.code } : {}) },
          storage: a.storage
        }))
      )
      const recorded = await opts.kv.get(GENESIS_KEY)
      if (recorded === undefined) {
        await store.write(reachable(overlay.nodes, root), [{ put: GENESIS_KEY, value: root }])
      } else if (!equalBytes(recorded, root)) {
        throw new ZgError('ERR_WRONG_NETWORK', 'the state belongs to another genesis', {
          facts: [`stored genesis state root ${toHex(recorded)}`, `wanted ${toHex(root)}`]
        })
      }
      return root
    },

    async buildPayload(parent, attributes, transactions): Promise<BuiltPayload> {
      const overlay = new Overlay(below(parent.stateRoot))
      const baseFeePerGas = attributes.baseFeePerGas ?? nextBaseFee(parent.header)
      const outcome = await buildBlock(withParent(parent.header), overlay, parent, {
        ...attributes,
        baseFeePerGas,
        transactions,
        buildTimeMs: opts.buildTimeMs ?? 2_000
      })
      remember(outcome, overlay)
      return { block: outcome.block, receipts: outcome.receipts, rejected: outcome.rejected, touched: outcome.touched }
    },

    async newPayload(parent, block): Promise<PayloadStatus> {
      const known = waiting.get(toHex(block.header.hash))
      if (known !== undefined) return { status: 'VALID', receipts: known.receipts }
      if (!(await this.hasState(parent.stateRoot))) return { status: 'SYNCING' }
      const overlay = new Overlay(below(parent.stateRoot))
      try {
        const outcome = await verifyBlock(withParent(parent.header), overlay, parent, block)
        remember(outcome, overlay)
        return { status: 'VALID', receipts: outcome.receipts }
      } catch (err) {
        if (!(err instanceof ZgError) || err.code !== 'ERR_REJECTED') throw err
        return { status: 'INVALID', latestValidHash: parent.header.hash, validationError: messageOf(err) }
      }
    },

    async forkchoiceUpdated(blockHash) {
      const chosen = waiting.get(toHex(blockHash))
      if (chosen === undefined) throw new ZgError('ERR_NOT_FOUND', `payload ${toHex(blockHash)} is not known`)
      // A payload may stand on payloads that are not durable either.
      const nodes = new Map<string, Uint8Array>()
      for (let w: Waiting | undefined = chosen; w !== undefined; w = waiting.get(toHex(w.block.header.parentHash))) {
        for (const [hex, value] of w.nodes) nodes.set(hex, value)
      }
      await store.write(nodes)
      waiting.clear()
    },

    state(root): Omit<StateReader, 'now'> {
      return readerAt(common, new Overlay(below(root)), root)
    },

    async hasState(root) {
      if (equalBytes(root, EMPTY_TRIE_ROOT)) return true
      return (await new Overlay(below(root)).find(toHex(root).slice(2))) !== undefined
    },

    call(request, at, callOpts) {
      const overlay = new Overlay(below(at.parent.stateRoot))
      return runCall(withParent(at.parent.header), overlay, request, at, callOpts)
    },

    async writeState(root, changes) {
      const overlay = new Overlay(below(root))
      const next = await writeAccounts(root, overlay, changes)
      await store.write(reachable(overlay.nodes, next))
      return next
    },

    close: () => opts.kv.close()
  }
}
