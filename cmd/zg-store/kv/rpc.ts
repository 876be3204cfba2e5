/** The key-value RPC (storage.md 6.4) with the quirks that both SDKs rely on. */
import { RPC, RpcError, type RpcMethods, type RpcParams } from '../../../lib/adapters/jsonrpc/types.ts'
import { messageOf } from '../../../lib/base/errors.ts'
import { addressFromHex, hashFromHex, toHex } from '../../../lib/base/hex.ts'
import { type KvState, NEWEST, ValueGone, type ValueRef } from './state.ts'

/** What the RPC asks of the follower. */
export interface KvProgress {
  /** Last seq that was replayed or skipped; undefined before the first. */
  readonly appliedSeq: number | undefined
  /** First seq this node has seen. */
  readonly firstTxSeq: number | undefined
  holdingStreams(): Promise<Uint8Array[]>
}

const QUERY_BYTES = 262_144
/** A query of the first 256 KiB gets the whole value up to this size: the SDKs page wrongly beyond (storage.md 6.4). */
const WHOLE_BYTES = 16 * 1024 * 1024

export function kvMethods(state: KvState, progress: KvProgress): RpcMethods {
  const pair = async (key: Uint8Array, ref: ValueRef, p: { start: number; len: number }) => ({
    key: base64(key),
    ...(await slice(state, ref, p))
  })
  const edge =
    (reverse: boolean) =>
    async (params: RpcParams, signal: AbortSignal): Promise<unknown> => {
      const [stream, start, len, version] = params
      const p = range(start, len)
      const at = versionOf(version)
      return again(state, async () => {
        const found = await state.seek(streamOf(stream), { inclusive: true, reverse, version: at, signal })
        return found === undefined ? null : pair(found.key, found.ref, p)
      })
    }
  const step =
    (reverse: boolean) =>
    async (params: RpcParams, signal: AbortSignal): Promise<unknown> => {
      const [stream, key, start, len, inclusive, version] = params
      const p = range(start, len)
      const o = { from: keyOf(key), inclusive: inclusive === true, reverse, version: versionOf(version), signal }
      return again(state, async () => {
        const found = await state.seek(streamOf(stream), o)
        return found === undefined ? null : pair(found.key, found.ref, p)
      })
    }
  const isAdmin = (params: RpcParams): Promise<boolean> =>
    state.isAdmin(streamOf(params[1]), accountOf(params[0]), versionOf(params[2]))
  return {
    kv_getValue: async ([stream, key, start, len, version]) => {
      const p = range(start, len)
      return again(state, async () => {
        const ref = await state.value(streamOf(stream), keyOf(key), versionOf(version))
        if (ref === undefined || ref.sizeBytes === 0) return { version: ref?.version ?? 0, data: '', size: 0 }
        return slice(state, ref, p)
      })
    },
    kv_getNext: (params, ctx) => step(false)(params, ctx.signal),
    kv_getPrev: (params, ctx) => step(true)(params, ctx.signal),
    kv_getFirst: (params, ctx) => edge(false)(params, ctx.signal),
    kv_getLast: (params, ctx) => edge(true)(params, ctx.signal),
    kv_getTransactionResult: async ([seq]) => (await state.result(seqOf(seq))) ?? null,
    kv_getHoldingStreamIds: async () => (await progress.holdingStreams()).map(toHex),
    kv_hasWritePermission: ([account, stream, key, version]) =>
      state.mayWrite(streamOf(stream), accountOf(account), keyOf(key), versionOf(version)),
    kv_isWriterOfKey: ([account, stream, key, version]) =>
      state.isKeyWriter(streamOf(stream), accountOf(account), keyOf(key), versionOf(version)),
    kv_isAdmin: isAdmin,
    // Both SDKs send a capital I.
    kv_IsAdmin: isAdmin,
    kv_isWriterOfStream: ([account, stream, version]) =>
      state.isWriter(streamOf(stream), accountOf(account), versionOf(version)),
    kv_isSpecialKey: ([stream, key, version]) => state.isSpecial(streamOf(stream), keyOf(key), versionOf(version)),
    kv_getStatus: () => true,
    kv_getReplayProgress: () => ({ appliedSeq: progress.appliedSeq ?? 0, firstTxSeq: progress.firstTxSeq ?? null })
  }
}

/**
 * Between the look-up of a value and the reading of its bytes a reorganisation may undo both, and others may come to the same place: then all is
 * asked again, and the value that is left is answered.
 */
async function again<T>(state: KvState, read: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    const { undone } = state
    try {
      const answer = await read()
      if (state.undone === undone || attempt === READ_TRIES) return answer
    } catch (err) {
      // A value that is named and never there is damage.
      if (!(err instanceof ValueGone) || attempt === READ_TRIES) throw err
    }
  }
}

/** A long rewind takes many steps; readers go through between them. */
const READ_TRIES = 16

async function slice(state: KvState, ref: ValueRef, p: { start: number; len: number }) {
  if (p.len > 0 && p.start > ref.sizeBytes) throw invalid('start', 'start index is greater than value length')
  const whole = p.start === 0 && p.len === QUERY_BYTES && ref.sizeBytes <= WHOLE_BYTES
  const data = p.len === 0 ? new Uint8Array(0) : await state.read(ref, p.start, whole ? ref.sizeBytes : p.len)
  return { version: ref.version, data: base64(data), size: ref.sizeBytes }
}

function invalid(name: string, why: string): RpcError {
  return new RpcError(RPC.params, `Invalid params: ${name}`, why)
}

export function range(start: unknown, len: unknown): { start: number; len: number } {
  const p = { start: integer(start, 'start_index'), len: integer(len, 'len') }
  if (p.len > QUERY_BYTES) throw invalid('len', 'query length too large')
  return p
}

export function integer(v: unknown, name: string): number {
  if (typeof v !== 'number' || !Number.isSafeInteger(v) || v < 0) throw invalid(name, 'not a whole number')
  return v
}

export function versionOf(v: unknown): number {
  if (v === undefined || v === null) return NEWEST
  // Clients that want "the newest" may send 2⁶⁴ − 1, which JSON.parse rounds beyond the safe integers.
  if (typeof v === 'number' && v > NEWEST) return NEWEST
  return integer(v, 'version')
}

/** Numbers, and decimal strings as both SDKs send them. */
function seqOf(v: unknown): number {
  if (typeof v === 'string' && /^[0-9]{1,16}$/.test(v)) return integer(Number(v), 'tx_seq')
  return integer(v, 'tx_seq')
}

export function streamOf(v: unknown): Uint8Array {
  try {
    return hashFromHex(v, 'stream id')
  } catch (err) {
    throw invalid('stream_id', messageOf(err))
  }
}

function accountOf(v: unknown): Uint8Array {
  try {
    return addressFromHex(v, 'account')
  } catch (err) {
    throw invalid('account', messageOf(err))
  }
}

/** Keys are base64 on the wire. */
export function keyOf(v: unknown): Uint8Array {
  if (typeof v !== 'string') throw invalid('key', 'key is not a base64 string')
  const key = Buffer.from(v, 'base64')
  if (key.length === 0) throw invalid('key', 'key is empty')
  return new Uint8Array(key)
}

function base64(b: Uint8Array): string {
  return Buffer.from(b.buffer, b.byteOffset, b.length).toString('base64')
}
