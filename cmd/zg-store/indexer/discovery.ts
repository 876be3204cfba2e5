/**
 * Finds storage nodes that nobody configured: every trusted node is asked which peers it is connected to and how clients reach
 * them. What is told is a hint: the book lists a node only after it answered for itself and belongs to the same network. An
 * address inside a private network is believed only from a node that is inside one too, so that a stranger cannot have the
 * indexer knock on doors behind its firewall.
 */
import { BlockList, isIP } from 'node:net'
import { RpcClient } from '../../../lib/adapters/jsonrpc/client.ts'
import { messageOf } from '../../../lib/base/errors.ts'
import type { NodePool } from '../../../lib/clients/store.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { NodeBook } from './book.ts'

/** How often nodes are asked for their peers. */
export const DISCOVER_MS = 10_000
/** Upstream asks every ten minutes; its answers are large. */
const ADMIN_EVERY = 60
const TOLD_MAX = 256
const ASK_MS = 3_000
/** Where an upstream node that tells only its address takes clients. */
const UPSTREAM_PORT = 5678

export interface DiscoveryOptions {
  book: NodeBook
  pool: NodePool
  clock: Clock
  log: Logger
  /** Admin RPC of an upstream node whose `admin_getPeers` is asked as well. */
  adminUrl?: string | undefined
}

/** Asks until the signal ends it. */
export async function runDiscovery(o: DiscoveryOptions, signal: AbortSignal): Promise<void> {
  for (let round = 0; !signal.aborted; round++) {
    const told = o.book.trusted.filter(e => e.up).map(e => fromNode(o, e.node.url, signal))
    if (o.adminUrl !== undefined && round % ADMIN_EVERY === 0) told.push(fromAdmin(o, o.adminUrl, signal))
    for (const { by, urls } of await Promise.all(told)) {
      for (const url of urls) {
        if (believable(url, by) && o.book.add(o.pool.node(url))) o.log.info('told of a node', { url, by })
      }
    }
    await o.clock.sleep(DISCOVER_MS, signal).catch(() => {})
  }
}

interface Told {
  by: string
  urls: string[]
}

async function fromNode(o: DiscoveryOptions, url: string, signal: AbortSignal): Promise<Told> {
  try {
    return { by: url, urls: await o.pool.node(url).peers({ signal, timeoutMs: ASK_MS }) }
  } catch (err) {
    o.log.debug('cannot ask for peers', { url, error: messageOf(err) })
    return { by: url, urls: [] }
  }
}

async function fromAdmin(o: DiscoveryOptions, url: string, signal: AbortSignal): Promise<Told> {
  try {
    const answer = await new RpcClient(url, { what: 'admin', timeoutMs: ASK_MS, signal }).call('admin_getPeers')
    return { by: url, urls: urlsOf(answer) }
  } catch (err) {
    o.log.warn('cannot ask for peers', { url, error: messageOf(err) })
    return { by: url, urls: [] }
  }
}

/** URLs in an answer of `admin_getPeers`: zg's own nodes tell them, of upstream's the address is known. */
export function urlsOf(answer: unknown): string[] {
  if (answer === null || typeof answer !== 'object') return []
  const urls: string[] = []
  for (const peer of Object.values(answer).slice(0, TOLD_MAX)) {
    const p = peer as { httpUrl?: unknown; seenIps?: unknown } | null
    if (typeof p?.httpUrl === 'string') urls.push(p.httpUrl)
    else if (Array.isArray(p?.seenIps)) {
      for (const ip of p.seenIps.slice(0, 4)) {
        if (typeof ip !== 'string' || isIP(ip) === 0) continue
        urls.push(`http://${isIP(ip) === 6 ? `[${ip}]` : ip}:${UPSTREAM_PORT}`)
      }
    }
  }
  return urls
}

const PRIVATE = new BlockList()
for (const [net, bits] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.168.0.0', 16]
] as const) {
  PRIVATE.addSubnet(net, bits, 'ipv4')
}
PRIVATE.addAddress('::', 'ipv6')
PRIVATE.addAddress('::1', 'ipv6')
PRIVATE.addSubnet('fc00::', 7, 'ipv6')
PRIVATE.addSubnet('fe80::', 10, 'ipv6')

/** True when an address that `by` told may be asked at all. */
export function believable(url: string, by: string): boolean {
  if (url.length > 256 || !URL.canParse(url)) return false
  const to = new URL(url)
  if (
    (to.protocol !== 'http:' && to.protocol !== 'https:') ||
    to.username !== '' ||
    to.search !== '' ||
    to.hash !== ''
  ) {
    return false
  }
  return !isInside(to.hostname) || isInside(new URL(by).hostname)
}

function isInside(hostname: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, '')
  const kind = isIP(host)
  if (kind === 4) return PRIVATE.check(host, 'ipv4')
  if (kind === 6) {
    const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/i.exec(host)
    if (mapped === null) return PRIVATE.check(host, 'ipv6')
    const [a, b] = [Number.parseInt(mapped[1]!, 16), Number.parseInt(mapped[2]!, 16)]
    return PRIVATE.check(`${a >> 8}.${a & 255}.${b >> 8}.${b & 255}`, 'ipv4')
  }
  // A name: only those that are private by themselves can be known without asking.
  return host === 'localhost' || host.endsWith('.localhost') || host.endsWith('.local') || !host.includes('.')
}
