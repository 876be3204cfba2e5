/**
 * Fees (compute.md 3.1), all in neuron, all integer: multiply, then divide, rounded down. Prices are for one unit, not a million.
 */
import { ZgError } from '../../base/errors.ts'
import { parseAmount } from '../../base/units.ts'

export interface Prices {
  /** Neuron a prompt token. */
  inputPrice: bigint
  /** Neuron a token made. */
  outputPrice: bigint
}

export interface TokenCounts {
  promptTokens: number
  completionTokens: number
  /** Of the prompt, found in the prefix cache. */
  cachedTokens?: number
}

/** A factor num / den. */
export interface Factor {
  num: bigint
  den: bigint
}

export interface Tier {
  /** 0: any. */
  maxInputTokens: number
  input: Factor
  output: Factor
}

export interface FeeModifiers {
  tiers?: readonly Tier[]
  /** Cached prompt tokens cost this part. */
  cacheDivisor?: bigint
}

export interface Fee {
  inputFee: bigint
  outputFee: bigint
  fee: bigint
}

/** The fee of a chat or completion request. */
export function chatFee(counts: TokenCounts, prices: Prices, modifiers: FeeModifiers = {}): Fee {
  const tier = tierOf(modifiers.tiers, counts.promptTokens)
  const inputPrice = tier === undefined ? prices.inputPrice : scaled(prices.inputPrice, tier.input)
  const outputPrice = tier === undefined ? prices.outputPrice : scaled(prices.outputPrice, tier.output)
  const prompt = BigInt(counts.promptTokens)
  let inputFee = prompt * inputPrice
  if (modifiers.cacheDivisor !== undefined) {
    const cached = BigInt(Math.min(counts.cachedTokens ?? 0, counts.promptTokens))
    inputFee = (inputPrice * cached) / modifiers.cacheDivisor + (prompt - cached) * inputPrice
  }
  const outputFee = BigInt(counts.completionTokens) * outputPrice
  return { inputFee, outputFee, fee: inputFee + outputFee }
}

function tierOf(tiers: readonly Tier[] | undefined, promptTokens: number): Tier | undefined {
  return tiers?.find(t => t.maxInputTokens === 0 || promptTokens <= t.maxInputTokens) ?? tiers?.at(-1)
}

function scaled(price: bigint, f: Factor): bigint {
  return (price * f.num) / f.den
}

/**
 * What the network's own client thinks a response cost. It knows neither tiers nor cache.
 * @param content - the response's usage as JSON text; anything else costs 0.
 * @throws {Error} `Unknown service type`.
 */
export function clientFeeEstimate(serviceType: string, content: string, prices: Prices): bigint {
  let usage: Record<string, unknown> | undefined
  try {
    const value: unknown = JSON.parse(content)
    if (typeof value === 'object' && value !== null) usage = value as Record<string, unknown>
  } catch {
    // Counts as nothing.
  }
  if (usage === undefined) return 0n
  const count = (value: unknown): bigint => {
    if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return BigInt(Math.floor(value))
    return typeof value === 'string' && /^\d{1,30}$/.test(value) ? BigInt(value) : 0n
  }
  switch (serviceType) {
    case 'chatbot':
      return count(usage.prompt_tokens) * prices.inputPrice + count(usage.completion_tokens) * prices.outputPrice
    case 'text-to-image':
    case 'image-editing':
      return (usage.n === undefined ? 1n : count(usage.n)) * prices.inputPrice
    case 'speech-to-text': {
      const bySeconds = usage.type === 'duration' || (usage.type === undefined && usage.seconds !== undefined)
      if (bySeconds) return speechSeconds(Number(usage.seconds)) * prices.inputPrice
      return count(usage.input_tokens) * prices.inputPrice + count(usage.output_tokens) * prices.outputPrice
    }
    default:
      throw new Error('Unknown service type')
  }
}

/** Seconds that speech is billed by: rounded to the nearest, at least 1 when positive. */
export function speechSeconds(seconds: number): bigint {
  if (!Number.isFinite(seconds) || seconds <= 0) return 0n
  return BigInt(Math.max(1, Math.round(seconds)))
}

/** Neuron of a number of 0G as the network's client converts it: by 18 decimals of the double, not by the number meant. */
export function ogToNeuron(og: number): bigint {
  if (!Number.isFinite(og) || og < 0) throw new ZgError('ERR_USAGE', `'${og}' is not an amount`)
  return parseAmount(og.toFixed(18))
}
