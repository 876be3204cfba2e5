/**
 * A coding group on simulated time, net and disks: the real members (CodingGroup, FileStore, FlowIndex, SegmentLog) over lib/sim. One
 * seed decides delays, losses and what a crash leaves on a disk. Liars are members whose messages a test rewrites.
 */
import { FileStore } from '../../cmd/zg-store/core/file-store.ts'
import { FlowIndex } from '../../cmd/zg-store/core/flow-index.ts'
import type { Tx } from '../../cmd/zg-store/core/tx.ts'
import { type LeafOf, SegmentLog } from '../../cmd/zg-store/disk/segment-log.ts'
import { CodingGroup } from '../../cmd/zg-store/group/group.ts'
import {
  type GroupCodec,
  type GroupHandler,
  type GroupTimes,
  type Outgoing,
  type Packet,
  partsOf
} from '../../cmd/zg-store/group/ports.ts'
import { prefixKv } from '../../cmd/zg-store/group/prefix-kv.ts'
import { leavesOf } from '../../cmd/zg-store/group/shards.ts'
import { concat, equalBytes, utf8 } from '../../lib/base/bytes.ts'
import { ZgError } from '../../lib/base/errors.ts'
import { toHex } from '../../lib/base/hex.ts'
import { place } from '../../lib/codec/storage/flow-tree.ts'
import type { Manifest } from '../../lib/codec/storage/manifest.ts'
import { type GroupList, type Member, signGroup } from '../../lib/codec/storage/members.ts'
import { rsEncode, rsReconstruct } from '../../lib/codec/storage/rs.ts'
import { segmentLeaves, shape } from '../../lib/codec/storage/shape.ts'
import type { SubmitEvent } from '../../lib/codec/storage/submission.ts'
import { shardSum } from '../../lib/codec/storage/tower.ts'
import { type SigningKey, signingKey } from '../../lib/crypto/ed25519.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { codec } from '../../lib/native.ts'
import { type Logger, silentLog } from '../../lib/ops/log.ts'
import type { KvStore } from '../../lib/ports/kv.ts'
import { SimClock, settle } from '../../lib/sim/clock.ts'
import { type CrashMode, SimDisk } from '../../lib/sim/disk.ts'
import { openSimKv } from '../../lib/sim/kv.ts'
import { SeededRandom } from '../../lib/sim/random.ts'
import { type TestFile, testFile } from './flow-chain.ts'

/** Everything at once and on this thread, so that a seed is a history. */
export const syncCodec: GroupCodec = {
  root: async (data, leaves) => codec().segmentRootsSync(data, leaves)[0]!,
  encode: async (k, m, data) => rsEncode(k, m, data),
  reconstruct: async (k, m, shards, wanted) => rsReconstruct(k, m, shards, wanted),
  sum: async (rho, shard) => shardSum(rho, shard)
}

const segmentLeaf: LeafOf = async (data, index, fileSize) => {
  const s = shape(fileSize)
  if (index >= s.segments || data.length > segmentLeaves(s, index) * 256) return new Uint8Array(32)
  return codec().segmentRootsSync(data, segmentLeaves(s, index))[0]!
}
const simLeaf = leavesOf(segmentLeaf, (data, leaves) => syncCodec.root(data, leaves))

/** Seconds where the product has minutes. */
export const SIM_TIMES: GroupTimes = {
  beatMs: 500,
  suspectMs: 2_000,
  lostMs: 10_000,
  hedgeMs: 50,
  dropMs: 20_000,
  tickMs: 250,
  requestMs: 1_500,
  repairShare: 1,
  repairBytesPerSecond: 0,
  partitionMs: 600_000
}

export interface SimMember {
  readonly index: number
  readonly key: SigningKey
  disk: SimDisk
  up: boolean
  group: CodingGroup
  store: FileStore
  flow: FlowIndex
  log: SegmentLog
  kv: KvStore
  /** Counts its starts: messages to an earlier life get no answer. */
  life: number
}

export class SimGroup {
  readonly clock = new SimClock()
  readonly random: SeededRandom
  readonly members: SimMember[] = []
  readonly chain: TestFile[] = []
  readonly groupKey: SigningKey
  list: GroupList
  /** Part of all messages that are lost, 0 to 1. */
  loss = 0
  /** Sides that do not hear each other: a member's number decides; undefined: all hear all. */
  side: ((index: number) => number) | undefined
  /** Messages that arrived, by kind, and bytes of their bodies both ways. */
  readonly traffic = { messages: 0, bytes: 0 }
  /** Lies: gets what member `i` would answer to `op`, returns what it answers. */
  readonly liars = new Map<
    number,
    (op: number, asked: Packet, honest: GroupHandler, from: Uint8Array) => Promise<Outgoing>
  >()
  readonly logger: Logger
  readonly times: GroupTimes
  readonly #codecs: Map<number, GroupCodec>

