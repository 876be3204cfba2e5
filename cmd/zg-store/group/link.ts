/**
 * Members over HTTP, on the port that clients use: `POST /v1/group/hello` once a pair, `POST /v1/group/message` for everything else. Raw HTTP
 * because a shard needs neither encryption nor multiplexing on its way (docs/decisions/0050).
 *
 * ```
 *   hello    from 32 │ to 32 │ X25519 key 32 │ Ed25519 signature 64        →  session 16 │ X25519 key 32 │ signature 64
 *   message  head length u32 │ head │ body;  x-zg-session, x-zg-op, x-zg-n (counts up), x-zg-mac    → the same, with x-zg-mac
 * ```
 *
 * The key of a session comes from both ephemeral keys, so a recorded hello is of no use. The MAC covers session, number, op and head; the
 * body is a shard whose root stands in the head, or manifests and lists that carry their own signatures. What is private is not kept
 * secret by this: shards are as readable on the wire as in a download.
 */
import {
  createHmac,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
  timingSafeEqual
} from 'node:crypto'
import { Agent, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { HttpRoute } from '../../../lib/adapters/jsonrpc/types.ts'
import { concat, equalBytes, u32be, u64be, utf8, view } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { fromHex, toHex } from '../../../lib/base/hex.ts'
import { type SigningKey, verifyEd25519 } from '../../../lib/crypto/ed25519.ts'
import { keccak256, sha256 } from '../../../lib/crypto/hash.ts'
import { codec } from '../../../lib/native.ts'
import { UploadRefusal } from '../core/upload-checks.ts'
import { name } from './members.ts'
import { type GroupCodec, type GroupHandler, type GroupNet, NOTHING, type Op, type Packet } from './ports.ts'
import { nativeRoot } from './shards.ts'

/** A shard with its head, or a page of manifests. */
const MESSAGE_BYTES = 4 * 1024 * 1024
const HELLO_BYTES = 160
const SESSIONS = 1024
const SOCKETS = 16
/** Numbers below the highest seen that may still come. */
const WINDOW = 4096
const READ_MS = 30_000
const HELLO_DOMAIN = utf8('zg/store/group/hello/1')
const WELCOME_DOMAIN = utf8('zg/store/group/welcome/1')
const SPKI_X25519 = fromHex('0x302a300506032b656e032100')

interface Session {
  readonly id: string
  readonly peer: Uint8Array
  readonly key: Uint8Array
  /** Sender: last number used. Receiver: highest seen. */
  number: number
  readonly seen: Set<number>
}

/** The arithmetic of stripes, native and off the event loop. */
export const nativeCodec: GroupCodec = {
  root: nativeRoot,
  encode: (k, m, data) => codec().rs.encode(k, m, data),
  reconstruct: (k, m, shards, wanted) => codec().rs.reconstruct(k, m, shards, wanted),
  sum: async (rho, shard) => (await codec().rs.shardSums(rho, [shard]))[0]!
}

export interface GroupLink extends GroupNet {
  /** Answers everything under /v1/group/. */
  readonly route: HttpRoute
  close(): void
}

/** @param group - public key of the group: sessions of two groups never meet. */
export function groupLink(key: SigningKey, group: Uint8Array, handler: () => GroupHandler | undefined): GroupLink {
  const agent = new Agent({ keepAlive: true, maxSockets: SOCKETS, keepAliveMsecs: 1_000, timeout: 60_000 })
  const urls = new Map<string, string>()
  const incoming = new Map<string, Session>()
  const outgoing = new Map<string, Promise<Session>>()

  async function hello(to: Uint8Array, timeoutMs: number): Promise<Session> {
    const mine = generateKeyPairSync('x25519')
    const ephemeral = rawKey(mine.publicKey)
    const signature = key.sign(keccak256(HELLO_DOMAIN, group, key.publicKey, to, ephemeral))
    const body = concat(key.publicKey, to, ephemeral, signature)
    const answer = await post(urlOf(to), '/v1/group/hello', {}, [body], timeoutMs)
    const b = answer.bytes
    if (answer.status !== 200 || b.length !== 112) throw protocol(to, `answered a greeting with ${answer.status}`)
    const [id, theirs] = [b.slice(0, 16), b.slice(16, 48)]
    const told = keccak256(WELCOME_DOMAIN, group, to, key.publicKey, ephemeral, theirs, id)
    if (!verifyEd25519(to, told, b.slice(48))) throw protocol(to, 'is somebody else')
    return { id: toHex(id), peer: to, key: sessionKey(mine.privateKey, theirs, id), number: 0, seen: new Set() }
  }

  function sessionTo(to: Uint8Array, timeoutMs: number): Promise<Session> {
    const at = name(to)
    let found = outgoing.get(at)
    if (found === undefined) {
      found = hello(to, timeoutMs)
      outgoing.set(at, found)
      found.catch(() => outgoing.delete(at))
    }
    return found
  }

  function urlOf(to: Uint8Array): string {
    const url = urls.get(name(to))
    if (url === undefined) throw new ZgError('ERR_UNAVAILABLE', `no address of member ${toHex(to)} is known`)
    return url
  }

  function post(
    url: string,
    path: string,
    headers: Record<string, string>,
    parts: readonly Uint8Array[],
    timeoutMs: number,
    signal?: AbortSignal
  ): Promise<{ status: number; bytes: Uint8Array; mac: string }> {
    return new Promise((resolve, reject) => {
      const length = parts.reduce((n, p) => n + p.length, 0)
      const req = request(
        url + path,
        {
          method: 'POST',
          agent,
          headers: { 'content-type': 'application/octet-stream', 'content-length': length, ...headers },
          ...(signal === undefined ? {} : { signal })
        },
        res => {
          readAll(res, MESSAGE_BYTES).then(
            bytes =>
              done(() => resolve({ status: res.statusCode ?? 0, bytes, mac: String(res.headers['x-zg-mac'] ?? '') })),
            err => done(() => reject(err))
          )
        }
      )
      const timer = setTimeout(() => req.destroy(new ZgError('ERR_TIMEOUT', `no answer from ${url}`)), timeoutMs)
      const done = (fn: () => void): void => {
        clearTimeout(timer)
        fn()
      }
      req.on('error', err => {
        done(() =>
          reject(
            err instanceof ZgError
              ? err
              : new ZgError('ERR_UNAVAILABLE', `cannot reach ${url}: ${messageOf(err)}`, {
                  cause: { err, reused: req.reusedSocket }
                })
          )
        )
      })
      for (const p of parts.slice(0, -1)) req.write(p)
      req.end(parts.at(-1))
    })
  }

  async function exchange(
    to: Uint8Array,
    op: Op,
    packet: Packet,
    opts: { timeoutMs: number; signal?: AbortSignal }
  ): Promise<Packet | 'again'> {
    const session = await sessionTo(to, opts.timeoutMs)
    const n = ++session.number
    const headers = {
      'x-zg-session': session.id,
      'x-zg-op': String(op),
      'x-zg-n': String(n),
      'x-zg-mac': mac(session.key, 'q', n, op, packet.head)
    }
    const parts = [concat(u32be(packet.head.length), packet.head), packet.body]
    const answer = await post(urlOf(to), '/v1/group/message', headers, parts, opts.timeoutMs, opts.signal)
    if (answer.status === 401) {
      outgoing.delete(name(to))
      return 'again'
    }
    if (answer.status !== 200) {
      throw protocol(to, `refused a message: ${new TextDecoder().decode(answer.bytes.subarray(0, 200))}`)
    }
    const found = split(answer.bytes)
    if (found === undefined || !sameMac(answer.mac, mac(session.key, 'a', n, op, found.head))) {
      throw protocol(to, 'sent an answer that is not its own')
    }
    return found
  }

  async function serve(req: IncomingMessage, res: ServerResponse, path: string): Promise<void> {
    const bytes = await readAll(req, MESSAGE_BYTES)
    if (path === '/v1/group/hello') return welcome(res, bytes)
    const session = incoming.get(String(req.headers['x-zg-session']))
    if (session === undefined) return end(res, 401, 'no such session')
    const n = Number(req.headers['x-zg-n'])
    const op = Number(req.headers['x-zg-op'])
    const packet = split(bytes)
    if (packet === undefined || !Number.isSafeInteger(n) || n <= 0 || !Number.isInteger(op)) {
      return end(res, 400, 'not a message')
    }
    if (!sameMac(String(req.headers['x-zg-mac']), mac(session.key, 'q', n, op, packet.head))) {
      return end(res, 403, 'not of this session')
    }
    if (session.seen.has(n) || n + WINDOW <= session.number) return end(res, 403, 'seen before')
    session.seen.add(n)
    if (n > session.number) {
      session.number = n
      if (session.seen.size > 2 * WINDOW) for (const s of session.seen) if (s + WINDOW <= n) session.seen.delete(s)
    }
    const handle = handler()
    if (handle === undefined) return end(res, 503, 'not ready')
    let answer: Packet
    try {
      answer = await handle(session.peer, op, packet)
    } catch (err) {
      const status =
        err instanceof ZgError && err.code === 'ERR_DISK_FULL' ? 507 : err instanceof UploadRefusal ? 400 : 500
      return end(res, status, messageOf(err))
    }
    res.writeHead(200, {
      'content-type': 'application/octet-stream',
      'content-length': 4 + answer.head.length + answer.body.length,
      'x-zg-mac': mac(session.key, 'a', n, op, answer.head)
    })
    res.write(concat(u32be(answer.head.length), answer.head))
    res.end(answer.body)
  }

  function welcome(res: ServerResponse, b: Uint8Array): void {
    if (b.length !== HELLO_BYTES) {
      end(res, 400, 'not a greeting')
      return
    }
    const [from, to, theirs] = [b.slice(0, 32), b.slice(32, 64), b.slice(64, 96)]
    const told = keccak256(HELLO_DOMAIN, group, from, to, theirs)
    if (!equalBytes(to, key.publicKey) || !verifyEd25519(from, told, b.slice(96))) {
      end(res, 403, 'not for this node, or not signed')
      return
    }
    const mine = generateKeyPairSync('x25519')
    const ephemeral = rawKey(mine.publicKey)
    const id = keccak256(from, theirs, ephemeral).slice(0, 16)
    let secret: Uint8Array
    try {
      secret = sessionKey(mine.privateKey, theirs, id)
    } catch {
      end(res, 400, 'not a key')
      return
    }
    if (incoming.size >= SESSIONS) {
      const oldest = incoming.keys().next()
      if (!oldest.done) incoming.delete(oldest.value)
    }
    incoming.set(toHex(id), { id: toHex(id), peer: from, key: secret, number: 0, seen: new Set() })
    const signature = key.sign(keccak256(WELCOME_DOMAIN, group, key.publicKey, from, theirs, ephemeral, id))
    res.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': 112 })
    res.end(concat(id, ephemeral, signature))
  }

  return {
    address(id, url) {
      if (urls.get(name(id)) !== url) outgoing.delete(name(id))
      urls.set(name(id), url.replace(/\/$/, ''))
    },
    async ask(to, op, packet, opts) {
      for (let attempt = 0; ; attempt++) {
        try {
          const answer = await exchange(to, op, packet, opts)
          if (answer !== 'again') return answer
          if (attempt >= 2) throw protocol(to, 'does not keep its sessions')
        } catch (err) {
          // A kept connection that the other side has just closed: nothing was lost, once more on a new one.
          const cause = err instanceof ZgError ? (err.cause as { reused?: boolean } | undefined) : undefined
          if (cause?.reused !== true || attempt >= 2 || opts.signal?.aborted === true) throw err
        }
      }
    },
    route: (req, res, url) => {
      if (!url.pathname.startsWith('/v1/group/')) return false
      const known = url.pathname === '/v1/group/hello' || url.pathname === '/v1/group/message'
      if (!known || req.method !== 'POST') {
        end(res, 404, 'nothing here')
        return true
      }
      return serve(req, res, url.pathname).then(
        () => true,
        err => {
          if (!res.headersSent) end(res, 400, messageOf(err))
          return true
        }
      )
    },
    close: () => agent.destroy()
  }
}

function split(b: Uint8Array): Packet | undefined {
  if (b.length < 4) return undefined
  const size = view(b).getUint32(0)
  if (4 + size > b.length) return undefined
  return { head: b.slice(4, 4 + size), body: size + 4 === b.length ? NOTHING : b.subarray(4 + size) }
}

function mac(key: Uint8Array, way: 'q' | 'a', n: number, op: number, head: Uint8Array): string {
  return createHmac('sha256', key).update(way).update(u64be(n)).update(u32be(op)).update(head).digest('hex')
}

function sameMac(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b))
}

