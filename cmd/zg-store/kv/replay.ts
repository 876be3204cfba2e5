/**
 * Replays one submission of a stream (storage.md 6.3): pure, a function of the state before and the file's content. The edge
 * writes what it returns, together with its own progress, in one atomic batch; so a crash between two submissions leaves the
 * state after the first one, and replaying again gives the same. Every question is asked as of the seq before, so that a stream
 * that is followed later can be replayed beside others that are further on.
 */
import { compareBytes, concat, u64be } from '../../../lib/base/bytes.ts'
import { toHex } from '../../../lib/base/hex.ts'
import {
  CONTROL_TYPES,
  type DecodedKv,
  type KvControl,
  type KvOps,
  type KvRead
} from '../../../lib/codec/storage/kv.ts'
import type { KvOp } from '../../../lib/ports/kv.ts'
import { at, CHUNK_BYTES, keys } from './keys.ts'
import { encodeRef, type KvState } from './state.ts'

export interface KvTransaction {
  seq: number
  /** The account that signed the transaction: never the event's free text. */
  sender: Uint8Array
  /** Streams named in the tags, all of them followed by this node. */
  streams: readonly Uint8Array[]
}

export interface ReplayResult {
  /** `Commit`, or why nothing was changed. */
  text: string
  /** Empty unless committed. */
  ops: KvOp[]
}

/** Upstream's names of the operations, as they stand in denials. */
const NAMES: Record<KvControl['type'], string> = {
  grantAdmin: 'GRANT_ADMIN_ROLE',
  renounceAdmin: 'RENOUNCE_ADMIN_ROLE',
  setSpecial: 'SET_KEY_TO_SPECIAL',
  setNormal: 'SET_KEY_TO_NORMAL',
  grantWriter: 'GRANT_WRITER_ROLE',
  revokeWriter: 'REVOKE_WRITER_ROLE',
  renounceWriter: 'RENOUNCE_WRITER_ROLE',
  grantSpecialWriter: 'GRANT_SPECIAL_WRITER_ROLE',
  revokeSpecialWriter: 'REVOKE_SPECIAL_WRITER_ROLE',
  renounceSpecialWriter: 'RENOUNCE_SPECIAL_WRITER_ROLE'
}

const denied = (text: string): ReplayResult => ({ text, ops: [] })

/**
 * Rule 2, before anything is downloaded: may the sender write to every named stream at all?
 * @returns the denial, or undefined.
 */
export async function checkSender(state: KvState, tx: KvTransaction): Promise<ReplayResult | undefined> {
  const before = tx.seq - 1
  for (const stream of tx.streams) {
    if (!(await state.exists(stream, before))) continue
    if (await state.isAdmin(stream, tx.sender, before)) continue
    if (await state.isWriter(stream, tx.sender, before)) continue
    if (await state.isAnyKeyWriter(stream, tx.sender, before)) continue
    return denied('SenderNoWritePermission')
  }
  return undefined
}

/**
 * Replays one file on `state`, which holds everything below `tx.seq` of its streams.
 * @param follows - true for streams that this node follows.
 * @param headerBytes - bytes of the stored file before the content: its encryption header.
 */
export async function replay(
  state: KvState,
  tx: KvTransaction,
  content: KvOps | DecodedKv,
  follows: (stream: Uint8Array) => boolean,
  headerBytes = 0
): Promise<ReplayResult> {
  const before = tx.seq - 1
  const tagged = new Set(tx.streams.map(toHex))
  const isNew = new Map<string, boolean>()
  for (const stream of tx.streams) isNew.set(toHex(stream), !(await state.exists(stream, before)))
  const adminOf = new Map<string, boolean>()
  for (const stream of tx.streams) {
    const id = toHex(stream)
    adminOf.set(id, isNew.get(id) === true || (await state.isAdmin(stream, tx.sender, before)))
  }

  const noSender = await checkSender(state, tx)
  if (noSender !== undefined) return noSender
  for (const r of content.reads) {
    if (!follows(r.stream)) return denied('TagsMismatch')
    if (await conflicts(state, r, before, content.version)) return denied('VersionConfliction')
  }
  for (const w of content.writes) {
    if (!tagged.has(toHex(w.stream))) return denied('TagsMismatch')
    if (await conflicts(state, w, before, content.version)) return denied('VersionConfliction')
    const admin = adminOf.get(toHex(w.stream)) === true
    if (!admin && !(await state.mayWrite(w.stream, tx.sender, w.key, before))) {
      return denied(`WritePermissionDenied: stream: ${toHex(w.stream)}, key: ${toHex(w.key)}`)
    }
  }
  for (const c of content.controls) {
    if (!tagged.has(toHex(c.stream))) return denied('TagsMismatch')
    if (!(await mayControl(state, tx, c, adminOf.get(toHex(c.stream)) === true))) return denied(denial(c))
  }
  return { text: 'Commit', ops: effects(tx, content, isNew, headerBytes) }
}

