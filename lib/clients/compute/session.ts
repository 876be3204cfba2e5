/**
 * A user's session with one provider (compute.md 2.2, 3.4): which provider, money where it must lie, a signed token, and the check of
 * what came back.
 */
import { randomBytes } from 'node:crypto'
import { ZgError } from '../../base/errors.ts'
import { fromHex, toHex } from '../../base/hex.ts'
import { formatAmount } from '../../base/units.ts'
import type { AccountRecord, ServiceRecord } from '../../codec/compute/abi.ts'
import { chatFee } from '../../codec/compute/fee.ts'
import { type SignatureRecord, verifyResponse } from '../../codec/compute/response-signature.ts'
import { planSessionToken, signSessionToken, type TokenOptions } from '../../codec/compute/session-token.ts'
import { checksumAddress } from '../../crypto/address.ts'
import type { Account } from '../accounts.ts'
import { type Answer, type Endpoint, inWords, refusal } from './answer.ts'
import type { ComputeContracts } from './contracts.ts'

/** What providers keep locked in a sub-account whatever is spent, in neuron (compute.md 3.3). */
const FLOOR = 10n ** 18n
const PROBE_MS = 3_000
const ANSWER_MS = 15_000
/** Bytes of a small JSON answer. */
export const JSON_BYTES_MAX = 5_000_000

export interface Session {
  service: ServiceRecord
  account: Account
  endpoint: Endpoint
}

/**
 * The provider to ask: the named one, or the cheapest acknowledged one (of a model) that answers now.
 * @throws {ZgError} ERR_NOT_FOUND, ERR_UNAVAILABLE.
 */
export async function chooseService(
  contracts: ComputeContracts,
  wanted: { provider?: Uint8Array | undefined; model?: string | undefined },
  signal: AbortSignal
): Promise<ServiceRecord> {
  if (wanted.provider !== undefined) {
    const service = await contracts.service(wanted.provider)
    if (wanted.model !== undefined && service.model !== wanted.model)
      throw new ZgError(
        'ERR_NOT_FOUND',
        `provider ${checksumAddress(service.provider)} serves '${service.model}', not '${wanted.model}'`,
        { hint: `run 'zg-market list --model ${wanted.model}'` }
      )
    return service
  }
  const all = (await contracts.services()).filter(s => s.serviceType === 'chatbot')
  const fitting = all.filter(s => wanted.model === undefined || s.model === wanted.model)
  if (fitting.length === 0) {
    const what = wanted.model === undefined ? 'no provider is registered' : `no provider serves '${wanted.model}'`
    throw new ZgError('ERR_NOT_FOUND', what, { hint: "run 'zg-market list'" })
  }
  const usable = fitting.filter(s => s.teeSignerAcknowledged).sort(byPrice)
  for (const service of usable) if (await answers(service, signal)) return service
  const name = wanted.model === undefined ? '' : ` of '${wanted.model}'`
  throw new ZgError('ERR_UNAVAILABLE', `no provider${name} answers (asked ${usable.length})`, {
    hint: "run 'zg-market list'"
  })
}

function byPrice(a: ServiceRecord, b: ServiceRecord): number {
  const blended = (s: ServiceRecord): bigint => 3n * s.inputPrice + s.outputPrice
  const [x, y] = [blended(a), blended(b)]
  return x < y ? -1 : x > y ? 1 : 0
}

async function answers(service: ServiceRecord, signal: AbortSignal): Promise<boolean> {
  try {
    const res = await bounded(`${service.url}/v1/models`, {}, PROBE_MS, signal)
    return res.ok
  } catch {
    if (signal.aborted) throw new ZgError('ERR_STOPPED', 'stopped')
    return false
  }
}

/**
 * Opens a session: moves money from the ledger to the provider when there is too little for it to serve (the rule of the network's own
 * client: unsettled fees and twice the floor), then signs a token of 24 hours.
 * @param onTransfer - told the amount before money moves.
 * @throws {ZgError} ERR_FUNDS when the ledger does not hold enough.
 */
export async function openSession(
  contracts: ComputeContracts,
  service: ServiceRecord,
  account: Account,
  o: { signal: AbortSignal; onTransfer?: (amount: bigint) => void }
): Promise<Session> {
  if (toHex(account.address) === toHex(service.provider))
    throw new ZgError('ERR_REJECTED', 'a provider cannot be its own customer', {
      hint: "name another payer with '--account'"
    })
  let sub = await contracts.account(account.address, service.provider)
  let token = sub === undefined ? undefined : await signToken(sub, service, account)
  const unsettled = token === undefined ? 0n : await unsettledFee(service, account, token, o.signal)
  const free = sub === undefined ? 0n : sub.balance - sub.pendingRefund
  const deficit = unsettled + 2n * FLOOR - free
  if (deficit > 0n) {
    const amount = deficit > FLOOR ? deficit : FLOOR
    const ledger = await contracts.ledger(account.address)
    if (ledger === undefined || ledger.available < amount) throw noFunds(ledger?.available, amount)
    // Money that went to a provider comes back only after its lock time.
    if (!(await answers(service, o.signal)))
      throw new ZgError(
        'ERR_UNAVAILABLE',
        `provider ${checksumAddress(service.provider)} does not answer at ${service.url}`,
        {
          hint: "run 'zg-market list' to see who does"
        }
      )
    o.onTransfer?.(amount)
    await contracts.transfer(account, service.provider, amount)
    sub = await contracts.account(account.address, service.provider)
    token = undefined
  }
  if (sub === undefined) throw new ZgError('ERR_PROTOCOL', 'the sub-account is missing after a transfer')
  if (!sub.acknowledged) {
    await contracts.acknowledge(account, service.provider)
    sub = { ...sub, acknowledged: true }
  }
  token ??= await signToken(sub, service, account)
  return { service, account, endpoint: { base: `${service.url}/v1/proxy`, token } }
}

