/**
 * Stores a file: hash, one submission, upload to the wanted number of nodes, finality. Each step first asks whether it was done
 * already: by the nodes (the file or its entry is known), by the journal (a transaction is on its way). So repeating a put is
 * always right and never pays twice.
 */
import { equalBytes } from '../../base/bytes.ts'
import { ZgError } from '../../base/errors.ts'
import { fromHex, toHex } from '../../base/hex.ts'
import { type FileHash, FileHasher, hashFile } from '../../codec/storage/hasher.ts'
import { selectNodes } from '../../codec/storage/shards.ts'
import { sectorsOf } from '../../codec/storage/submission.ts'
import type { Account } from '../accounts.ts'
import { Journal, type JournalEntry } from './journal.ts'
import type { FileInfo } from './node.ts'
import type { Member, NodePool } from './nodes.ts'
import type { Source } from './source.ts'
import type { FlowClient, SubmitReceipt } from './submit.ts'
import { fileToSend, uploadToAll } from './upload.ts'

export type PutPhase = 'submit' | 'upload' | 'seal'

export interface PutOptions {
  pool: NodePool
  flow: FlowClient
  /** Who pays; asked only when something has to be paid. */
  signer: () => Promise<Account>
  journalDir: string
  /** Nodes that must hold the file in the end. */
  replicas: number
  /** Take fewer replicas, down to one, when there are not more nodes. */
  fewer?: boolean
  tags?: Uint8Array
  /** Make a submission although the content is stored (key-value writes, storage.md 6.3). */
  always?: boolean
  /** Return when one node has taken the data. */
  noWait?: boolean
  signal?: AbortSignal | undefined
  /** How long a node may lag behind the chain, and finality behind the data. */
  waitMs?: number
  on?: {
    phase?: (phase: PutPhase) => void
    submitted?: (r: SubmitReceipt) => void
    /** What the nodes had already, when the upload goes on from there. */
    resumed?: (doneBytes: number, totalBytes: number) => void
    progress?: (doneBytes: number, totalBytes: number) => void
    problem?: (url: string, text: string) => void
    fewer?: (replicas: number) => void
  }
}

export interface PutResult {
  root: Uint8Array
  sizeBytes: number
  segments: number
  seq: number
  /** Absent when nothing had to be submitted. */
  txHash: Uint8Array | undefined
  blockNumber: number | undefined
  /** Paid for storage by this put; 0 when the entry was there. */
  feeNeuron: bigint
  /** Something of an earlier attempt was used. */
  resumed: boolean
  /** Bytes that did not have to be sent. */
  hadBytes: number
  /** Nothing was sent at all. */
  already: boolean
  urls: string[]
}

/** Hashes a source: in place and on all cores when its bytes lie in a file as they are stored. */
export async function hashSource(
  source: Source,
  o: { signal?: AbortSignal; onProgress?: (done: number, size: number) => void } = {}
): Promise<FileHash> {
  if (source.path !== undefined) {
    const hash = await hashFile(source.path, o)
    await source.check()
    return hash
  }
  const hasher = new FileHasher()
  for (let at = 0; at < source.sizeBytes; at += READ_BYTES) {
    o.signal?.throwIfAborted()
    await hasher.push(await source.read(at, READ_BYTES))
    o.onProgress?.(hasher.size, source.sizeBytes)
  }
  return hasher.finish()
}

const READ_BYTES = 1024 * 1024

/** What was found out about the network before a put, so that many files ask it once. */
interface Prepared {
  members: Member[]
  infos: Map<Member, FileInfo | null>
  /** Made for this file a moment ago, together with others. */
  receipt?: SubmitReceipt | undefined
  /** Its journal, open. */
  journal?: Journal | undefined
}

/**
 * Stores one hashed file.
 * @throws {ZgError} ERR_UNAVAILABLE (too few nodes), ERR_FUNDS, ERR_REJECTED, ERR_LOCKED, ERR_NOT_SYNCED, ERR_TIMEOUT,
 *   ERR_WRONG_NETWORK (the chain and the nodes are of different networks).
 */
export async function put(source: Source, hash: FileHash, o: PutOptions): Promise<PutResult> {
  const members = await o.pool.members(callOf(o))
  return putPrepared(source, hash, o, { members, infos: await knowledge(members, hash.root, o.signal) })
}

