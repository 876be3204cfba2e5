/**
 * Storage nodes among themselves over libp2p: announcements of final files by signed gossip, segments by streams
 * (docs/protocol/storage-raw.md, last two sections). What is heard is a hint; what is taken is checked like an upload.
 */
import type { FrameStream } from '../../../lib/adapters/libp2p/framing.ts'
import type { P2pNode, Verdict } from '../../../lib/adapters/libp2p/node.ts'
import { concat, equalBytes, fromUtf8, u32be, utf8 } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { FileStore } from '../core/file-store.ts'
import type { FlowIndex } from '../core/flow-index.ts'
import type { Tx } from '../core/tx.ts'
import type { SegmentUpload } from '../core/upload-checks.ts'
import { decodeFrameHead, encodeFrameHead, FRAME_HEAD_BYTES, frameUpload } from './frame.ts'
import { GET_SEGMENTS, type SegmentPeers } from './replicator.ts'

export interface PeerNetwork extends SegmentPeers {
  count(): number
  /** Where others can dial this node. */
  addresses(): string[]
  /** The HTTP address that a peer announced. */
  addressOf(peer: string): string | undefined
  announce(txs: readonly Tx[]): void
  info(): unknown
  describe(): unknown
  close(): Promise<void>
}

export interface PeersOptions {
  chainId: number
  flow: string
  dir: string
  port: number
  host: string
  bootstrap: string[]
  publicUrl: string
  store: FileStore
  index: FlowIndex
  clock: Clock
  logger: Logger
  onAnnounced: (root: Uint8Array, peer: string) => void
}

const PROTOCOL = '/zg/store/segment/1'
const REQUEST_BYTES = 41
const REQUESTS_PER_STREAM = 256
const HAVE_SEGMENTS = 65_536
const WAIT_MS = 15_000
/** Requests of all peers answered at the same time; each may hold a megabyte. */
const SERVING = 64
const IDLE_STREAMS = 4
const OP = { get: 1, have: 2 } as const
const STATUS = { ok: 0, unknown: 1, none: 2, bad: 3, busy: 4 } as const

const ANNOUNCE_EVERY_MS = 200
const ANNOUNCE_FILES = 256
const ANNOUNCE_QUEUE = 4096
const ANNOUNCE_BYTES = 64 * 1024
const ANNOUNCE_AGE_MS = 120_000
const FILE_ENTRY_BYTES = 48
const URLS = 1024

