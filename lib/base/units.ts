/** What people write and read: amounts of 0G, sizes, durations. Amounts are bigints in neuron (10⁻¹⁸ 0G, one wei). */
import { ZgError } from './errors.ts'

/** Neuron in one 0G. */
export const NEURON_PER_0G = 10n ** 18n
const AMOUNT = /^([0-9]{1,60})(?:\.([0-9]{1,18}))?\s*(0g|gneuron|neuron|gwei|wei|ether)?$/i

/**
 * Reads an amount: `1.5`, `1.5 0G`, `10 gneuron`, `5 neuron`; the unit is 0G when absent.
 * @returns neuron.
 * @throws {ZgError} ERR_USAGE when malformed or finer than one neuron.
 */
export function parseAmount(text: string): bigint {
  const m = AMOUNT.exec(text.trim())
  if (m === null) {
    throw new ZgError('ERR_USAGE', `'${text}' is not an amount`, {
      hint: "write '1.5', '1.5 0G', '10 gneuron' or '5 neuron'"
    })
  }
  const unit = (m[3] ?? '0g').toLowerCase()
  const decimals = unit === '0g' || unit === 'ether' ? 18 : unit === 'gneuron' || unit === 'gwei' ? 9 : 0
  const fraction = m[2] ?? ''
  if (fraction.length > decimals) throw new ZgError('ERR_USAGE', `'${text}' is finer than one neuron`)
  return BigInt(m[1]!) * 10n ** BigInt(decimals) + BigInt(fraction.padEnd(decimals, '0') || '0')
}

/** Neuron as a decimal number of 0G without trailing zeros, rounded down to `digits` when given: `9999.8817`. */
export function formatAmount(neuron: bigint, digits = 18): string {
  const sign = neuron < 0n ? '-' : ''
  const abs = neuron < 0n ? -neuron : neuron
  const fraction = (abs % NEURON_PER_0G).toString().padStart(18, '0').slice(0, digits).replace(/0+$/, '')
  return `${sign}${abs / NEURON_PER_0G}${fraction === '' ? '' : `.${fraction}`}`
}

const SIZES: Record<string, number> = { '': 1, b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3, t: 1024 ** 4 }

/** Reads a size in bytes: `4096`, `64KiB`, `2GiB` (binary units; `K`, `KB` and `KiB` are the same). @throws {ZgError} ERR_USAGE. */
export function parseSize(text: string): number {
  const m = /^([0-9]{1,15})(?:\.([0-9]{1,3}))?\s*(?:([kmgt])(?:i?b)?|b)?$/i.exec(text.trim())
  if (m === null) throw new ZgError('ERR_USAGE', `'${text}' is not a size`, { hint: "write '4096', '64KiB' or '2GiB'" })
  const n = Math.floor(Number(`${m[1]}.${m[2] ?? '0'}`) * SIZES[(m[3] ?? '').toLowerCase()]!)
  if (!Number.isSafeInteger(n)) throw new ZgError('ERR_USAGE', `size '${text}' is out of range`)
  return n
}

const DURATIONS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** Reads a duration in ms: `500ms`, `1s`, `2m`, `1h`, `7d`; a bare number is seconds. @throws {ZgError} ERR_USAGE. */
export function parseDuration(text: string): number {
  const m = /^([0-9]{1,12})(?:\.([0-9]{1,3}))?\s*(ms|s|m|h|d)?$/.exec(text.trim())
  if (m === null)
    throw new ZgError('ERR_USAGE', `'${text}' is not a duration`, { hint: "write '500ms', '1s', '2m' or '1h'" })
  const n = Math.round(Number(`${m[1]}.${m[2] ?? '0'}`) * DURATIONS[m[3] ?? 's']!)
  if (!Number.isSafeInteger(n)) throw new ZgError('ERR_USAGE', `duration '${text}' is out of range`)
  return n
}

/** Bytes for people, binary units, at most three digits: `4.1 MiB`. */
export function formatSize(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']
  let n = bytes
  let i = 0
  while (n >= 1024 && i < units.length - 1) {
    n /= 1024
    i++
  }
  return `${i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[i]}`
}

/** An integer for people, with thousands separated by commas. */
export function formatCount(n: number | bigint): string {
  return n.toString().replace(/\B(?=(\d{3})+(?!\d))/g, ',')
}

/** Milliseconds for people: `38 ms`, `3.1 s`, `10m 2s`, `3 h`. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)}m ${Math.floor((ms % 60_000) / 1000)}s`
  if (ms < 86_400_000) return `${Math.floor(ms / 3_600_000)}h ${Math.floor((ms % 3_600_000) / 60_000)}m`
  return `${Math.floor(ms / 86_400_000)}d ${Math.floor((ms % 86_400_000) / 3_600_000)}h`
}

/** A hash or address for a terminal, shortened: `0x5a3f…91c2`. Never for a pipe. */
export function shortHash(hex: string): string {
  return hex.length <= 14 ? hex : `${hex.slice(0, 6)}…${hex.slice(-4)}`
}