  private constructor(seed: string, keys: SigningKey[], opts: SimOptions) {
    this.random = new SeededRandom(seed)
    this.groupKey = signingKey(new SeededRandom(`${seed}/group`).bytes(32))
    this.logger = opts.logger ?? silentLog
    this.times = { ...SIM_TIMES, ...opts.times }
    this.#codecs = opts.codecs ?? new Map()
    this.list = signGroup(
      {
        version: 1,
        chainId: 31337,
        flow: `0x${'22'.repeat(20)}`,
        members: keys.map((k, i) => member(k, opts.zones?.[i]))
      },
      this.groupKey
    )
  }

  /** n members, up and acquainted. @param spare - further keys that are not in the list yet. */
  static async start(n: number, seed: string, opts: SimOptions = {}): Promise<SimGroup> {
    const keys = Array.from({ length: n + (opts.spare ?? 0) }, (_, i) =>
      signingKey(new SeededRandom(`${seed}/member ${i}`).bytes(32))
    )
    const g = new SimGroup(seed, keys.slice(0, n), opts)
    for (const [i, key] of keys.entries()) {
      g.members.push({ index: i, key, disk: new SimDisk(), up: false, life: 0 } as SimMember)
    }
    for (let i = 0; i < n; i++) await g.up(i)
    await g.run(2 * g.times.beatMs)
    return g
  }

  /** Starts a member on what its disk has. */
  async up(i: number): Promise<void> {
    const m = this.members[i]!
    const { clock, logger } = this
    const kv = await openSimKv(m.disk, '/kv')
    const log = await SegmentLog.open({
      disk: m.disk,
      kv,
      clock,
      log: logger,
      dir: '/segments',
      leafOf: simLeaf,
      fileBytes: 8 * 1024 * 1024,
      groupMs: 1,
      onQuarantine: (root, index) => void m.group.rotten(root, index)
    })
    const stagingKv = prefixKv(kv, 'S')
    const staging = await SegmentLog.open({
      disk: m.disk,
      kv: stagingKv,
      clock,
      log: logger,
      dir: '/staging',
      leafOf: simLeaf,
      fileBytes: 2 * 1024 * 1024,
      groupMs: 1
    })
    const flow = await FlowIndex.open(kv)
    const life = ++m.life
    const files = {
      txs: (root: Uint8Array) => m.store.txsOf(root),
      settle: (root: Uint8Array) => m.store.settle(root),
      changed: (root: Uint8Array) => m.store.changed(root),
      gained: (root: Uint8Array, first: number, count: number) => m.store.gained(root, first, count),
      lost: (root: Uint8Array) => m.store.lost(root),
      prune: (root: Uint8Array) => m.store.pruned(root)
    }
    const group = await CodingGroup.open({
      key: m.key,
      list: this.list,
      kv: prefixKv(kv, 'G'),
      log,
      staging,
      stagedRoots: () => stagedRoots(stagingKv),
      clock,
      logger,
      net: { ask: (to, op, packet, o) => this.#ask(i, life, to, op, packet, o.timeoutMs), address: () => {} },
      codec: this.#codecs.get(i) ?? syncCodec,
      files,
      times: this.times
    })
    const shard = { shardId: 0, numShard: 1 }
    const store = new FileStore({ kv, index: flow, log, clock, logger, leafOf: simLeaf, shard, group })
    Object.assign(m, { group, store, flow, log, kv, up: true })
    await this.#follow(m)
    group.start()
    for await (const root of store.unsettled()) await store.settle(root)
  }

  /** The power goes; what the disk has afterwards depends on `mode`. */
  async kill(i: number, mode: CrashMode = 'none'): Promise<void> {
    const m = this.members[i]!
    if (!m.up) return
    m.up = false
    m.disk.crashNow()
    void m.group.close().catch(() => {})
    await settle()
    m.disk = m.disk.afterCrash(mode, `${this.random.u32()}`)
  }

  /** Everything but its key is gone. */
  wipe(i: number): void {
    this.members[i]!.disk = new SimDisk()
  }

  /** A submission that every member sees, those that are down when they come back. */
  async submit(bytes: Uint8Array): Promise<{ file: TestFile; seq: number }> {
    const file = testFile(bytes)
    const seq = this.chain.push(file) - 1
    for (const m of this.members) if (m.up) await this.#follow(m)
    return { file, seq }
  }

  async #follow(m: SimMember): Promise<void> {
    while (m.flow.nextSeq < this.chain.length) {
      const seq = m.flow.nextSeq
      const f = this.chain[seq]!
      const heights = f.nodes.map(n => n.height)
      const at = place(m.flow.length, heights)
      const event: SubmitEvent = {
        sender: new Uint8Array(20),
        identity: new Uint8Array(32),
        seq,
        startPos: at.start,
        sectors: at.sectors,
        submission: { size: f.size, tags: new Uint8Array(0), nodes: f.nodes },
        root: f.root
      }
      const prepared = m.flow.prepare([{ event, block: seq + 1 }], {
        block: seq + 1,
        hash: keccak256(utf8(`block ${seq + 1}`))
      })
      await m.flow.commit(prepared)
      // Its writes need the clock to move.
      void m.store.submitted(prepared.txs).catch(() => {})
    }
  }