/** Loads libp2p and starts. @throws {ZgError} ERR_PORT_IN_USE, ERR_BAD_INPUT (addresses), ERR_PERMISSION (key file). */
export async function startPeers(o: PeersOptions): Promise<PeerNetwork> {
  const { startP2p } = await import('../../../lib/adapters/libp2p/node.ts')
  const topic = `/zg/store/files/1/${o.chainId}/${o.flow}`
  const family = o.host.includes(':') ? 'ip6' : 'ip4'
  const node = await startP2p({
    keyFile: `${o.dir}/p2p.key`,
    listen: [`/${family}/${o.host}/tcp/${o.port}`],
    bootstrap: o.bootstrap,
    topics: [topic],
    log: o.logger
  })
  const urls = new Map<string, string>()
  const links = new Links(node)
  await node.handle(PROTOCOL, server(o))
  const announcer = new Announcer(o, node, topic)
  const unsubscribe = node.subscribe(
    topic,
    (bytes, from) => {
      const a = decodeAnnouncement(bytes)
      if (typeof a === 'string') return
      if (a.url !== '' && (urls.size < URLS || urls.has(from))) urls.set(from, a.url)
      for (const root of a.roots) o.onAnnounced(root, from)
    },
    bytes => judge(bytes, o.clock.now())
  )
  return {
    count: () => node.peers().length,
    ids: () => node.peers(),
    addresses: () => node.addresses(),
    addressOf: peer => urls.get(peer),
    announce: txs => announcer.add(txs),
    async have(peer, root, first, count, signal) {
      const answer = await links.ask(peer, request(OP.have, root, first, Math.min(count, HAVE_SEGMENTS)), signal)
      if (answer[0] !== STATUS.ok || answer.length < 10) return undefined
      const bits = answer.subarray(10)
      return Array.from(
        { length: Math.min(count, 8 * bits.length) },
        (_, i) => ((bits[i >> 3]! << (i & 7)) & 0x80) !== 0
      )
    },
    async get(peer, root, first, count, signal) {
      const answer = await links.ask(peer, request(OP.get, root, first, Math.min(count, GET_SEGMENTS)), signal)
      return answer[0] === STATUS.ok ? decodeFrames(answer.subarray(1), root, first) : []
    },
    info() {
      const connected = node.peers().length
      const totalPeers = new Set([...urls.keys(), ...node.peers()]).size
      const directions = node.connections()
      return {
        peerId: node.peerId,
        listenAddresses: node.addresses(),
        totalPeers,
        connectedPeers: connected,
        disconnectedPeers: totalPeers - connected,
        connectedOutgoingPeers: directions.filter(c => c.direction === 'outbound').length,
        connectedIncomingPeers: directions.filter(c => c.direction === 'inbound').length
      }
    },
    describe: () => {
      const all = node.connections()
      return Object.fromEntries(
        node.peers().map(id => {
          const own = all.filter(c => c.peer === id)
          const connectionsIn = own.filter(c => c.direction === 'inbound').length
          const connectionsOut = own.length - connectionsIn
          return [
            id,
            {
              client: { version: '', os: '', protocol: '', agent: '' },
              connectionStatus: { status: 'connected', connectionsIn, connectionsOut, lastSeenSecs: 0 },
              listeningAddresses: own.map(c => c.address),
              seenIps: [...new Set(own.map(c => ipOf(c.address)))],
              isTrusted: false,
              connectionDirection: connectionsOut > 0 ? 'outgoing' : 'incoming',
              enr: null,
              httpUrl: urls.get(id) ?? null
            }
          ]
        })
      )
    },
    async close() {
      announcer.close()
      unsubscribe()
      links.close()
      await node.close()
    }
  }
}

/** The IP in a multiaddr such as /ip4/127.0.0.1/tcp/4001. */
function ipOf(address: string): string {
  return /^\/ip[46]\/([^/]+)/.exec(address)?.[1] ?? address
}

/** Answers the requests of peers. */
function server(o: PeersOptions): (stream: FrameStream) => Promise<void> {
  let serving = 0
  return async stream => {
    for (let n = 0; n < REQUESTS_PER_STREAM; n++) {
      const message = await stream.read({ maxBytes: REQUEST_BYTES, timeoutMs: WAIT_MS }).catch(() => undefined)
      if (message === undefined) break
      if (serving >= SERVING) {
        await stream.write(Uint8Array.of(STATUS.busy), { timeoutMs: WAIT_MS })
        continue
      }
      serving++
      try {
        await stream.write(await answer(o, message), { timeoutMs: WAIT_MS })
      } finally {
        serving--
      }
    }
    await stream.end()
  }
}

async function answer({ store }: PeersOptions, message: Uint8Array): Promise<Uint8Array> {
  if (message.length !== REQUEST_BYTES) return Uint8Array.of(STATUS.bad)
  const v = new DataView(message.buffer, message.byteOffset, message.byteLength)
  const op = message[0]
  const root = message.slice(1, 33)
  const first = v.getUint32(33)
  const count = v.getUint32(37)
  const most = op === OP.get ? GET_SEGMENTS : HAVE_SEGMENTS
  if ((op !== OP.get && op !== OP.have) || count < 1 || count > most) return Uint8Array.of(STATUS.bad)
  const tx = await store.select(root, true)
  if (tx === undefined) return Uint8Array.of(STATUS.unknown)
  if (op === OP.have) {
    const held = await store.held(root, first, count)
    const out = new Uint8Array(10 + Math.ceil(count / 8))
    out[1] = tx.status === 'final' ? 1 : 0
    new DataView(out.buffer).setBigUint64(2, BigInt(tx.size))
    for (const [i, yes] of held.entries()) if (yes) out[10 + (i >> 3)]! |= 0x80 >> (i & 7)
    return out
  }
  const parts: Uint8Array[] = [Uint8Array.of(STATUS.ok)]
  for (let i = first; i < first + count; i++) {
    const found = await store.read(tx, i)
    if (found === undefined) break
    parts.push(
      encodeFrameHead({ index: i, dataSize: found.data.length, fileSize: tx.size, root }, found.packed),
      found.data
    )
  }
  return parts.length === 1 ? Uint8Array.of(STATUS.none) : concat(...parts)
}

