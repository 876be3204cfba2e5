/**
 * Brings one file to one node: waits until the node has seen the submission, asks what is missing, sends that in parallel
 * requests of up to four segments, and waits until the node says that the file is final. What the node has is only ever asked
 * of the node, so a resumed upload sends exactly what is not there.
 */
import { messageOf, ZgError } from '../../base/errors.ts'
import type { FileHash } from '../../codec/storage/hasher.ts'
import { MerkleTree } from '../../codec/storage/merkle.ts'
import { SECTOR_BYTES, SEGMENT_BYTES, SEGMENT_SECTORS, segmentDataBytes } from '../../codec/storage/shape.ts'
import { holds } from '../../codec/storage/shards.ts'
import { BATCH_SEGMENTS, giveBuffer, takeBuffer } from './buffers.ts'
import { origin } from './http.ts'
import type { SegmentToSend } from './node.ts'
import type { Member } from './nodes.ts'
import { backoff, pause, until } from './retry.ts'
import type { Source } from './source.ts'

/** Requests in flight to one node: what is sent while the node syncs what it has. */
const LANES = 16
const BATCH = BATCH_SEGMENTS
const ATTEMPTS = 6
const ROUNDS = 4

export interface UploadOptions {
  signal?: AbortSignal | undefined
  /** How long a node may take to see the submission. */
  entryMs: number
  /** How long finality may take after the last segment. */
  sealMs: number
  /** Ends after the data was taken. */
  noSeal?: boolean
  /** Bytes of this file that the node is known to have. */
  onProgress?: (haveBytes: number) => void
  /** Once, at the start: bytes that were there before. */
  onHad?: (hadBytes: number) => void
  onSealing?: () => void
}

export interface FileToSend {
  hash: FileHash
  tree: MerkleTree
  source: Source
  seq: number
}

export function fileToSend(hash: FileHash, source: Source, seq: number): FileToSend {
  return { hash, tree: new MerkleTree(hash.segmentRoots), source, seq }
}

/**
 * Stores a file on one node.
 * @returns bytes that were there before.
 * @throws {ZgError} ERR_NOT_SYNCED, ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_DISK_FULL, ERR_REJECTED: another node may do better;
 *   ERR_BAD_INPUT when the source changed.
 */
export async function uploadTo(member: Member, file: FileToSend, o: UploadOptions): Promise<{ hadBytes: number }> {
  const raw = await member.node.hasRaw(callOptions(o))
  const first = await waitForEntry(member, file, raw, o)
  const hadBytes = file.hash.size - bytesOf(file, first.missing)
  o.onHad?.(hadBytes)
  let state: NodeState | undefined = first
  for (let round = 0; state !== undefined && !state.finalized; round++) {
    if (round >= ROUNDS) {
      throw new ZgError('ERR_UNAVAILABLE', `${origin(member.node.url)} keeps losing segments of ${file.seq}`)
    }
    await sendAll(member, file, raw, state.missing, o)
    if (o.noSeal) break
    o.onSealing?.()
    state = await seal(member, file, raw, o)
  }
  o.onProgress?.(file.hash.size)
  return { hadBytes }
}

interface NodeState {
  finalized: boolean
  /** Segment numbers that this node wants. */
  missing: number[]
}

/** What the node says about the submission; undefined while it has not seen it. */
async function ask(member: Member, file: FileToSend, raw: boolean, o: UploadOptions): Promise<NodeState | undefined> {
  const { segments } = file.hash.shape
  if (raw) {
    const state = await member.node.rawFile(file.seq, callOptions(o))
    if (state === null) return undefined
    if (state.pruned) throw new ZgError('ERR_REJECTED', `${origin(member.node.url)} has pruned this file`)
    const missing: number[] = []
    for (const [from, to] of state.missing) {
      for (let i = from; i < Math.min(to, segments); i++) missing.push(i)
    }
    return { finalized: state.finalized, missing }
  }
  const info = await member.node.fileInfoBySeq(file.seq, callOptions(o))
  if (info === null) return undefined
  if (info.pruned) throw new ZgError('ERR_REJECTED', `${origin(member.node.url)} has pruned this file`)
  const flow = Math.floor(info.startEntryIndex / SEGMENT_SECTORS)
  const missing: number[] = []
  // The count is of contiguous segments only where the node holds all of them.
  const from = member.shard.numShard === 1 ? info.uploadedSegments : 0
  for (let i = from; i < segments; i++) if (holds(member.shard, flow + i)) missing.push(i)
  return { finalized: info.finalized, missing: info.finalized ? [] : missing }
}

