/**
 * The Engine API over the native execution client: an external consensus client says what to build and which block is the head.
 * One chain, one head: a fork choice that leaves the chain's own finalized blocks is refused, never followed. Source: chain.md 8 and
 * execution-apis (paris to osaka).
 */
import { JsonText, RpcError, type RpcMethod, type RpcMethods } from '../../../lib/adapters/jsonrpc/types.ts'
import { equalBytes } from '../../../lib/base/bytes.ts'
import { messageOf } from '../../../lib/base/errors.ts'
import { type Hex, toHex, toQuantity } from '../../../lib/base/hex.ts'
import { decodeRlp, encodeRlp, rlpBytes, rlpList, rlpNumber } from '../../../lib/codec/rlp.ts'
import { keccak256 } from '../../../lib/crypto/hash.ts'
import type { NativeChain, NativeError } from '../../../lib/evm/types.ts'
import {
  blockOfPayload,
  data,
  type Fork,
  fromFork,
  isThere,
  list,
  type PayloadBlock,
  payloadBody,
  payloadOfBlock,
  quantity,
  readRequests,
  record,
  withdrawal,
  wrong
} from './payload.ts'

/** Errors of the Engine API. */
export const ENGINE = {
  unknownPayload: -38001,
  forkChoice: -38002,
  attributes: -38003,
  tooLarge: -38004,
  fork: -38005
} as const

/** What of the native client the API needs. */
export type EngineBackend = Pick<
  NativeChain,
  'head' | 'build' | 'payload' | 'payloadRequests' | 'newPayload' | 'commit' | 'block' | 'numberOf'
>

export interface EngineOptions {
  backend: EngineBackend
  /** The rules of a block with this timestamp. */
  forkAt: (timestamp: number) => Fork
  /** Gas limit of the next block. */
  gasLimit: () => bigint
  version: string
  /** Four bytes of hex: the build. */
  commit?: string
  /** After the head moved, before the answer. */
  onHead?: () => void | Promise<void>
}

type Status = 'VALID' | 'INVALID' | 'SYNCING' | 'ACCEPTED' | 'INVALID_BLOCK_HASH'
interface PayloadStatus {
  status: Status
  latestValidHash: Hex | null
  validationError: string | null
}

/** Invalid payloads and build processes that are remembered. */
export const MAX_KNOWN = 128
/** Blocks of one engine_getPayloadBodies… (chain.md 8: at least 32). */
export const MAX_BODIES = 1_024
/** Versioned hashes of one engine_getBlobs…. */
export const MAX_BLOBS = 128
/** Time a build may take: a consensus client waits one second for engine_getPayload. */
const BUILD_MS = 700
const ZERO_HASH = new Uint8Array(32)

interface Attributes {
  timestamp: number
  prevRandao: Uint8Array
  feeRecipient: Uint8Array
  beaconRoot: Uint8Array | undefined
  withdrawals: ReturnType<typeof withdrawal>[] | undefined
}

/** The table of `engine_*`. Changes happen one after the other, whatever order calls arrive in. */
export function engineMethods(opts: EngineOptions): RpcMethods {
  const engine = new Engine(opts)
  const one =
    (run: RpcMethod): RpcMethod =>
    (params, ctx) =>
      engine.exclusive(async () => run(params, ctx))
  const methods: RpcMethods = {
    engine_exchangeCapabilities: ([wanted]) => {
      for (const name of list(wanted, 'capabilities', 1_000))
        if (typeof name !== 'string') throw wrong('capabilities', 'not strings')
      return Object.keys(methods).filter(name => name.startsWith('engine_') && name !== 'engine_exchangeCapabilities')
    },
    engine_getClientVersionV1: ([client]) => {
      record(client, 'client')
      return [{ code: 'ZG', name: 'zg-chain', version: opts.version, commit: `0x${opts.commit ?? '00000000'}` }]
    },
    engine_newPayloadV1: one(([p]) => engine.newPayload(1, p)),
    engine_newPayloadV2: one(([p]) => engine.newPayload(2, p)),
    engine_newPayloadV3: one(([p, hashes, root]) => engine.newPayload(3, p, hashes, root)),
    engine_newPayloadV4: one(([p, hashes, root, requests]) => engine.newPayload(4, p, hashes, root, requests)),
    engine_forkchoiceUpdatedV1: one(([state, attributes]) => engine.forkchoice(1, state, attributes)),
    engine_forkchoiceUpdatedV2: one(([state, attributes]) => engine.forkchoice(2, state, attributes)),
    engine_forkchoiceUpdatedV3: one(([state, attributes]) => engine.forkchoice(3, state, attributes)),
    engine_getPayloadV1: one(([id]) => engine.getPayload(1, id)),
    engine_getPayloadV2: one(([id]) => engine.getPayload(2, id)),
    engine_getPayloadV3: one(([id]) => engine.getPayload(3, id)),
    engine_getPayloadV4: one(([id]) => engine.getPayload(4, id)),
    engine_getPayloadV5: one(([id]) => engine.getPayload(5, id)),
    engine_getPayloadBodiesByHashV1: ([hashes]) => engine.bodiesByHash(hashes),
    engine_getPayloadBodiesByRangeV1: ([start, count]) => engine.bodiesByRange(start, count),
    engine_getBlobsV1: ([hashes]) => blobHashes(hashes).map(() => null),
    // The pool takes no blob transactions, and this version is all or nothing.
    engine_getBlobsV2: ([hashes]) => (blobHashes(hashes).length === 0 ? [] : null)
  }
  return methods
}