function request(op: number, root: Uint8Array, first: number, count: number): Uint8Array {
  return concat(Uint8Array.of(op), root, u32be(first), u32be(count))
}

/** @throws {ZgError} ERR_BAD_PROOF when it is not what was asked for: only a liar or a broken peer answers so. */
function decodeFrames(bytes: Uint8Array, root: Uint8Array, first: number): SegmentUpload[] {
  const out: SegmentUpload[] = []
  for (let at = 0; at < bytes.length; ) {
    const head = decodeFrameHead(bytes.subarray(at, at + FRAME_HEAD_BYTES))
    if (typeof head === 'string') throw new ZgError('ERR_BAD_PROOF', `peer sent ${head}`)
    const dataAt = at + FRAME_HEAD_BYTES + 32 * head.path.length
    const end = dataAt + head.dataSize
    const asked = equalBytes(head.root, root) && head.index === first + out.length && out.length < GET_SEGMENTS
    if (!asked || end > bytes.length) throw new ZgError('ERR_BAD_PROOF', 'peer sent another segment than asked for')
    out.push(frameUpload(head, bytes.slice(at + FRAME_HEAD_BYTES, dataAt), bytes.slice(dataAt, end)))
    at = end
  }
  return out
}

/** Open streams to peers, used again: a request costs one round trip. */
class Links {
  readonly #node: P2pNode
  readonly #idle = new Map<string, { stream: FrameStream; used: number }[]>()
  #closed = false

  constructor(node: P2pNode) {
    this.#node = node
  }

  /** One request, one answer. @throws {ZgError} ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_PROTOCOL, ERR_STOPPED. */
  async ask(peer: string, message: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    // An idle stream may have been closed by the other side meanwhile: then once more on a new one.
    const kept = this.#idle.get(peer)?.pop()
    if (kept !== undefined) {
      try {
        return await this.#exchange(peer, kept, message, signal)
      } catch (err) {
        if (signal.aborted) throw err
      }
    }
    const stream = await this.#node.open(peer, PROTOCOL, { timeoutMs: WAIT_MS })
    return this.#exchange(peer, { stream, used: 0 }, message, signal)
  }

  close(): void {
    this.#closed = true
    for (const list of this.#idle.values()) for (const { stream } of list) stream.abort('stopping')
    this.#idle.clear()
  }

  async #exchange(
    peer: string,
    link: { stream: FrameStream; used: number },
    message: Uint8Array,
    signal: AbortSignal
  ): Promise<Uint8Array> {
    const { stream } = link
    const onAbort = (): void => stream.abort('stopping')
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      if (signal.aborted) throw new ZgError('ERR_STOPPED', 'the node stops')
      await stream.write(message, { timeoutMs: WAIT_MS })
      const found = await stream.read({ timeoutMs: WAIT_MS })
      if (found === undefined || found.length === 0) throw new ZgError('ERR_PROTOCOL', `peer '${peer}' gave no answer`)
      this.#keep(peer, link)
      return found
    } catch (err) {
      stream.abort(messageOf(err))
      throw err
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  #keep(peer: string, link: { stream: FrameStream; used: number }): void {
    link.used++
    const list = this.#idle.get(peer) ?? []
    if (this.#closed || link.used >= REQUESTS_PER_STREAM || list.length >= IDLE_STREAMS) {
      void link.stream.end().catch(() => {})
      return
    }
    list.push(link)
    this.#idle.set(peer, list)
  }
}