async function waitForEntry(member: Member, file: FileToSend, raw: boolean, o: UploadOptions): Promise<NodeState> {
  const state = await until(() => retrying(() => ask(member, file, raw, o), o.signal), {
    deadlineMs: o.entryMs,
    mostMs: 250,
    signal: o.signal
  })
  if (state !== undefined) return state
  const at = await member.node.status(callOptions(o)).catch(() => undefined)
  throw new ZgError(
    'ERR_NOT_SYNCED',
    `${origin(member.node.url)} has not seen submission ${file.seq} yet${at ? ` (it is at block ${at.logSyncHeight})` : ''}`,
    { hint: "run 'zg-devnet status', then the same command again: it goes on without paying twice" }
  )
}

function bytesOf(file: FileToSend, segments: readonly number[]): number {
  return segments.reduce((sum, i) => sum + segmentDataBytes(file.hash.shape, i), 0)
}

async function sendAll(
  member: Member,
  file: FileToSend,
  raw: boolean,
  missing: readonly number[],
  o: UploadOptions
): Promise<void> {
  let have = file.hash.size - bytesOf(file, missing)
  o.onProgress?.(have)
  let next = 0
  let failed: unknown
  const lane = async (): Promise<void> => {
    while (next < missing.length && failed === undefined) {
      const indices = missing.slice(next, next + BATCH)
      next += indices.length
      const buffer = takeBuffer()
      const segments = await readSegments(file, indices, buffer)
      const send = raw ? member.node.putRaw.bind(member.node) : member.node.putJson.bind(member.node)
      const target = { root: file.hash.root, sizeBytes: file.hash.size, seq: file.seq }
      const { finalized } = await retrying(() => send(target, segments, callOptions(o)), o.signal)
      giveBuffer(buffer)
      have += bytesOf(file, indices)
      o.onProgress?.(have)
      // Somebody else brought the rest meanwhile, or another submission of the same root became final.
      if (finalized) next = missing.length
    }
  }
  const lanes = Array.from({ length: Math.min(LANES, Math.ceil(missing.length / BATCH)) }, () =>
    lane().catch(err => {
      failed ??= err
    })
  )
  await Promise.all(lanes)
  if (failed === undefined) return
  // A proof that does not fit means that the bytes are no longer those that were hashed.
  await file.source.check()
  throw failed
}

/** Reads segments into one buffer, neighbours by one read. */
async function readSegments(
  file: FileToSend,
  indices: readonly number[],
  buffer: Uint8Array
): Promise<SegmentToSend[]> {
  const out: SegmentToSend[] = []
  for (let i = 0; i < indices.length; ) {
    let n = 1
    while (i + n < indices.length && indices[i + n] === indices[i]! + n) n++
    const first = indices[i]!
    const size = (n - 1) * SEGMENT_BYTES + segmentDataBytes(file.hash.shape, first + n - 1)
    const place = buffer.subarray(i * SEGMENT_BYTES, (i + n) * SEGMENT_BYTES)
    const bytes = await file.source.read(first * SEGMENT_BYTES, size, place)
    if (bytes.length !== size) throw new ZgError('ERR_BAD_INPUT', 'the file changed while it was read')
    for (let j = 0; j < n; j++) {
      const data = bytes.subarray(j * SEGMENT_BYTES, (j + 1) * SEGMENT_BYTES)
      out.push({ index: first + j, data: wholeSectors(data), proof: file.tree.proof(first + j) })
    }
    i += n
  }
  return out
}

