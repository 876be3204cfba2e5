/**
 * Response signatures, kept 24 hours across restarts. Two keys an answer:
 *
 *     's' id[16]                    →  requestHash[32] responseHash[32] signature[65]
 *     't' createdMs u64, id[16]     →                                                   finds what has expired, oldest first
 */
import { concat, u64be, utf8 } from '../../../lib/base/bytes.ts'
import type { KvOp, KvStore } from '../../../lib/ports/kv.ts'
import { uuidBytes } from './records.ts'

/** How long a client may ask for it. */
export const SIGNATURE_TTL_MS = 86_400_000
/** Entries deleted in one step of a sweep. */
const SWEEP_STEP = 1_000

const BY_ID = utf8('s')
const BY_TIME = utf8('t')

export interface KeptSignature {
  /** SHA-256 of the bytes that came and went. */
  requestHash: Uint8Array
  responseHash: Uint8Array
  /** 65 bytes over their text. */
  signature: Uint8Array
}

export class SignatureStore {
  readonly #kv: KvStore
  constructor(kv: KvStore) {
    this.#kv = kv
  }

  /** Durable when it resolves. */
  put(id: string, createdMs: number, s: KeptSignature): Promise<void> {
    const bytes = uuidBytes(id)
    const ops: KvOp[] = [
      { put: concat(BY_ID, bytes), value: concat(u64be(createdMs), s.requestHash, s.responseHash, s.signature) },
      { put: concat(BY_TIME, u64be(createdMs), bytes), value: new Uint8Array(0) }
    ]
    return this.#kv.batch(ops, { sync: true })
  }

  /** @param id - a uuid; anything else is unknown. */
  async get(id: string, nowMs: number): Promise<KeptSignature | undefined> {
    if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id)) return undefined
    const value = await this.#kv.get(concat(BY_ID, uuidBytes(id)))
    if (value === undefined || value.length !== 8 + 32 + 32 + 65) return undefined
    const createdMs = Number(new DataView(value.buffer, value.byteOffset).getBigUint64(0))
    if (nowMs - createdMs > SIGNATURE_TTL_MS) return undefined
    return { requestHash: value.slice(8, 40), responseHash: value.slice(40, 72), signature: value.slice(72) }
  }

  /** Deletes what has expired. @returns how many. */
  async sweep(nowMs: number): Promise<number> {
    const lt = concat(BY_TIME, u64be(Math.max(0, nowMs - SIGNATURE_TTL_MS)))
    let deleted = 0
    for (;;) {
      const ops: KvOp[] = []
      for await (const [key] of this.#kv.scan({ gte: BY_TIME, lt, limit: SWEEP_STEP })) {
        ops.push({ del: key }, { del: concat(BY_ID, key.slice(9)) })
      }
      if (ops.length === 0) return deleted
      await this.#kv.batch(ops)
      deleted += ops.length / 2
    }
  }
}
