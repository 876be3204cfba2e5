/**
 * Asks a provider whether it lives: one GET of its open model list. URLs come from strangers, so a host is resolved once and that
 * address is connected to, private ranges are refused unless allowed, redirects are not followed, answers are bounded (market.md 3.1).
 */
import { lookup } from 'node:dns/promises'
import * as http from 'node:http'
import * as https from 'node:https'
import { BlockList, isIP } from 'node:net'
import { messageOf, systemCode } from '../../lib/base/errors.ts'
import type { ServiceRecord } from '../../lib/codec/compute/abi.ts'
import { isWebUrl } from './view.ts'

export interface Probe {
  state: 'live' | 'stale'
  latencyMs: number | null
  reason: string | null
  contextLength: number | null
  flag?: string
}

export interface ProbeOptions {
  timeoutMs: number
  allowPrivate: boolean
  signal: AbortSignal
}

/** Bytes of a model list that are read. */
export const ANSWER_BYTES_MAX = 1 << 20
/** Probes at one time; a registry of strangers must not open a thousand sockets. */
export const PROBES_AT_ONCE = 16

/** One probe for each service, in their order. Never rejects: a failure is a `stale` with its reason. */
export async function probeAll(services: readonly ServiceRecord[], options: ProbeOptions): Promise<Probe[]> {
  const probes: Probe[] = new Array(services.length)
  let next = 0
  const worker = async (): Promise<void> => {
    for (let i = next++; i < services.length; i = next++) probes[i] = await probe(services[i]!, options)
  }
  await Promise.all(Array.from({ length: Math.min(PROBES_AT_ONCE, services.length) }, worker))
  return probes
}

async function probe(service: ServiceRecord, options: ProbeOptions): Promise<Probe> {
  if (!isWebUrl(service.url)) return stale('its URL is neither http nor https', 'bad-url')
  const started = performance.now()
  try {
    const body = await get(new URL(`${service.url.replace(/\/+$/, '')}/v1/models`), options)
    const latencyMs = Math.round(performance.now() - started)
    const entry = modelEntry(body, service.model)
    if (entry === undefined) return { ...stale(`answers, but without '${service.model}'`, 'model-mismatch'), latencyMs }
    const contextLength = typeof entry.context_length === 'number' ? entry.context_length : null
    return { state: 'live', latencyMs, reason: null, contextLength }
  } catch (err) {
    return stale(reasonOf(err, options.timeoutMs))
  }
}

function stale(reason: string, flag = 'unreachable'): Probe {
  return { state: 'stale', latencyMs: null, reason, contextLength: null, flag }
}

function reasonOf(err: unknown, timeoutMs: number): string {
  switch (systemCode(err)) {
    case 'ECONNREFUSED':
      return 'nobody listens there'
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return 'its host has no address'
    case 'ABORT_ERR':
      return `no answer within ${timeoutMs / 1000} s`
    default:
      return messageOf(err).slice(0, 120)
  }
}

function modelEntry(body: string, model: string): { context_length?: unknown } | undefined {
  const list = JSON.parse(body) as { data?: unknown }
  if (!Array.isArray(list?.data)) throw new Error('its model list is not one')
  return list.data.find(m => m?.id === model || m?.canonical_id === model)
}

const PRIVATE = new BlockList()
for (const [net, bits] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['224.0.0.0', 3]
] as const)
  PRIVATE.addSubnet(net, bits, 'ipv4')
for (const [net, bits] of [
  ['::', 127],
  ['64:ff9b::', 96],
  ['fc00::', 7],
  ['fe80::', 10],
  ['ff00::', 8]
] as const)
  PRIVATE.addSubnet(net, bits, 'ipv6')

/** True for loopback, link-local, private, multicast and metadata ranges. */
export function isPrivate(address: string): boolean {
  // IPv4 in its IPv6 clothes; in the list it would match every IPv4 address. Public ones come as plain IPv4 from the resolver.
  if (/^(0*:)*:?ffff:/i.test(address)) return true
  return PRIVATE.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')
}

async function get(url: URL, { timeoutMs, allowPrivate, signal }: ProbeOptions): Promise<string> {
  const limit = AbortSignal.timeout(timeoutMs)
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const { address, family } = await lookup(host)
  if (!allowPrivate && isPrivate(address)) throw new Error(`its address ${address} is a private one`)
  const { request } = url.protocol === 'https:' ? https : http
  return new Promise((resolve, reject) => {
    const stop = (): void => void req.destroy(Object.assign(new Error('timed out'), { code: 'ABORT_ERR' }))
    const req = request(
      url,
      {
        agent: false,
        headers: { accept: 'application/json' },
        // The address that was checked is the one that is connected to.
        lookup: (_host, opts, done) =>
          opts.all === true ? done(null, [{ address, family }]) : done(null, address, family)
      },
      res => {
        if (res.statusCode !== 200) {
          req.destroy(new Error(`it answers with status ${res.statusCode}`))
          return
        }
        const parts: Buffer[] = []
        let size = 0
        res.on('data', (part: Buffer) => {
          size += part.length
          if (size > ANSWER_BYTES_MAX) req.destroy(new Error('its model list is larger than 1 MiB'))
          else parts.push(part)
        })
        res.once('end', () => resolve(Buffer.concat(parts).toString()))
        res.once('error', reject)
      }
    )
    req.once('error', reject)
    req.once('close', () => {
      limit.removeEventListener('abort', stop)
      signal.removeEventListener('abort', stop)
      reject(new Error('the connection ended early'))
    })
    limit.addEventListener('abort', stop)
    signal.addEventListener('abort', stop)
    req.end()
  })
}