async function putPrepared(source: Source, hash: FileHash, o: PutOptions, p: Prepared): Promise<PutResult> {
  const { members, infos } = p
  const final = finalOn(members, infos)
  const replicas = replicasOf(members, o)
  const base = { root: hash.root, sizeBytes: hash.size, segments: hash.shape.segments }
  if (o.always !== true && p.receipt === undefined) {
    const holders = choose(final, o.noWait ? 1 : replicas)
    if (holders !== undefined) {
      await p.journal?.close()
      const seq = infos.get(holders[0]!)!.seq
      return {
        ...base,
        seq,
        txHash: undefined,
        blockNumber: undefined,
        feeNeuron: 0n,
        resumed: false,
        hadBytes: hash.size,
        already: true,
        urls: holders.map(h => h.node.url)
      }
    }
  }
  const journal = p.journal ?? (await Journal.open(o.journalDir, hash.root))
  try {
    const { receipt, seq, fresh } =
      p.receipt === undefined
        ? await entryOf(members, infos, hash, journal, o)
        : { receipt: p.receipt, seq: p.receipt.seq, fresh: true }
    // Nodes that have it already come first, so that the least is sent.
    const wanted = choose([...final, ...members.filter(m => !final.includes(m))], o.noWait ? 1 : replicas)!
    const spare = members.filter(m => !wanted.includes(m))
    o.on?.phase?.('upload')
    let sealing = false
    const { urls, hadBytes } = await uploadToAll(wanted, spare, fileToSend(hash, source, seq), {
      signal: o.signal,
      entryMs: o.waitMs ?? 60_000,
      sealMs: o.waitMs ?? 300_000,
      noSeal: o.noWait === true,
      onProgress: done => o.on?.progress?.(done, hash.size),
      onHad: had => o.on?.resumed?.(had, hash.size),
      onSealing: () => {
        if (!sealing) o.on?.phase?.('seal')
        sealing = true
      },
      onNode: (url, text) => o.on?.problem?.(url, text)
    })
    await journal.forget()
    return {
      ...base,
      seq,
      txHash: receipt?.txHash,
      blockNumber: receipt?.blockNumber,
      feeNeuron: fresh ? (receipt?.feeNeuron ?? 0n) : 0n,
      resumed: !fresh,
      hadBytes,
      already: false,
      urls
    }
  } finally {
    await journal.close()
  }
}

/** One of many files: its source is opened when its turn comes and closed afterwards. */
export interface PutItem {
  hash: FileHash
  open: () => Promise<Source>
}

/** Submissions in one transaction: about 12 million gas, a third of a block. */
const BATCH_SUBMISSIONS = 40
/** Files that are uploaded at the same time. */
const FILES_AT_ONCE = 8

/**
 * Stores many files: those that nobody knows are submitted in batches, so that a thousand small files cost 25 transactions, and
 * uploaded side by side. Each has its own journal entry: an interrupted run goes on file by file.
 * @param onFile - called as files are stored, not always in order.
 * @returns in the order of the items; the same root twice is stored once.
 */
export async function putMany(
  items: readonly PutItem[],
  o: PutOptions,
  onFile?: (r: PutResult, index: number) => void
): Promise<PutResult[]> {
  const members = await o.pool.members(callOf(o))
  // Said once, not once a file.
  const replicas = replicasOf(members, o)
  const each: PutOptions = { ...o, replicas, on: { problem: (url, text) => o.on?.problem?.(url, text) } }
  const first = new Map<string, number>()
  const results: PutResult[] = []
  items.forEach((item, i) => {
    const id = toHex(item.hash.root)
    if (!first.has(id)) first.set(id, i)
  })
  const todo = [...first.values()]
  for (let at = 0; at < todo.length; at += BATCH_SUBMISSIONS) {
    const batch = todo.slice(at, at + BATCH_SUBMISSIONS)
    const open = new Set<Journal>()
    try {
      const prepared = await prepare(
        batch.map(i => items[i]!.hash),
        members,
        each,
        open
      )
      let next = 0
      const lane = async (): Promise<void> => {
        while (next < batch.length) {
          o.signal?.throwIfAborted()
          const n = next++
          const index = batch[n]!
          const source = await items[index]!.open()
          try {
            const p = prepared[n]!
            results[index] = await putPrepared(source, items[index]!.hash, each, p)
            onFile?.(results[index]!, index)
          } finally {
            await source.close()
          }
        }
      }
      const lanes = Array.from({ length: Math.min(FILES_AT_ONCE, batch.length) }, lane)
      for (const r of await Promise.allSettled(lanes)) if (r.status === 'rejected') throw r.reason
    } finally {
      for (const j of open) await j.close()
    }
  }
  return items.map((item, i) => {
    const found = results[first.get(toHex(item.hash.root))!]!
    return results[i] ?? { ...found, already: true, feeNeuron: 0n }
  })
}