  /** Sends segments through one member; waits for its answers. */
  async upload(i: number, file: TestFile, seq: number, only?: (index: number) => boolean): Promise<void> {
    const m = this.members[i]!
    const jobs = file.segments.filter(s => only?.(s.index) ?? true)
    await this.finish(
      Promise.all(jobs.map(async s => m.store.store({ ...s, proof: { ...s.proof } }, await m.flow.tx(seq))))
    )
  }

  /** Submits and uploads; waits until members say final. */
  async put(i: number, bytes: Uint8Array, opts: { finalAt?: number[] } = {}): Promise<{ file: TestFile; seq: number }> {
    const { file, seq } = await this.submit(bytes)
    await this.upload(i, file, seq)
    for (const at of opts.finalAt ?? this.members.filter(m => m.up).map(m => m.index)) {
      if (!(await this.until(() => this.isFinal(at, seq), 60_000)))
        throw new Error(`file ${seq} not final at member ${at}`)
    }
    return { file, seq }
  }

  async isFinal(i: number, seq: number): Promise<boolean> {
    return (await this.members[i]!.flow.tx(seq))?.status === 'final'
  }

  /** Manifests that a member keeps of a file. */
  async manifests(i: number, root: Uint8Array): Promise<Manifest[]> {
    const out: Manifest[] = []
    for await (const m of this.members[i]!.group.manifestsOf(root)) out.push(m)
    return out
  }

  async tx(i: number, seq: number): Promise<Tx> {
    return (await this.members[i]!.flow.tx(seq))!
  }

  /**
   * Reads a whole file through one member.
   * @returns 'same', 'none' when some segment was not had, or 'wrong': bytes that are not the file's.
   */
  async read(i: number, seq: number): Promise<'same' | 'none' | 'wrong'> {
    const f = this.chain[seq]!
    const m = this.members[i]!
    const tx = (await m.flow.tx(seq))!
    for (const s of f.segments) {
      const found = await this.finish(m.store.read(tx, s.index))
      if (found === undefined) return 'none'
      if (!equalBytes(found.data, s.data) || !equalBytes(found.leaf, s.leaf)) return 'wrong'
      const { lemma, path } = found.proof
      const same = lemma.length === s.proof.lemma.length && lemma.every((h, k) => equalBytes(h, s.proof.lemma[k]!))
      if (!same || path.some((b, k) => b !== s.proof.path[k])) return 'wrong'
    }
    return 'same'
  }

  /** Fewest good shards of a file's stripes as member `i` sees them, and whether all shards are acknowledged. */
  async health(i: number, seq: number): Promise<{ survivors: number; whole: boolean; stripes: number }> {
    const states = await this.members[i]!.group.stripes(this.chain[seq]!.root)
    return {
      stripes: states.length,
      survivors: Math.min(...states.map(s => s.survivors)),
      whole: states.length > 0 && states.every(s => s.survivors === s.count)
    }
  }

  /** Every shard of these files is acknowledged, as member `i` sees it, and somebody computed their parity again. */
  async sound(seqs: readonly number[], i = this.members.find(m => m.up)!.index): Promise<boolean> {
    for (const seq of seqs) {
      if (!(await this.health(i, seq)).whole) return false
      const views = await Promise.all(this.members.filter(m => m.up).map(m => m.group.stripes(this.chain[seq]!.root)))
      if (!views[0]!.every((_, k) => views.some(v => v[k]?.checked))) return false
    }
    return true
  }

  /** Lets virtual time pass. */
  async run(ms: number): Promise<void> {
    await this.clock.advance(ms)
  }

  /** Lets time pass until something holds; false when it did not within `ms`. */
  async until(holds: () => Promise<boolean>, ms: number): Promise<boolean> {
    const end = this.clock.monotonic() + ms
    while (!(await holds())) {
      if (this.clock.monotonic() >= end) return false
      await this.clock.advance(20)
    }
    return true
  }

  /** Lets time pass until a promise of the product settles. */
  async finish<T>(promise: Promise<T>): Promise<T> {
    let over = false
    const done = promise.finally(() => {
      over = true
    })
    done.catch(() => {})
    for (let i = 0; i < 100_000 && !over; i++) {
      await settle()
      if (!over && !this.clock.step()) await settle()
    }
    if (!over) throw new Error('a call never ended')
    return done
  }

