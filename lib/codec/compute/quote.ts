/**
 * The attestation report of `GET /v1/quote` (compute.md 4.3). Without special hardware the report says so (`quote` empty, `tee` none)
 * and still commits to the signer and to the running software, so that both can be compared with the chain and with a published build.
 */
import { fromUtf8, utf8 } from '../../base/bytes.ts'
import { toHex } from '../../base/hex.ts'
import { checksumAddress } from '../../crypto/address.ts'
import { sha256 } from '../../crypto/hash.ts'

/** Bytes of `report_data`: 42 characters of the address, then zeros. */
const REPORT_DATA_BYTES = 64

export interface Quote {
  report_data: string
  tcb_info: { app_compose: string }
  event_log: { event: string; event_payload: string }[]
  quote: string
  tee: string
}

/** The report of a provider. @param software - what runs; its JSON is hashed with keys in the order given. */
export function buildQuote(signer: Uint8Array, software: Record<string, unknown>): Quote {
  const compose = JSON.stringify(software)
  const data = new Uint8Array(REPORT_DATA_BYTES)
  data.set(utf8(checksumAddress(signer)))
  return {
    report_data: Buffer.from(data).toString('base64'),
    tcb_info: { app_compose: compose },
    event_log: [{ event: 'compose-hash', event_payload: composeHash(compose) }],
    quote: '',
    tee: 'none'
  }
}

/** SHA-256 of the description, hex without 0x. */
export function composeHash(compose: string): string {
  return toHex(sha256(utf8(compose))).slice(2)
}

export interface QuoteCheck {
  /** True when a report names an address and all named ones are the signer on chain. */
  signerAllMatch: boolean
  reportAddresses: { reportType: string; address: string; match: boolean }[]
  composePassed: boolean
}

/**
 * What can be said about a report. A malformed one matches nothing; nothing is thrown.
 * @param body - JSON text of the report.
 * @param teeVerifier - `cryptopilot` reports are of another kind: nothing is compared.
 */
export function checkQuote(body: string, o: { signer: string; teeVerifier: string }): QuoteCheck {
  const none: QuoteCheck = { signerAllMatch: false, reportAddresses: [], composePassed: false }
  const report = parsed(body)
  if (report === undefined || o.teeVerifier === 'cryptopilot') return none
  const address = reportAddress(report.report_data)
  const match = address !== undefined && address.toLowerCase() === o.signer.toLowerCase()
  return {
    signerAllMatch: match,
    reportAddresses: address === undefined ? [] : [{ reportType: 'combined', address, match }],
    composePassed: composeMatches(report)
  }
}

function reportAddress(data: unknown): string | undefined {
  if (typeof data !== 'string') return undefined
  const text = fromUtf8(new Uint8Array(Buffer.from(data, 'base64'))).replace(/\0.*$/s, '')
  return text === '' ? undefined : text
}

function composeMatches(report: Record<string, unknown>): boolean {
  // Under `info` only an object counts; at the top a string is parsed too.
  const info = object(report.info)?.tcb_info
  const tcb = report.tcb_info === undefined ? object(info) : parsed(report.tcb_info)
  const compose = tcb?.app_compose
  const log = typeof report.event_log === 'string' ? json(report.event_log) : report.event_log
  if (typeof compose !== 'string' || !Array.isArray(log)) return false
  const entry = log.map(object).find(e => e?.event === 'compose-hash')
  return entry?.event_payload === composeHash(compose)
}

function parsed(value: unknown): Record<string, unknown> | undefined {
  return object(typeof value === 'string' ? json(value) : value)
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function object(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined
}