/** Asks about a batch of files and submits those that have no entry yet, together. */
async function prepare(
  hashes: readonly FileHash[],
  members: Member[],
  o: PutOptions,
  open: Set<Journal>
): Promise<Prepared[]> {
  const out: Prepared[] = await Promise.all(
    hashes.map(async h => ({ members, infos: await knowledge(members, h.root, o.signal) }))
  )
  const fresh: number[] = []
  for (const [i, p] of out.entries()) {
    const enough = choose(finalOn(members, p.infos), o.noWait ? 1 : o.replicas) !== undefined
    if (enough && o.always !== true) continue
    p.journal = await Journal.open(o.journalDir, hashes[i]!.root)
    open.add(p.journal)
    const remembered = (await p.journal.read()) !== undefined
    if (!remembered && (o.always === true || pendingEntry(p.infos) === undefined)) fresh.push(i)
  }
  if (fresh.length < 2) return out
  const { flow, chainId } = await payingFlow(members, o)
  const signer = await o.signer()
  o.on?.phase?.('submit')
  const tags = o.tags ?? new Uint8Array(0)
  const submissions = fresh.map(i => ({ size: hashes[i]!.size, tags, nodes: hashes[i]!.nodes }))
  const note = async (txHash: Uint8Array, receipts?: readonly SubmitReceipt[]): Promise<void> => {
    await Promise.all(
      fresh.map((i, n) => {
        const r = receipts?.[n]
        const entry = entryFor(txHash, r?.feeNeuron ?? 0n, { chainId, flow, sizeBytes: hashes[i]!.size, tags })
        return out[i]!.journal!.write(r === undefined ? entry : { ...entry, seq: r.seq, blockNumber: r.blockNumber })
      })
    )
  }
  try {
    const receipts = await o.flow.submitBatch({ flow: fromHex(flow), submissions, signer }, txHash => note(txHash))
    for (const [n, i] of fresh.entries()) out[i]!.receipt = receipts[n]
  } catch (err) {
    // A contract without batches, or one that is too large for a block here: then one by one, which says what is wrong.
    if (!(err instanceof ZgError && err.code === 'ERR_REJECTED')) throw err
  }
  return out
}

function callOf(o: { signal?: AbortSignal | undefined }): { signal?: AbortSignal } {
  return o.signal === undefined ? {} : { signal: o.signal }
}

function finalOn(members: readonly Member[], infos: Map<Member, FileInfo | null>): Member[] {
  return members.filter(m => infos.get(m)?.finalized === true)
}

/** An entry on the chain that waits for its bytes: as good as ours, whoever paid for it. */
function pendingEntry(infos: Map<Member, FileInfo | null>): FileInfo | undefined {
  for (const info of infos.values()) if (info !== null && !info.pruned && !info.isCached) return info
  return undefined
}

function entryFor(
  txHash: Uint8Array,
  fee: bigint,
  o: { chainId: number; flow: string; sizeBytes: number; tags: Uint8Array }
): JournalEntry {
  return {
    txHash: toHex(txHash),
    chainId: o.chainId,
    flow: o.flow,
    feeNeuron: fee.toString(),
    sizeBytes: o.sizeBytes,
    tags: toHex(o.tags)
  }
}

/** What a dry run prints: what the put would cost, and whether it would cost anything. */
export async function quote(hash: FileHash, o: Pick<PutOptions, 'pool' | 'flow' | 'signal'>) {
  const call = o.signal === undefined ? {} : { signal: o.signal }
  const members = await o.pool.members(call)
  const infos = await knowledge(members, hash.root, o.signal)
  const { flowAddress } = await members[0]!.node.status(call)
  return {
    feeNeuron: await o.flow.fee(fromHex(flowAddress), sectorsOf(hash.nodes)),
    stored: [...infos.values()].filter(i => i?.finalized === true).length,
    known: [...infos.values()].some(i => i !== null && !i.pruned)
  }
}