/** True when a newer version of the key exists than the writer had seen. */
async function conflicts(state: KvState, what: KvRead, before: number, version: bigint): Promise<boolean> {
  const last = await state.value(what.stream, what.key, before)
  return last !== undefined && BigInt(last.version) > version
}

/** The table of storage.md 6.2. */
async function mayControl(state: KvState, tx: KvTransaction, c: KvControl, admin: boolean): Promise<boolean> {
  switch (c.type) {
    case 'renounceAdmin':
    case 'renounceWriter':
    case 'renounceSpecialWriter':
      return true
    case 'grantWriter':
      return admin || state.isWriter(c.stream, tx.sender, tx.seq - 1)
    case 'grantSpecialWriter':
      return admin || state.isKeyWriter(c.stream, tx.sender, c.key!, tx.seq - 1)
    default:
      return admin
  }
}

function denial(c: KvControl): string {
  const key = c.key === undefined ? '' : `, key: ${toHex(c.key)}`
  const account = c.account === undefined ? '' : `, account: ${toHex(c.account)}`
  return `AccessControlPermissionDenied: operation: ${NAMES[c.type]}, stream: ${toHex(c.stream)}${key}${account}`
}

/** The changes of a committed file, in a fixed order. */
function effects(
  tx: KvTransaction,
  content: KvOps | DecodedKv,
  isNew: Map<string, boolean>,
  headerBytes: number
): KvOp[] {
  const ops: KvOp[] = []
  const controls: KvControl[] = []
  const streams = [...tx.streams].sort(compareBytes)
  for (const stream of streams) {
    if (isNew.get(toHex(stream)) !== true) continue
    isNew.set(toHex(stream), false) // a stream named twice in the tags is born once
    ops.push({ put: keys.exists(stream), value: u64be(tx.seq) })
    controls.push({ type: 'grantAdmin', stream, account: tx.sender })
  }
  controls.push(...content.controls)
  for (const c of lastOf(controls, tx.sender)) ops.push(controlOp(c, tx))
  ops.push(...writeOps(tx, content, headerBytes))
  return ops
}

/** Rule 4: the last operation per (kind, stream, key, account) counts; a grant of admin never replaces an earlier one. */
function lastOf(controls: readonly KvControl[], sender: Uint8Array): KvControl[] {
  const kept = new Map<string, KvControl>()
  for (const c of controls) {
    const account = accountOf(c, sender)
    const id = [kindOf(c), toHex(c.stream), toHex(c.key ?? new Uint8Array(0)), toHex(account)].join()
    if (c.type === 'grantAdmin' && kept.has(id)) continue
    kept.set(id, c)
  }
  return [...kept.values()]
}

/** What an operation is about: 0x00 admins, 0x10 special keys, 0x20 writers, 0x30 special writers. */
function kindOf(c: KvControl): number {
  return CONTROL_TYPES[c.type] & 0xf0
}

/** Renunciations name nobody: they are about the sender. Key settings are about no account. */
function accountOf(c: KvControl, sender: Uint8Array): Uint8Array {
  if (c.account !== undefined) return c.account
  return kindOf(c) === 0x10 ? new Uint8Array(0) : sender
}

function controlOp(c: KvControl, tx: KvTransaction): KvOp {
  const account = accountOf(c, tx.sender)
  const on = (CONTROL_TYPES[c.type] & 0x0f) === 0
  const kind = kindOf(c)
  const prefix =
    kind === 0x00
      ? keys.admin(c.stream, account)
      : kind === 0x10
        ? keys.special(c.stream, c.key!)
        : kind === 0x20
          ? keys.writer(c.stream, account)
          : keys.keyWriter(c.stream, account, c.key!)
  return { put: at(prefix, tx.seq), value: Uint8Array.of(on ? 1 : 0) }
}

function writeOps(tx: KvTransaction, content: KvOps | DecodedKv, headerBytes: number): KvOp[] {
  let end = headerBytes + ('valuesAt' in content ? content.valuesAt : 0)
  const offsets = content.writes.map(w => {
    end += w.value.length
    return end - w.value.length
  })
  // The last write of a key wins; only its bytes are kept.
  const last = new Map<string, number>()
  content.writes.forEach((w, i) => {
    last.set(toHex(concat(w.stream, w.key)), i)
  })
  const ops: KvOp[] = []
  for (const index of last.values()) {
    const w = content.writes[index]!
    for (let c = 0; c * CHUNK_BYTES < w.value.length; c++) {
      const value = w.value.subarray(c * CHUNK_BYTES, (c + 1) * CHUNK_BYTES)
      ops.push({ put: keys.data(tx.seq, index, c), value })
    }
    ops.push({
      put: at(keys.value(w.stream, w.key), tx.seq),
      value: encodeRef({ sizeBytes: w.value.length, index, offset: offsets[index]! })
    })
  }
  return ops
}