function rawKey(key: KeyObject): Uint8Array {
  return new Uint8Array(key.export({ format: 'der', type: 'spki' }).subarray(SPKI_X25519.length))
}

function sessionKey(mine: KeyObject, theirs: Uint8Array, id: Uint8Array): Uint8Array {
  const publicKey = createPublicKey({ key: Buffer.from(concat(SPKI_X25519, theirs)), format: 'der', type: 'spki' })
  return sha256(HELLO_DOMAIN, new Uint8Array(diffieHellman({ privateKey: mine, publicKey })), id)
}

function end(res: ServerResponse, status: number, text: string): void {
  const bytes = utf8(text)
  res.writeHead(status, { 'content-type': 'text/plain', 'content-length': bytes.length })
  res.end(bytes)
}

function protocol(to: Uint8Array, what: string): ZgError {
  return new ZgError('ERR_PROTOCOL', `member ${toHex(to)} ${what}`)
}

/** A whole body in one array of its own. */
function readAll(stream: IncomingMessage, most: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const length = Number(stream.headers['content-length'])
    if (!Number.isInteger(length) || length < 0 || length > most) {
      stream.destroy()
      reject(new ZgError('ERR_PROTOCOL', 'a message without a length, or too long'))
      return
    }
    const out = new Uint8Array(Buffer.allocUnsafeSlow(length).buffer)
    let at = 0
    const timer = setTimeout(() => stream.destroy(new ZgError('ERR_TIMEOUT', 'a message stands still')), READ_MS)
    stream.on('data', (chunk: Buffer) => {
      if (at + chunk.length > length) return void stream.destroy()
      out.set(chunk, at)
      at += chunk.length
    })
    stream.on('end', () => {
      clearTimeout(timer)
      if (at === length) resolve(out)
      else reject(new ZgError('ERR_PROTOCOL', 'a message was cut off'))
    })
    stream.on('error', err => {
      clearTimeout(timer)
      reject(err)
    })
    stream.on('close', () => {
      clearTimeout(timer)
      if (at < length) reject(new ZgError('ERR_UNAVAILABLE', 'the connection broke'))
    })
  })
}