  async close(): Promise<void> {
    for (const m of this.members) if (m.up) await this.finish(m.group.close())
  }

  async #ask(
    from: number,
    life: number,
    to: Uint8Array,
    op: number,
    packet: Outgoing,
    timeoutMs: number
  ): Promise<Packet> {
    const target = this.members.find(m => equalBytes(m.key.publicKey, to))
    const way = async (): Promise<boolean> => {
      await this.clock.sleep(1 + this.random.below(4))
      if (this.random.chance(this.loss)) return false
      return this.side === undefined || this.side(from) === this.side(target?.index ?? -1)
    }
    const timeout = async (begunMs: number): Promise<never> => {
      await this.clock.sleep(Math.max(0, begunMs + timeoutMs - this.clock.monotonic()))
      throw new ZgError('ERR_TIMEOUT', 'no answer')
    }
    const begunMs = this.clock.monotonic()
    const arrived = await way()
    if (target === undefined || !target.up) throw new ZgError('ERR_UNAVAILABLE', 'nobody there')
    if (!arrived) return timeout(begunMs)
    const theirs = target.life
    const copy = { head: packet.head.slice(), body: concat(...partsOf(packet)) }
    packet.done?.()
    this.traffic.messages++
    this.traffic.bytes += copy.body.length
    const sender = this.members[from]!.key.publicKey
    const lie = this.liars.get(target.index)
    let answer: Outgoing
    try {
      answer = await (lie === undefined
        ? target.group.handle(sender, op, copy)
        : lie(op, copy, target.group.handle, sender))
    } catch (err) {
      if (!target.up || target.life !== theirs) return timeout(begunMs)
      await way()
      throw err instanceof ZgError ? err : new ZgError('ERR_PROTOCOL', String(err))
    }
    const body = concat(...partsOf(answer))
    answer.done?.()
    if (!target.up || target.life !== theirs || this.members[from]!.life !== life) return timeout(begunMs)
    if (!(await way())) return timeout(begunMs)
    this.traffic.bytes += body.length
    return { head: answer.head.slice(), body }
  }

  /** A new list with these members, given to member `at`; it spreads by itself. */
  async newList(members: readonly number[], at: number): Promise<void> {
    this.list = signGroup(
      {
        version: this.list.version + 1,
        chainId: 31337,
        flow: this.list.flow,
        members: members.map(i => member(this.members[i]!.key))
      },
      this.groupKey
    )
    const { groupToJson } = await import('../../lib/codec/storage/members.ts')
    await this.finish(this.members[at]!.group.adopt(groupToJson(this.list)))
  }

  /** Shards on each member's disk, by member. */
  async shares(): Promise<number[]> {
    const out: number[] = []
    for (const m of this.members) {
      let n = 0
      if (m.up) for await (const _ of m.kv.scan({ gte: utf8('Gh'), lt: utf8('Gi') })) n++
      out.push(n)
    }
    return out
  }
}

export interface SimOptions {
  spare?: number
  /** Failure zone of each member. */
  zones?: readonly string[]
  times?: Partial<GroupTimes>
  logger?: Logger
  /** Lying encoders. */
  codecs?: Map<number, GroupCodec>
}

function member(key: SigningKey, zone?: string): Member {
  const at = { id: key.publicKey, peer: `http://${toHex(key.publicKey).slice(2, 10)}:1` }
  return zone === undefined ? at : { ...at, zone }
}

/** Content of a file: each seed another. */
export function content(seed: string, size: number): Uint8Array {
  const block = new SeededRandom(seed).bytes(Math.min(size, 4096))
  const out = new Uint8Array(size)
  for (let at = 0; at < size; at += block.length) out.set(block.subarray(0, Math.min(block.length, size - at)), at)
  for (let at = 0; at + 8 <= size; at += 65_536) new DataView(out.buffer).setUint32(at, at + 1)
  return out
}

async function* stagedRoots(kv: KvStore): AsyncGenerator<Uint8Array> {
  let last: Uint8Array | undefined
  for await (const [k] of kv.scan({ gte: Uint8Array.of(0x73), lt: Uint8Array.of(0x74) })) {
    const root = k.slice(1, 33)
    if (last !== undefined && equalBytes(last, root)) continue
    last = root
    yield root
  }
}

/** All sets of `size` of 0 … n − 1. */
export function* choices(n: number, size: number, from = 0): Generator<number[]> {
  if (size === 0) {
    yield []
    return
  }
  for (let i = from; i + size <= n; i++) for (const rest of choices(n, size - 1, i + 1)) yield [i, ...rest]
}
