/** A service as the market shows it (market.md 2.2): prices as exact decimals, the state by asking, nothing claimed as checked. */

import { ZgError } from '../../lib/base/errors.ts'
import { formatAmount } from '../../lib/base/units.ts'
import type { ServiceRecord } from '../../lib/codec/compute/abi.ts'
import { checksumAddress } from '../../lib/crypto/address.ts'
import type { Probe } from './probe.ts'

export interface ServiceView {
  provider: string
  kind: string
  model: string
  url: string
  /** Only http and https are ever asked. */
  urlOk: boolean
  /** Neuron for one token as decimal strings, and 0G for a million. */
  pricing: { prompt: string; completion: string; promptPer1M: string; completionPer1M: string; unit: 'token' }
  /** As registered: a claim. */
  verifiability: string
  teeSigner: string
  acknowledged: boolean
  /** RFC 3339. */
  updatedAt: string
  /** `live` answers with its model, `stale` does not; null when nobody asked. */
  state: 'live' | 'stale' | null
  latencyMs: number | null
  /** Why it is stale. */
  reason: string | null
  contextLength: number | null
  flags: string[]
}

const PER_MILLION = 1_000_000n

export function viewOf(service: ServiceRecord, probe: Probe | undefined): ServiceView {
  const flags: string[] = []
  if (!service.teeSignerAcknowledged) flags.push('not-acknowledged')
  if (probe?.flag !== undefined) flags.push(probe.flag)
  return {
    provider: checksumAddress(service.provider),
    kind: service.serviceType,
    model: service.model,
    url: service.url,
    urlOk: isWebUrl(service.url),
    pricing: {
      prompt: service.inputPrice.toString(),
      completion: service.outputPrice.toString(),
      promptPer1M: formatAmount(service.inputPrice * PER_MILLION),
      completionPer1M: formatAmount(service.outputPrice * PER_MILLION),
      unit: 'token'
    },
    verifiability: service.verifiability,
    teeSigner: checksumAddress(service.teeSigner),
    acknowledged: service.teeSignerAcknowledged,
    updatedAt: new Date(Number(service.updatedAt) * 1000).toISOString(),
    state: probe?.state ?? null,
    latencyMs: probe?.latencyMs ?? null,
    reason: probe?.reason ?? null,
    contextLength: probe?.contextLength ?? null,
    flags
  }
}

export function isWebUrl(text: string): boolean {
  return URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)
}

/** Three parts input to one part output, times four (market.md 2.2). */
export function blended(view: ServiceView): bigint {
  return 3n * BigInt(view.pricing.prompt) + BigInt(view.pricing.completion)
}

type Order = (a: ServiceView, b: ServiceView) => number

const byAddress: Order = (a, b) => (a.provider.toLowerCase() < b.provider.toLowerCase() ? -1 : 1)
const byPrice: Order = (a, b) => compare(blended(a), blended(b)) || byAddress(a, b)

const ORDERS: Record<string, Order> = {
  best: (a, b) => compare(rank(a), rank(b)) || byPrice(a, b),
  price: byPrice,
  latency: (a, b) =>
    compare(a.latencyMs ?? Number.POSITIVE_INFINITY, b.latencyMs ?? Number.POSITIVE_INFINITY) || byPrice(a, b),
  newest: (a, b) => compare(b.updatedAt, a.updatedAt) || byAddress(a, b)
}

/** Services in the asked order; ties by address, so that two runs agree. @throws {ZgError} ERR_USAGE. */
export function sorted(views: readonly ServiceView[], order: string): ServiceView[] {
  const by = ORDERS[order]
  if (by === undefined) throw new ZgError('ERR_USAGE', `unknown order '${order}'`)
  return [...views].sort(by)
}

/** Usable and live first, then not asked, then stale. */
function rank(view: ServiceView): number {
  if (!view.acknowledged) return 3
  return view.state === 'live' ? 0 : view.state === null ? 1 : 2
}

function compare<T extends bigint | number | string>(a: T, b: T): number {
  return a < b ? -1 : a > b ? 1 : 0
}