/** Collects what became final and tells it a few times a second, so that thousands of small files cost few messages. */
class Announcer {
  readonly #o: PeersOptions
  readonly #node: P2pNode
  readonly #topic: string
  #queue: Tx[] = []
  #cancel: (() => void) | undefined

  constructor(o: PeersOptions, node: P2pNode, topic: string) {
    this.#o = o
    this.#node = node
    this.#topic = topic
  }

  add(txs: readonly Tx[]): void {
    // Beyond the bound nothing is lost: who wants a file asks for it anyway.
    if (this.#node.peers().length === 0 || this.#queue.length > ANNOUNCE_QUEUE) return
    this.#queue.push(...txs)
    this.#cancel ??= this.#o.clock.after(ANNOUNCE_EVERY_MS, () => {
      this.#cancel = undefined
      void this.#flush()
    })
  }

  close(): void {
    this.#cancel?.()
    this.#queue = []
  }

  async #flush(): Promise<void> {
    const queue = this.#queue
    this.#queue = []
    for (let i = 0; i < queue.length; i += ANNOUNCE_FILES) {
      const bytes = encodeAnnouncement(queue.slice(i, i + ANNOUNCE_FILES), this.#o.publicUrl, this.#o.clock.now())
      await this.#node.publish(this.#topic, bytes).catch(err => {
        this.#o.logger.debug('cannot announce', { error: messageOf(err) })
      })
    }
  }
}

/** The bytes of an announcement; `nowMs` is wall time. */
export function encodeAnnouncement(
  txs: readonly Pick<Tx, 'root' | 'seq' | 'size'>[],
  url: string,
  nowMs: number
): Uint8Array {
  const name = utf8(url)
  const out = new Uint8Array(12 + FILE_ENTRY_BYTES * txs.length + 2 + name.length)
  const v = new DataView(out.buffer)
  out[0] = 1
  out[1] = 1
  v.setBigUint64(2, BigInt(nowMs))
  v.setUint16(10, txs.length)
  for (const [i, tx] of txs.entries()) {
    const at = 12 + FILE_ENTRY_BYTES * i
    out.set(tx.root, at)
    v.setBigUint64(at + 32, BigInt(tx.seq))
    v.setBigUint64(at + 40, BigInt(tx.size))
  }
  const urlAt = 12 + FILE_ENTRY_BYTES * txs.length
  v.setUint16(urlAt, name.length)
  out.set(name, urlAt + 2)
  return out
}

/** An announcement read back; text: what is wrong with it. */
export function decodeAnnouncement(b: Uint8Array): { sentMs: number; roots: Uint8Array[]; url: string } | string {
  if (b.length < 14 || b.length > ANNOUNCE_BYTES) return 'wrong size'
  const v = new DataView(b.buffer, b.byteOffset, b.byteLength)
  if (b[0] !== 1 || b[1] !== 1) return 'unknown version or kind'
  const count = v.getUint16(10)
  const urlAt = 12 + FILE_ENTRY_BYTES * count
  if (count > ANNOUNCE_FILES || urlAt + 2 > b.length || urlAt + 2 + v.getUint16(urlAt) !== b.length) return 'wrong size'
  const url = fromUtf8(b.subarray(urlAt + 2))
  if (url !== '' && !/^https?:\/\/[\x21-\x7e]{1,200}$/.test(url)) return 'not a URL'
  const roots: Uint8Array[] = []
  for (let i = 0; i < count; i++) {
    const at = 12 + FILE_ENTRY_BYTES * i
    roots.push(b.slice(at, at + 32))
  }
  return { sentMs: Number(v.getBigUint64(2)), roots, url }
}

/** Malformed messages cost their sender score; old ones just end here. */
function judge(bytes: Uint8Array, nowMs: number): Verdict {
  const a = decodeAnnouncement(bytes)
  if (typeof a === 'string') return 'reject'
  return Math.abs(nowMs - a.sentMs) <= ANNOUNCE_AGE_MS ? 'accept' : 'ignore'
}