class Engine {
  readonly #opts: EngineOptions
  readonly #backend: EngineBackend
  #queue: Promise<unknown> = Promise.resolve()
  /** Block hash → why it is invalid, and the last valid block before it. */
  readonly #invalid = new Bounded<{ why: string; latestValid: Hex | null }>(MAX_KNOWN)
  /** Payload id → what was asked for, and once it was fetched what was built. */
  readonly #builds = new Bounded<{ head: Uint8Array; attributes: Attributes; built?: Uint8Array }>(MAX_KNOWN)
  /** Payloads taken and not yet chosen: hash → parent. */
  readonly #waiting = new Bounded<{ parent: Uint8Array; number: number }>(MAX_KNOWN)

  constructor(opts: EngineOptions) {
    this.#opts = opts
    this.#backend = opts.backend
  }

  exclusive<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#queue.then(work)
    this.#queue = run.catch(() => undefined)
    return run
  }

  async newPayload(
    version: 1 | 2 | 3 | 4,
    payload: unknown,
    hashes?: unknown,
    root?: unknown,
    requests?: unknown
  ): Promise<PayloadStatus> {
    const p = record(payload, 'executionPayload')
    const timestamp = quantity(p.timestamp, 'timestamp', 53)
    const fork = this.#opts.forkAt(Number(timestamp))
    if (version >= 3) {
      if (!isThere(p.blobGasUsed) || !isThere(p.excessBlobGas))
        throw wrong('executionPayload', 'blobGasUsed and excessBlobGas are missing')
      if (!isThere(hashes)) throw wrong('expectedBlobVersionedHashes', 'missing')
      if (!isThere(root)) throw wrong('parentBeaconBlockRoot', 'missing')
      if (version === 4 && !isThere(requests)) throw wrong('executionRequests', 'missing')
      const right = version === 3 ? fork === 'cancun' : fromFork(fork, 'prague')
      if (!right) throw unsupported(`newPayloadV${version} is not for ${fork}`)
    } else {
      if (version === 1 && isThere(p.withdrawals)) throw wrong('withdrawals', 'not in V1')
      if (fromFork(fork, 'cancun') && version === 2) throw unsupported(`newPayloadV2 is not for ${fork}`)
      if (fromFork(fork, 'shanghai') && version === 1) throw wrong('executionPayload', 'withdrawals are missing')
    }
    const expected =
      version >= 3
        ? list(hashes, 'expectedBlobVersionedHashes', 1_000).map((h, i) =>
            data(h, `expectedBlobVersionedHashes[${i}]`, 32)
          )
        : []
    const block = blockOfPayload(payload, {
      fork,
      ...(version >= 3 ? { parentBeaconBlockRoot: data(root, 'parentBeaconBlockRoot', 32) } : {}),
      ...(version === 4 ? { requests: readRequests(requests) } : {})
    })
    if (!equalBytes(block.hash, block.claimed)) {
      return {
        status: version === 1 ? 'INVALID_BLOCK_HASH' : 'INVALID',
        latestValidHash: null,
        validationError: `blockhash mismatch: got ${toHex(block.claimed)}, computed ${toHex(block.hash)}`
      }
    }
    if (version >= 3 && !sameHashes(expected, block.blobHashes))
      return { status: 'INVALID', latestValidHash: null, validationError: 'blob versioned hashes do not match' }
    return this.#accept(block)
  }

  async #accept(block: PayloadBlock): Promise<PayloadStatus> {
    const { hash, parentHash, number, raw } = block
    const known = this.#invalid.get(hash) ?? this.#invalid.get(parentHash)
    if (known !== undefined) {
      this.#invalid.set(hash, known)
      return { status: 'INVALID', latestValidHash: known.latestValid, validationError: known.why }
    }
    // A repeated payload is answered without being executed again.
    if (this.#waiting.get(hash) !== undefined || this.#backend.numberOf(hash) !== undefined) return valid(hash)
    try {
      await this.#backend.newPayload(raw)
    } catch (err) {
      const { failure } = err as NativeError
      if (failure === 'not found') return { status: 'SYNCING', latestValidHash: null, validationError: null }
      if (failure !== 'rejected') throw err
      const why = messageOf(err)
      const latestValid = toHex(parentHash)
      this.#invalid.set(hash, { why, latestValid })
      return { status: 'INVALID', latestValidHash: latestValid, validationError: why }
    }
    this.#waiting.set(hash, { parent: parentHash, number })
    return valid(hash)
  }

  async forkchoice(
    version: 1 | 2 | 3,
    state: unknown,
    attributes: unknown
  ): Promise<{ payloadStatus: PayloadStatus; payloadId: Hex | null }> {
    const s = record(state, 'forkchoiceState')
    const head = data(s.headBlockHash, 'headBlockHash', 32)
    const safe = data(s.safeBlockHash, 'safeBlockHash', 32)
    const finalized = data(s.finalizedBlockHash, 'finalizedBlockHash', 32)
    // Wrong fields are wrong whatever the head; the time is judged after the head moved (execution-apis, shanghai).
    const wanted = isThere(attributes) ? this.#attributes(version, attributes) : undefined
    const bad = this.#invalid.get(head)
    if (bad !== undefined)
      return answered({ status: 'INVALID', latestValidHash: bad.latestValid, validationError: bad.why })
    if (equalBytes(head, ZERO_HASH))
      return answered({ status: 'INVALID', latestValidHash: null, validationError: 'the head is the zero hash' })
    const path = this.#pathTo(head)
    if (path === undefined) return answered({ status: 'SYNCING', latestValidHash: null, validationError: null })
    for (const [name, hash] of [
      ['safe', safe],
      ['finalized', finalized]
    ] as const) {
      if (equalBytes(hash, ZERO_HASH) || path.some(h => equalBytes(h, hash))) continue
      const number = this.#backend.numberOf(hash)
      if (number === undefined || (path.length === 0 && number > this.#backend.numberOf(head)!))
        throw new RpcError(
          ENGINE.forkChoice,
          `Invalid forkchoice state: the ${name} block is not on the chain of the head`
        )
    }
    for (const hash of path) {
      await this.#backend.commit(hash)
      this.#waiting.delete(hash)
    }
    if (path.length > 0) await this.#opts.onHead?.()
    const now = this.#backend.head()
    // An ancestor of the head: finality is instant here, so nothing moves and nothing is built.
    if (!equalBytes(now.hash, head)) return answered(valid(head))
    if (wanted === undefined) return answered(valid(head))
    const parentTime = Number(rlpNumber(rlpList(decodeRlp(now.header))[11]))
    // Equal seconds are allowed: this chain makes several blocks in one (chain.md 1 and 8).
    if (wanted.timestamp < parentTime)
      throw new RpcError(
        ENGINE.attributes,
        `Invalid payload attributes: timestamp ${wanted.timestamp} is before the head's ${parentTime}`
      )
    const id = payloadId(head, wanted)
    if (this.#builds.get(id) === undefined) this.#builds.set(id, { head, attributes: wanted })
    return { payloadStatus: valid(head), payloadId: toHex(id) }
  }

  #attributes(version: 1 | 2 | 3, value: unknown): Attributes {
    const a = record(value, 'payloadAttributes')
    const timestamp = Number(quantity(a.timestamp, 'timestamp', 53))
    const fork = this.#opts.forkAt(timestamp)
    const attribute = (why: string): RpcError => new RpcError(ENGINE.attributes, `Invalid payload attributes: ${why}`)
    if (version === 3) {
      if (!isThere(a.withdrawals) || !isThere(a.parentBeaconBlockRoot))
        throw attribute('withdrawals or parentBeaconBlockRoot are missing')
      if (!fromFork(fork, 'cancun')) throw unsupported(`forkchoiceUpdatedV3 is not for ${fork}`)
    } else {
      if (isThere(a.parentBeaconBlockRoot)) throw attribute('parentBeaconBlockRoot needs V3')
      if (fromFork(fork, 'cancun')) throw unsupported(`forkchoiceUpdatedV${version} is not for ${fork}`)
      if (version === 1 && isThere(a.withdrawals)) throw attribute('withdrawals need V2')
      if (fork === 'shanghai' && !isThere(a.withdrawals)) throw attribute('withdrawals are missing')
      if (fork === 'paris' && isThere(a.withdrawals)) throw attribute('withdrawals before Shanghai')
    }
    return {
      timestamp,
      prevRandao: data(a.prevRandao, 'prevRandao', 32),
      feeRecipient: data(a.suggestedFeeRecipient, 'suggestedFeeRecipient', 20),
      beaconRoot: version === 3 ? data(a.parentBeaconBlockRoot, 'parentBeaconBlockRoot', 32) : undefined,
      withdrawals: isThere(a.withdrawals) ? list(a.withdrawals, 'withdrawals', 65_536).map(withdrawal) : undefined
    }
  }

  /** Blocks to commit, oldest first, until `head` is the head; none when it is or was one already; undefined when a part is unknown. */
  #pathTo(head: Uint8Array): Uint8Array[] | undefined {
    const path: Uint8Array[] = []
    const { hash: present } = this.#backend.head()
    for (let at = head; !equalBytes(at, present); ) {
      if (path.length === 0 && this.#backend.numberOf(at) !== undefined) return []
      const entry = this.#waiting.get(at)
      if (entry === undefined || path.length > MAX_KNOWN) return undefined
      path.unshift(at)
      at = entry.parent
    }
    return path
  }

  async getPayload(version: 1 | 2 | 3 | 4 | 5, id: unknown): Promise<unknown> {
    const build = this.#builds.get(data(id, 'payloadId', 8))
    const unknown = (): RpcError => new RpcError(ENGINE.unknownPayload, 'Unknown payload')
    if (build === undefined) throw unknown()
    const fork = this.#opts.forkAt(build.attributes.timestamp)
    const first = ({ 1: 'paris', 2: 'paris', 3: 'cancun', 4: 'prague', 5: 'osaka' } as const)[version]
    const last = ({ 1: 'paris', 2: 'shanghai', 3: 'cancun', 4: 'prague', 5: 'osaka' } as const)[version]
    if (!fromFork(fork, first) || (fork !== last && fromFork(fork, last)))
      throw unsupported(`getPayloadV${version} is not for ${fork}`)
    // Built when it is fetched, with all that has arrived until then, and never again: each call answers the same block.
    if (build.built === undefined) {
      if (!equalBytes(this.#backend.head().hash, build.head)) throw unknown()
      const a = build.attributes
      const attributes = encodeRlp([
        a.timestamp,
        a.prevRandao,
        a.feeRecipient,
        a.beaconRoot ?? ZERO_HASH,
        a.withdrawals ?? [],
        this.#opts.gasLimit(),
        new Uint8Array(0),
        []
      ])
      build.built = (await this.#backend.build(attributes, BUILD_MS)).hash
    }
    const built = build.built
    const bytes = this.#backend.payload(built) ?? (await this.#committed(built))
    if (bytes === undefined) throw unknown()
    const [block, , , receipts] = rlpList(decodeRlp(bytes))
    const raw = block instanceof Uint8Array ? block : encodeRlp(block)
    if (this.#backend.numberOf(built) === undefined) {
      const header = rlpList(rlpList(decodeRlp(raw))[0])
      this.#waiting.set(built, { parent: rlpBytes(header[0]), number: Number(rlpNumber(header[8])) })
    }
    const executionPayload = payloadOfBlock(raw, built)
    if (version === 1) return executionPayload
    const blockValue = toQuantity(tips(raw, rlpList(receipts)))
    if (version === 2) return { executionPayload, blockValue }
    return {
      executionPayload,
      blockValue,
      blobsBundle: { commitments: [], proofs: [], blobs: [] },
      shouldOverrideBuilder: false,
      ...(version >= 4 ? { executionRequests: this.#requests(built) } : {})
    }
  }

  #requests(hash: Uint8Array): Hex[] {
    const encoded = this.#backend.payloadRequests(hash)
    return encoded === undefined
      ? []
      : rlpList(decodeRlp(encoded))
          .map(rlpBytes)
          .filter(r => r.length > 1)
          .map(toHex)
  }

  async #committed(hash: Uint8Array): Promise<Uint8Array | undefined> {
    const number = this.#backend.numberOf(hash)
    return number === undefined ? undefined : this.#backend.block(number)
  }

  async bodiesByHash(value: unknown): Promise<unknown> {
    const hashes = list(value, 'blockHashes', 1_000_000)
    if (hashes.length > MAX_BODIES) throw tooLarge(hashes.length)
    const out: (object | null)[] = []
    for (const [i, h] of hashes.entries())
      out.push(await this.#body(this.#backend.numberOf(data(h, `blockHashes[${i}]`, 32))))
    return out
  }

  async bodiesByRange(start: unknown, count: unknown): Promise<unknown> {
    const from = Number(quantity(start, 'start', 53))
    const many = Number(quantity(count, 'count', 53))
    if (from < 1 || many < 1) throw wrong('range', 'start and count begin at 1')
    if (many > MAX_BODIES) throw tooLarge(many)
    const last = Math.min(from + many - 1, this.#backend.head().number)
    const parts: string[] = []
    for (let n = from; n <= last; n++) parts.push(JSON.stringify(await this.#body(n)))
    return new JsonText(`[${parts.join(',')}]`)
  }

  async #body(number: number | undefined): Promise<object | null> {
    if (number === undefined) return null
    const bytes = await this.#backend.block(number)
    if (bytes === undefined) return null
    const [block] = rlpList(decodeRlp(bytes))
    return payloadBody(block instanceof Uint8Array ? block : encodeRlp(block!))
  }
}

/** Insertion-ordered map by bytes that forgets its oldest entry. */
class Bounded<T> {
  readonly #max: number
  readonly #map = new Map<string, T>()
  constructor(max: number) {
    this.#max = max
  }
  get(key: Uint8Array): T | undefined {
    return this.#map.get(toHex(key))
  }
  set(key: Uint8Array, value: T): void {
    const k = toHex(key)
    this.#map.delete(k)
    this.#map.set(k, value)
    if (this.#map.size > this.#max) this.#map.delete(this.#map.keys().next().value!)
  }
  delete(key: Uint8Array): void {
    this.#map.delete(toHex(key))
  }
}

/** What the fee recipient earns: gas × (price − base fee) over all receipts. */
function tips(raw: Uint8Array, receipts: readonly unknown[]): bigint {
  const baseFee = rlpNumber(rlpList(rlpList(decodeRlp(raw))[0])[15])
  let sum = 0n
  for (const receipt of receipts) {
    const fields = rlpList(receipt as Parameters<typeof rlpList>[0])
    sum += rlpNumber(fields[3]) * (rlpNumber(fields[4]) - baseFee)
  }
  return sum
}

/** Equal requests name the same build. */
function payloadId(head: Uint8Array, a: Attributes): Uint8Array {
  return keccak256(
    encodeRlp([head, a.timestamp, a.prevRandao, a.feeRecipient, a.beaconRoot ?? null, a.withdrawals ?? null])
  ).subarray(0, 8)
}

const valid = (hash: Uint8Array): PayloadStatus => ({
  status: 'VALID',
  latestValidHash: toHex(hash),
  validationError: null
})
const answered = (payloadStatus: PayloadStatus): { payloadStatus: PayloadStatus; payloadId: null } => ({
  payloadStatus,
  payloadId: null
})
const unsupported = (why: string): RpcError => new RpcError(ENGINE.fork, `Unsupported fork: ${why}`)
const tooLarge = (count: number): RpcError => new RpcError(ENGINE.tooLarge, `Too large request: ${count}`)

function sameHashes(a: readonly Uint8Array[], b: readonly Uint8Array[]): boolean {
  return a.length === b.length && a.every((h, i) => equalBytes(h, b[i]!))
}

function blobHashes(value: unknown): Uint8Array[] {
  const hashes = list(value, 'versionedHashes', 1_000_000)
  if (hashes.length > MAX_BLOBS) throw new RpcError(ENGINE.tooLarge, `Too large request: ${hashes.length}`)
  return hashes.map((h, i) => data(h, `versionedHashes[${i}]`, 32))
}