function noFunds(available: bigint | undefined, amount: bigint): ZgError {
  if (available === undefined)
    return new ZgError('ERR_FUNDS', 'there is no ledger to pay from', { hint: "run 'zg-compute account deposit 3'" })
  return new ZgError(
    'ERR_FUNDS',
    `ledger has ${formatAmount(available)} 0G, the provider must hold ${formatAmount(amount)} 0G more`,
    { hint: `run 'zg-compute account deposit ${formatAmount(amount - available)}'` }
  )
}

/** A token for the provider: 24 hours, or a key by `options`. */
export async function signToken(
  sub: Pick<AccountRecord, 'generation' | 'revokedBitmap'>,
  service: ServiceRecord,
  account: Account,
  options: TokenOptions = { mode: 'ephemeral' }
): Promise<string> {
  const random = randomBytes(6).readUIntBE(0, 6) / 2 ** 48
  const token = planSessionToken(options, {
    user: account.address,
    provider: service.provider,
    account: sub,
    nowMs: Date.now(),
    random
  })
  return signSessionToken(token, await account.privateKey()).apiKey
}

/** What the provider has not yet settled of this user's, in neuron; 0 when it does not answer. */
export async function unsettledFee(
  service: ServiceRecord,
  account: Account,
  token: string,
  signal: AbortSignal
): Promise<bigint> {
  const url = `${service.url}/v1/user/${checksumAddress(account.address)}/unsettledfee`
  const res = await bounded(url, { authorization: `Bearer ${token}` }, ANSWER_MS, signal).catch(() => undefined)
  if (res?.ok !== true) return 0n
  const fee = ((await res.json().catch(() => undefined)) as { unsettledFee?: unknown } | undefined)?.unsettledFee
  return typeof fee === 'string' && /^[0-9]{1,78}$/.test(fee) ? BigInt(fee) : 0n
}

/** The fee of an answer by the prices on chain, in neuron. */
export function feeOf(service: ServiceRecord, answer: Answer): bigint {
  return chatFee(answer, service).fee
}

/**
 * True when the answer's bytes are signed by the provider's signer on chain. Undefined when the provider gives no signatures.
 * @throws {ZgError} ERR_BAD_PROOF when there is a signature and it does not hold, or the promised one is missing.
 */
export async function checkSignature(session: Session, answer: Answer, signal: AbortSignal): Promise<boolean> {
  const { service } = session
  if (answer.resKey === undefined)
    throw new ZgError('ERR_BAD_PROOF', 'the answer names no signature (header ZG-Res-Key)')
  const url = `${service.url}/v1/proxy/signature/${encodeURIComponent(answer.resKey)}`
  const record = (await getJson(url, {}, signal)) as SignatureRecord
  if (
    typeof record?.text !== 'string' ||
    typeof record.signature !== 'string' ||
    typeof record.signing_address !== 'string'
  )
    throw new ZgError('ERR_PROTOCOL', 'the signature of the answer is not one')
  const verdict = verifyResponse(record, {
    signer: service.teeSigner,
    requestHash: fromHex(`0x${answer.requestHash}`),
    responseHash: fromHex(`0x${answer.responseHash}`)
  })
  if (!verdict.ok) throw new ZgError('ERR_BAD_PROOF', `the answer is not what the provider signed: ${verdict.why}`)
  return true
}

/** A model as a server lists it. */
export interface ListedModel {
  id: string
  context_length?: number
  pricing?: { prompt?: string; completion?: string }
  [field: string]: unknown
}

/** The models of a server; `root` is the part before `/models`. @throws {ZgError} as {@link getJson}. */
export async function listModels(root: string, signal: AbortSignal): Promise<ListedModel[]> {
  const list = (await getJson(`${root}/models`, {}, signal)) as { data?: unknown }
  if (!Array.isArray(list?.data) || list.data.some(m => typeof m?.id !== 'string'))
    throw new ZgError('ERR_PROTOCOL', `the model list of ${root} is not one`)
  return list.data as ListedModel[]
}

/** GET of a JSON answer, bounded. @throws {ZgError} ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_PROTOCOL and what the status says. */
export async function getJson(url: string, headers: Record<string, string>, signal: AbortSignal): Promise<unknown> {
  const where = new URL(url).origin
  try {
    const res = await bounded(url, headers, ANSWER_MS, signal)
    if (!res.ok) throw await refusal(res, where)
    const text = await res.text()
    if (text.length > JSON_BYTES_MAX) throw new ZgError('ERR_PROTOCOL', `${where} answers with more than 5 MB`)
    return JSON.parse(text)
  } catch (err) {
    if (err instanceof SyntaxError) throw new ZgError('ERR_PROTOCOL', `${where} answers something that is not JSON`)
    throw inWords(err, where, signal)
  }
}

async function bounded(
  url: string,
  headers: Record<string, string>,
  timeoutMs: number,
  signal: AbortSignal
): Promise<Response> {
  if (signal.aborted) throw new ZgError('ERR_STOPPED', 'stopped')
  return fetch(url, { headers, redirect: 'error', signal: AbortSignal.timeout(timeoutMs) })
}
