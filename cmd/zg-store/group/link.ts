/**
 * Members over HTTP, on the port that clients use: `POST /v1/group/hello` once a pair, `POST /v1/group/message` for everything else. Raw HTTP
 * because a shard needs neither encryption nor multiplexing on its way (docs/decisions/0050).
 *
 * ```
 *   hello    from 32 │ to 32 │ X25519 key 32 │ Ed25519 signature 64        →  session 16 │ X25519 key 32 │ signature 64
 *   message  session 16 │ number u64 │ op u8 │ mac 32 │ head length u32 │ head │ body    →  mac 32 │ head length u32 │ head │ body
 * ```
 *
 * The key of a session comes from both ephemeral keys, so a recorded hello is of no use. The MAC covers session, number (it counts up), op
 * and head; the body is shards whose roots stand in the head, or manifests and lists that carry their own signatures. What is private is
 * not kept secret by this: shards are as readable on the wire as in a download.
 */
import { createPublicKey, diffieHellman, generateKeyPairSync, type KeyObject, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { HttpRoute } from '../../../lib/adapters/jsonrpc/types.ts'
import { concat, equalBytes, u32be, u64be, utf8, view } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { fromHex, toHex } from '../../../lib/base/hex.ts'
import { exchange as httpExchange } from '../../../lib/clients/store/http.ts'
import { wireExchange } from '../../../lib/clients/store/wire.ts'
import { type SigningKey, verifyEd25519 } from '../../../lib/crypto/ed25519.ts'
import { keccak256, sha256 } from '../../../lib/crypto/hash.ts'
import { codec } from '../../../lib/native.ts'
import { UploadRefusal } from '../core/upload-checks.ts'
import { BodyReader } from '../node/body-reader.ts'
import { name } from './members.ts'
import { block } from './memory.ts'
import {
  type AskOptions,
  type GroupCodec,
  type GroupHandler,
  type GroupNet,
  type Op,
  type Outgoing,
  type Packet,
  partsOf
} from './ports.ts'
import { nativeRoot } from './shards.ts'

/** Sixteen shards, or a page of manifests. */
const MESSAGE_BYTES = 5 * 1024 * 1024
const HELLO_BYTES = 160
/** Before the head of a message, and of its answer. */
const FIXED_BYTES = 16 + 8 + 1 + 32 + 4
const ANSWER_BYTES = 32 + 4
const HEAD_BYTES = 256 * 1024
const SESSIONS = 1024
/** Numbers below the highest seen that may still come. */
const WINDOW = 4096
const READ_MS = 30_000
const HELLO_DOMAIN = utf8('zg/store/group/hello/1')
const WELCOME_DOMAIN = utf8('zg/store/group/welcome/1')
const SPKI_X25519 = fromHex('0x302a300506032b656e032100')

interface Session {
  readonly bytes: Uint8Array
  readonly peer: Uint8Array
  readonly key: Uint8Array
  /** Sender: last number used. Receiver: highest seen. */
  number: number
  readonly seen: Set<number>
}

/** The arithmetic of stripes, native and off the event loop. */
export const nativeCodec: GroupCodec = {
  root: nativeRoot,
  encode: (k, m, data, out) => codec().rs.encode(k, m, data, out),
  reconstruct: (k, m, shards, wanted) => codec().rs.reconstruct(k, m, shards, wanted),
  sum: async (rho, shard) => (await codec().rs.shardSums(rho, [shard]))[0]!
}

export interface GroupLink extends GroupNet {
  /** Answers everything under /v1/group/. */
  readonly route: HttpRoute
  /** Where a member can be reached, as far as known. */
  urlOf(id: Uint8Array): string | undefined
  close(): void
}

/** @param group - public key of the group: sessions of two groups never meet. */
export function groupLink(key: SigningKey, group: Uint8Array, handler: () => GroupHandler | undefined): GroupLink {
  const urls = new Map<string, string>()
  const incoming = new Map<string, Session>()
  const outgoing = new Map<string, Promise<Session>>()

  async function hello(to: Uint8Array, timeoutMs: number): Promise<Session> {
    const mine = generateKeyPairSync('x25519')
    const ephemeral = rawKey(mine.publicKey)
    const signature = key.sign(keccak256(HELLO_DOMAIN, group, key.publicKey, to, ephemeral))
    const body = concat(key.publicKey, to, ephemeral, signature)
    const answer = await post(urlOf(to), '/v1/group/hello', [body], { timeoutMs })
    const b = Uint8Array.from(answer.bytes)
    if (answer.status !== 200 || b.length !== 112) throw protocol(to, `answered a greeting with ${answer.status}`)
    const [id, theirs] = [b.slice(0, 16), b.slice(16, 48)]
    const told = keccak256(WELCOME_DOMAIN, group, to, key.publicKey, ephemeral, theirs, id)
    if (!verifyEd25519(to, told, b.slice(48))) throw protocol(to, 'is somebody else')
    return { bytes: id, peer: to, key: sessionKey(mine.privateKey, theirs, id), number: 0, seen: new Set() }
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

  async function post(
    url: string,
    path: string,
    body: readonly Uint8Array[],
    opts: AskOptions
  ): Promise<{ status: number; bytes: Uint8Array }> {
    const { timeoutMs, signal, into } = opts
    const more = { method: 'POST', body, maxBytes: MESSAGE_BYTES, timeoutMs, signal }
    const base = new URL(url)
    if (base.protocol === 'http:' && base.pathname === '/' && base.search === '') {
      const answer = await wireExchange(base, path, { ...more, into })
      if (answer !== 'unsupported') return { status: answer.status, bytes: answer.body }
    }
    // TLS, a path, or a proxy in between: the ordinary client.
    const headers = { 'content-type': 'application/octet-stream' }
    const answer = await httpExchange(url + path, { ...more, headers })
    return { status: answer.status, bytes: answer.body }
  }

  async function exchange(to: Uint8Array, op: Op, packet: Outgoing, opts: AskOptions): Promise<Packet | 'again'> {
    const session = await sessionTo(to, opts.timeoutMs)
    const n = ++session.number
    const { head } = packet
    const tag = mac(session.key, 'q', n, op, head)
    const fixed = concat(session.bytes, u64be(n), Uint8Array.of(op), tag, u32be(head.length), head)
    const answer = await post(urlOf(to), '/v1/group/message', [fixed, ...partsOf(packet)], opts)
    if (answer.status === 401) {
      outgoing.delete(name(to))
      return 'again'
    }
    if (answer.status !== 200) {
      throw protocol(to, `refused a message: ${new TextDecoder().decode(answer.bytes.subarray(0, 200))}`)
    }
    const found = split(plain(answer.bytes))
    if (found === undefined || !sameMac(found.tag, mac(session.key, 'a', n, op, found.head))) {
      throw protocol(to, 'sent an answer that is not its own')
    }
    return found
  }

  async function serve(req: IncomingMessage, res: ServerResponse, path: string): Promise<void> {
    const length = Number(req.headers['content-length'])
    if (!Number.isInteger(length) || length < 0 || length > MESSAGE_BYTES) {
      throw new ZgError('ERR_PROTOCOL', 'a message without a length, or too long')
    }
    const timer = setTimeout(() => req.destroy(), READ_MS)
    const memory = block(length)
    try {
      const bytes = memory.bytes.subarray(0, length)
      const got = await new BodyReader(req).fill(bytes)
      clearTimeout(timer)
      if (got < length) throw new ZgError('ERR_UNAVAILABLE', 'a message was cut off')
      if (path === '/v1/group/hello') welcome(res, bytes.slice())
      else await message(res, bytes)
    } finally {
      clearTimeout(timer)
      memory.release()
    }
  }

  async function message(res: ServerResponse, bytes: Uint8Array): Promise<void> {
    if (bytes.length < FIXED_BYTES) return end(res, 400, 'not a message')
    const session = incoming.get(toHex(bytes.subarray(0, 16)))
    if (session === undefined) return end(res, 401, 'no such session')
    const v = view(bytes)
    const n = Number(v.getBigUint64(16))
    const op = bytes[24]!
    const headBytes = v.getUint32(57)
    if (!Number.isSafeInteger(n) || n <= 0 || headBytes > HEAD_BYTES || FIXED_BYTES + headBytes > bytes.length) {
      return end(res, 400, 'not a message')
    }
    const packet = {
      head: bytes.slice(FIXED_BYTES, FIXED_BYTES + headBytes),
      body: bytes.subarray(FIXED_BYTES + headBytes)
    }
    if (!sameMac(bytes.subarray(25, 57), mac(session.key, 'q', n, op, packet.head))) {
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
    let answer: Outgoing
    try {
      answer = await handle(session.peer, op, packet)
    } catch (err) {
      const status =
        err instanceof ZgError && err.code === 'ERR_DISK_FULL' ? 507 : err instanceof UploadRefusal ? 400 : 500
      return end(res, status, messageOf(err))
    }
    const parts = partsOf(answer).filter(p => p.length > 0)
    const head = concat(mac(session.key, 'a', n, op, answer.head), u32be(answer.head.length), answer.head)
    const size = parts.reduce((sum, p) => sum + p.length, head.length)
    res.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': size })
    if (answer.done !== undefined) res.once('close', answer.done)
    res.cork()
    res.write(head)
    for (const p of parts) res.write(p)
    res.uncork()
    res.end()
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
    incoming.set(toHex(id), { bytes: id, peer: from, key: secret, number: 0, seen: new Set() })
    const signature = key.sign(keccak256(WELCOME_DOMAIN, group, key.publicKey, from, theirs, ephemeral, id))
    res.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': 112 })
    res.end(concat(id, ephemeral, signature))
  }

  return {
    address(id, url) {
      const base = url.replace(/\/$/, '')
      if (urls.get(name(id)) !== base) outgoing.delete(name(id))
      urls.set(name(id), base)
    },
    async ask(to, op, packet, opts) {
      try {
        for (let attempt = 0; ; attempt++) {
          const answer = await exchange(to, op, packet, opts)
          if (answer !== 'again') return answer
          if (attempt >= 2) throw protocol(to, 'does not keep its sessions')
        }
      } finally {
        packet.done?.()
      }
    },
    urlOf: id => urls.get(name(id)),
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
    close: () => {}
  }
}

function split(b: Uint8Array): (Packet & { tag: Uint8Array }) | undefined {
  if (b.length < ANSWER_BYTES) return undefined
  const size = view(b).getUint32(32)
  const at = ANSWER_BYTES + size
  if (at > b.length) return undefined
  return { tag: b.subarray(0, 32), head: b.slice(ANSWER_BYTES, at), body: b.subarray(at) }
}

/** The same bytes as a plain array: a Buffer's slice would share memory where a copy is expected. */
function plain(b: Uint8Array): Uint8Array {
  return new Uint8Array(b.buffer, b.byteOffset, b.length)
}

/** Keccak needs no HMAC: what it hashed cannot be gone on with. */
function mac(key: Uint8Array, way: 'q' | 'a', n: number, op: number, head: Uint8Array): Uint8Array {
  return keccak256(key, Uint8Array.of(way.charCodeAt(0), op), u64be(n), head)
}

function sameMac(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
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
