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

/**
 * Stores one hashed file.
 * @throws {ZgError} ERR_UNAVAILABLE (too few nodes), ERR_FUNDS, ERR_REJECTED, ERR_LOCKED, ERR_NOT_SYNCED, ERR_TIMEOUT,
 *   ERR_WRONG_NETWORK (the chain and the nodes are of different networks).
 */
export async function put(source: Source, hash: FileHash, o: PutOptions): Promise<PutResult> {
  const call = o.signal === undefined ? {} : { signal: o.signal }
  const members = await o.pool.members(call)
  const infos = await knowledge(members, hash.root, o.signal)
  const final = members.filter(m => infos.get(m)?.finalized === true)
  const replicas = replicasOf(members, o)
  const base = { root: hash.root, sizeBytes: hash.size, segments: hash.shape.segments }
  if (o.always !== true) {
    const holders = choose(final, o.noWait ? 1 : replicas)
    if (holders !== undefined) {
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
  const journal = await Journal.open(o.journalDir, hash.root)
  try {
    const { receipt, seq, fresh } = await entryOf(members, infos, hash, journal, o)
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
  const call = o.signal === undefined ? {} : { signal: o.signal }
  const { flowAddress, chainId: nodeChain } = await members[0]!.node.status(call)
  const tags = toHex(o.tags ?? new Uint8Array(0))
  const remembered = await journal.read()
  if (remembered !== undefined && remembered.flow === flowAddress && remembered.tags === tags) {
    const receipt = await resume(remembered, nodeChain, o)
    if (receipt !== undefined) return { receipt, seq: receipt.seq, fresh: false }
  }
  if (o.always !== true) {
    // An entry that waits for its bytes is as good as ours, whoever paid for it.
    for (const info of infos.values()) {
      if (info !== null && !info.pruned && !info.isCached) return { receipt: undefined, seq: info.seq, fresh: false }
    }
  }
  const chainId = await o.flow.chainId()
  if (chainId !== nodeChain) {
    throw new ZgError('ERR_WRONG_NETWORK', `the chain has id ${chainId}, the storage nodes follow ${nodeChain}`, {
      hint: "give the chain of these nodes by '--rpc-url URL'"
    })
  }
  const signer = await o.signer()
  o.on?.phase?.('submit')
  const entry = (txHash: Uint8Array, fee: bigint): JournalEntry => ({
    txHash: toHex(txHash),
    chainId,
    flow: flowAddress,
    feeNeuron: fee.toString(),
    sizeBytes: hash.size,
    tags
  })
  const submission = { size: hash.size, tags: o.tags ?? new Uint8Array(0), nodes: hash.nodes }
  const receipt = await o.flow.submit({ flow: fromHex(flowAddress), submission, signer }, (txHash, fee) =>
    journal.write(entry(txHash, fee))
  )
  await journal.write({
    ...entry(receipt.txHash, receipt.feeNeuron),
    seq: receipt.seq,
    blockNumber: receipt.blockNumber
  })
  o.on?.submitted?.(receipt)
  return { receipt, seq: receipt.seq, fresh: true }
}

async function resume(e: JournalEntry, nodeChain: number, o: PutOptions): Promise<SubmitReceipt | undefined> {
  if (e.chainId !== nodeChain || (await o.flow.chainId()) !== e.chainId) return undefined
  return o.flow.resume(fromHex(e.txHash), BigInt(e.feeNeuron))
}
