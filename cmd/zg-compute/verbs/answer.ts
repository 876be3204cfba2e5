/** One question and its answer, for `chat` and `complete`: text as it comes, then what it cost and whether it is signed. */
import { ZgError } from '../../../lib/base/errors.ts'
import { formatAmount, formatCount, formatDuration } from '../../../lib/base/units.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { type Answer, ask, type Endpoint } from '../../../lib/clients/compute/answer.ts'
import { checkSignature, feeOf, type Session } from '../../../lib/clients/compute/session.ts'
import { checksumAddress } from '../../../lib/crypto/address.ts'
import { paidSession } from './common.ts'

/** Whom to ask: a paid provider, or a plain server that `--url` names. */
export interface Target {
  endpoint: Endpoint
  model: string | undefined
  session: Session | undefined
}

export async function findTarget(ctx: VerbContext, opts: Options): Promise<Target> {
  const url = opts.url as string | undefined
  if (url === undefined) {
    const session = await paidSession(ctx, opts)
    return { endpoint: session.endpoint, model: session.service.model, session }
  }
  if (opts.provider !== undefined && ctx.source('provider') === 'flag')
    throw new ZgError('ERR_USAGE', "'--url' asks a server without paying, '--provider' pays one: give one of them")
  return { endpoint: { base: url.replace(/\/+$/, '') }, model: opts.model as string | undefined, session: undefined }
}

export interface Told extends Answer {
  text: string
  feeNeuron: bigint | undefined
  /** Undefined: nobody asked (plain server, or `--no-check`). */
  signed: boolean | undefined
}

/**
 * Asks and prints as it comes: text on stdout, or `token` records.
 * @throws {ZgError} as `ask`; ERR_BAD_PROOF when the signature of a paid answer does not hold.
 */
export async function tell(
  ctx: VerbContext,
  target: Target,
  kind: 'chat/completions' | 'completions',
  body: Record<string, unknown>,
  o: { check: boolean; signal?: AbortSignal }
): Promise<Told> {
  const signal = o.signal ?? ctx.signal
  const stream = ask(
    target.endpoint,
    kind,
    target.model === undefined ? body : { model: target.model, ...body },
    signal
  )
  let text = ''
  let index = 0
  for (;;) {
    const { value, done } = await stream.next()
    if (done === true) {
      const signed =
        target.session !== undefined && o.check ? await checkSignature(target.session, value, signal) : undefined
      const feeNeuron = target.session === undefined ? undefined : feeOf(target.session.service, value)
      return { ...value, text, feeNeuron, signed }
    }
    text += value
    if (ctx.json) ctx.print({ type: 'token', time: new Date().toISOString(), text: value, index: index++ }, null)
    else await ctx.write(new TextEncoder().encode(value))
  }
}

/** The `completion` record, and the meter for people: `24 tokens, 212 tok/s, first in 38 ms, 0.0000052 0G, signed`. */
export function report(ctx: VerbContext, target: Target, told: Told): void {
  ctx.print(
    {
      type: 'completion',
      id: told.id,
      model: told.model,
      provider: target.session === undefined ? null : checksumAddress(target.session.service.provider),
      text: told.text,
      finish_reason: told.finish,
      prompt_tokens: told.promptTokens,
      completion_tokens: told.completionTokens,
      first_token_seconds: Math.round(told.firstTokenMs) / 1000,
      tokens_per_second: Math.round(rate(told)),
      fee_neuron: told.feeNeuron === undefined ? null : told.feeNeuron.toString(),
      signed: told.signed ?? null
    },
    null
  )
}

export function meter(told: Told): string {
  const parts = [
    `${formatCount(told.completionTokens)} token${told.completionTokens === 1 ? '' : 's'}`,
    `${formatCount(Math.round(rate(told)))} tok/s`,
    `first in ${formatDuration(told.firstTokenMs)}`
  ]
  if (told.feeNeuron !== undefined) parts.push(`${formatAmount(told.feeNeuron)} 0G`)
  if (told.signed === true) parts.push('signed')
  if (told.finish === 'length') parts.push('cut at its limit')
  return parts.join(', ')
}

function rate(told: Told): number {
  return told.completionTokens / Math.max(0.001, told.totalMs / 1000)
}
