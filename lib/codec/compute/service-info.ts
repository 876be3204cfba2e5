/** `additionalInfo` of a service record (compute.md 2.6): JSON of at most 4,096 bytes, keys as upstream writes them. */
import { ZgError } from '../../base/errors.ts'
import type { Factor, FeeModifiers, Tier } from './fee.ts'

/** Bytes of `additionalInfo` that the contract takes. */
export const ADDITIONAL_INFO_MAX_BYTES = 4096

export interface ServiceInfo extends FeeModifiers {
  targetSeparated: boolean
  /** Absent counts as dstack. */
  teeVerifier: string
  multiModel: boolean
}

/** What our provider writes. */
export interface ServiceInfoFields {
  imageName: string
  /** SHA-256 of what runs, hex. */
  imageDigest: string
}

/** Key order is fixed: a changed string clears the owner's acknowledgement. @throws {ZgError} ERR_CONFIG when too long. */
export function writeServiceInfo(f: ServiceInfoFields): string {
  const text = JSON.stringify({
    TargetSeparated: false,
    TEEVerifier: 'dstack',
    ImageName: f.imageName,
    ImageDigest: f.imageDigest,
    ProviderType: 'decentralized'
  })
  if (Buffer.byteLength(text) > ADDITIONAL_INFO_MAX_BYTES)
    throw new ZgError('ERR_CONFIG', `additionalInfo has ${Buffer.byteLength(text)} bytes, at most 4096 are allowed`)
  return text
}

/** Reads any provider's text, leniently: what is malformed is absent. */
export function readServiceInfo(text: string): ServiceInfo {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    value = undefined
  }
  const info = isObject(value) ? value : {}
  const out: ServiceInfo = {
    targetSeparated: info.TargetSeparated === true,
    teeVerifier: typeof info.TEEVerifier === 'string' ? info.TEEVerifier : '',
    // "true" as a string is not true.
    multiModel: info.MultiModel === true
  }
  const tiers = readTiers(info.tieredPricing)
  if (tiers !== undefined) out.tiers = tiers
  const divisor = isObject(info.cacheTokenBilling) ? whole(info.cacheTokenBilling.divisor) : undefined
  if (divisor !== undefined && divisor > 0) out.cacheDivisor = BigInt(divisor)
  return out
}

function readTiers(value: unknown): Tier[] | undefined {
  if (!isObject(value) || !Array.isArray(value.tiers) || value.tiers.length === 0) return undefined
  const tiers: Tier[] = []
  for (const tier of value.tiers as unknown[]) {
    if (!isObject(tier)) return undefined
    const max = whole(tier.maxInputTokens)
    const input = factor(tier.inputMultiplier, tier.inputMultiplierDenominator)
    const output = factor(tier.outputMultiplier, tier.outputMultiplierDenominator)
    if (max === undefined || input === undefined || output === undefined) return undefined
    tiers.push({ maxInputTokens: max, input, output })
  }
  return tiers
}

function factor(num: unknown, den: unknown): Factor | undefined {
  const n = whole(num)
  const d = den === undefined ? 1 : whole(den)
  return n === undefined || d === undefined || d === 0 ? undefined : { num: BigInt(n), den: BigInt(d) }
}

function whole(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : undefined
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