/** The last sector is sent whole, filled with zeros. */
function wholeSectors(data: Uint8Array): Uint8Array {
  const rest = data.length % SECTOR_BYTES
  if (rest === 0) return data
  const out = new Uint8Array(data.length + SECTOR_BYTES - rest)
  out.set(data)
  return out
}

/** Waits for finality; a state with missing segments when the node wants some again. */
async function seal(member: Member, file: FileToSend, raw: boolean, o: UploadOptions): Promise<NodeState | undefined> {
  const started = performance.now()
  const state = await until(
    async () => {
      const now = await retrying(() => ask(member, file, raw, o), o.signal)
      if (now === undefined || now.finalized) return now ?? { finalized: false, missing: [] }
      // Finality follows the last segment within a second; segments that are still missing then were lost.
      return now.missing.length > 0 && performance.now() - started > 3_000 ? now : undefined
    },
    { deadlineMs: o.sealMs, firstMs: 15, mostMs: 100, signal: o.signal }
  )
  if (state !== undefined) return state
  throw new ZgError('ERR_TIMEOUT', `${origin(member.node.url)} has all data but does not call the file final`, {
    hint: `run 'zg-store stat' later: the data is on the node's disk`
  })
}

/** Repeats what may pass: no connection, a time-out, a submission the node has not seen yet. */
async function retrying<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (err) {
      if (signal?.aborted) throw signal.reason
      const code = err instanceof ZgError ? err.code : ''
      const passing = code === 'ERR_UNAVAILABLE' || code === 'ERR_TIMEOUT' || code === 'ERR_NOT_FOUND'
      if (!passing || attempt >= ATTEMPTS) throw err
      await backoff(attempt, signal)
    }
  }
}

function callOptions(o: UploadOptions): { signal?: AbortSignal } {
  return o.signal === undefined ? {} : { signal: o.signal }
}

/**
 * Stores a file on as many nodes as wanted, all at once; a node that fails is replaced by one of `spare`.
 * @returns the nodes that hold it and how much was there before.
 * @throws the last node's error when there is no other one to try.
 */
export async function uploadToAll(
  wanted: readonly Member[],
  spare: readonly Member[],
  file: FileToSend,
  o: UploadOptions & { onNode?: (url: string, problem: string) => void }
): Promise<{ urls: string[]; hadBytes: number }> {
  const have = new Map<string, number>()
  const rest = [...spare]
  let had = 0
  let told = false
  const onHad = (bytes: number): void => {
    if (!told) o.onHad?.(bytes)
    told = true
  }
  const report = (slot: number) => (bytes: number) => {
    have.set(String(slot), bytes)
    // One figure for all: the mean, which reaches the size when every node has it.
    const sum = [...have.values()].reduce((a, b) => a + b, 0)
    o.onProgress?.(Math.floor(sum / wanted.length))
  }
  const urls = await Promise.all(
    wanted.map(async (chosen, slot) => {
      for (let member = chosen; ; ) {
        try {
          const { hadBytes } = await uploadTo(member, file, { ...o, onProgress: report(slot), onHad })
          had += hadBytes
          return member.node.url
        } catch (err) {
          if (o.signal?.aborted) throw o.signal.reason
          if (err instanceof ZgError && err.code === 'ERR_BAD_INPUT') throw err
          o.onNode?.(member.node.url, messageOf(err))
          // A replacement must hold the same part of the flow.
          const at = rest.findIndex(
            m => m.shard.numShard === member.shard.numShard && m.shard.shardId === member.shard.shardId
          )
          if (at < 0) throw err
          member = rest.splice(at, 1)[0]!
          await pause(0, o.signal)
        }
      }
    })
  )
  return { urls, hadBytes: Math.floor(had / Math.max(1, wanted.length)) }
}