function replicasOf(members: readonly Member[], o: PutOptions): number {
  for (let n = o.replicas; n >= 1; n--) {
    if (choose(members, n) === undefined) {
      if (o.fewer === true && n > 1) continue
      break
    }
    if (n < o.replicas) o.on?.fewer?.(n)
    return n
  }
  throw new ZgError('ERR_UNAVAILABLE', `${members.length} storage nodes answer, too few for ${o.replicas} replicas`, {
    facts: o.pool.problems.slice(-2),
    hint: o.replicas > 1 ? "give '--expected-replica 1', or run 'zg-devnet status'" : "run 'zg-devnet status'"
  })
}

function choose(members: readonly Member[], copies: number): Member[] | undefined {
  try {
    return selectNodes(members, copies, 'min')
  } catch {
    return undefined
  }
}

async function knowledge(
  members: readonly Member[],
  root: Uint8Array,
  signal: AbortSignal | undefined
): Promise<Map<Member, FileInfo | null>> {
  const call = signal === undefined ? {} : { signal }
  const answers = await Promise.all(
    members.map(async m => {
      const info = await m.node.fileInfo(root, true, { timeoutMs: 10_000, ...call }).catch(() => null)
      signal?.throwIfAborted()
      return [m, info !== null && equalBytes(info.root, root) ? info : null] as const
    })
  )
  return new Map(answers)
}

/** The submission to upload for: one that nodes know, one that the journal remembers, else a new one. */
async function entryOf(
  members: readonly Member[],
  infos: Map<Member, FileInfo | null>,
  hash: FileHash,
  journal: Journal,
  o: PutOptions
): Promise<{ receipt: SubmitReceipt | undefined; seq: number; fresh: boolean }> {
  const { flowAddress, chainId: nodeChain } = await members[0]!.node.status(callOf(o))
  const tags = o.tags ?? new Uint8Array(0)
  const remembered = await journal.read()
  if (remembered !== undefined && remembered.flow === flowAddress && remembered.tags === toHex(tags)) {
    const receipt = await resume(remembered, hash.root, nodeChain, o)
    if (receipt !== undefined) return { receipt, seq: receipt.seq, fresh: false }
  }
  if (o.always !== true) {
    const info = pendingEntry(infos)
    if (info !== undefined) return { receipt: undefined, seq: info.seq, fresh: false }
  }
  const { flow, chainId } = await payingFlow(members, o)
  const signer = await o.signer()
  o.on?.phase?.('submit')
  const about = { chainId, flow, sizeBytes: hash.size, tags }
  const submission = { size: hash.size, tags, nodes: hash.nodes }
  const receipt = await o.flow.submit({ flow: fromHex(flow), submission, signer }, (txHash, fee) =>
    journal.write(entryFor(txHash, fee, about))
  )
  await journal.write({
    ...entryFor(receipt.txHash, receipt.feeNeuron, about),
    seq: receipt.seq,
    blockNumber: receipt.blockNumber
  })
  o.on?.submitted?.(receipt)
  return { receipt, seq: receipt.seq, fresh: true }
}

/** The contract to pay: the one that the nodes follow, on the chain that we have. @throws {ZgError} ERR_WRONG_NETWORK. */
async function payingFlow(members: readonly Member[], o: PutOptions): Promise<{ flow: string; chainId: number }> {
  const { flowAddress, chainId: nodeChain } = await members[0]!.node.status(callOf(o))
  const chainId = await o.flow.chainId()
  if (chainId === nodeChain) return { flow: flowAddress, chainId }
  throw new ZgError('ERR_WRONG_NETWORK', `the chain has id ${chainId}, the storage nodes follow ${nodeChain}`, {
    hint: "give the chain of these nodes by '--rpc-url URL'"
  })
}

async function resume(
  e: JournalEntry,
  root: Uint8Array,
  nodeChain: number,
  o: PutOptions
): Promise<SubmitReceipt | undefined> {
  if (e.chainId !== nodeChain || (await o.flow.chainId()) !== e.chainId) return undefined
  return o.flow.resume(fromHex(e.txHash), BigInt(e.feeNeuron), root)
}
