/**
 * Asks an OpenAI-compatible endpoint for a streamed answer and keeps what is needed to check it: the hashes of the bytes sent and
 * received, the counted tokens, the times. Works against a paid provider and a plain server alike.
 */
import { createHash } from 'node:crypto'
import { messageOf, systemCode, ZgError } from '../../base/errors.ts'

export interface Endpoint {
  /** Below it lie `/chat/completions` and `/completions`: `http://host/v1/proxy`, `http://host/v1`. */
  base: string
  /** Session token or key; absent for a server that asks for none. */
  token?: string | undefined
}

export interface Answer {
  /** `id` of the answer. */
  id: string
  model: string
  /** `ZG-Res-Key`, by which a provider's signature is found; undefined from a plain server. */
  resKey: string | undefined
  promptTokens: number
  completionTokens: number
  finish: string
  firstTokenMs: number
  totalMs: number
  /** SHA-256 of the request and response bytes, lower-case hex. */
  requestHash: string
  responseHash: string
}

/** Bytes of one event of a stream. */
export const EVENT_BYTES_MAX = 1 << 20
/** Bytes of a whole answer that are taken. */
export const ANSWER_BYTES_MAX = 64 << 20
/** Silence after which a stream counts as broken; providers send a comment every 15 s. */
const SILENCE_MS = 120_000

/**
 * Streams an answer's text; the generator's return value is its summary.
 * @param kind - `chat/completions` or `completions`.
 * @param body - the request without `stream`.
 * @throws {ZgError} ERR_FUNDS, ERR_PERMISSION, ERR_BAD_INPUT, ERR_NOT_FOUND, ERR_UNAVAILABLE, ERR_PROTOCOL, ERR_STOPPED, ERR_TIMEOUT.
 */
export async function* ask(
  endpoint: Endpoint,
  kind: 'chat/completions' | 'completions',
  body: Record<string, unknown>,
  signal: AbortSignal
): AsyncGenerator<string, Answer, void> {
  const request = JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } })
  const requestHash = createHash('sha256').update(request).digest('hex')
  const started = performance.now()
  const stop = new AbortController()
  const onAbort = (): void => stop.abort(signal.reason)
  if (signal.aborted) onAbort()
  signal.addEventListener('abort', onAbort, { once: true })
  let silent = setTimeout(() => stop.abort(new DOMException('silence', 'TimeoutError')), SILENCE_MS)
  try {
    const res = await fetch(`${endpoint.base}/${kind}`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'text/event-stream',
        ...(endpoint.token === undefined ? {} : { authorization: `Bearer ${endpoint.token}` })
      },
      body: request,
      redirect: 'error',
      signal: stop.signal
    })
    if (!res.ok || res.body === null) throw await refusal(res, endpoint.base)
    const received = createHash('sha256')
    const answer: Answer = {
      id: '',
      model: '',
      resKey: res.headers.get('zg-res-key') ?? undefined,
      promptTokens: 0,
      completionTokens: 0,
      finish: '',
      firstTokenMs: 0,
      totalMs: 0,
      requestHash,
      responseHash: ''
    }
    let total = 0
    let done = false
    const bytes = async function* (): AsyncGenerator<Uint8Array> {
      for await (const part of res.body as AsyncIterable<Uint8Array>) {
        clearTimeout(silent)
        silent = setTimeout(() => stop.abort(new DOMException('silence', 'TimeoutError')), SILENCE_MS)
        total += part.length
        if (total > ANSWER_BYTES_MAX) throw new ZgError('ERR_PROTOCOL', 'the answer is longer than 64 MiB')
        received.update(part)
        yield part
      }
    }
    for await (const data of events(bytes())) {
      if (data === '[DONE]') {
        done = true
        continue
      }
      const text = take(answer, data)
      if (text === '') continue
      if (answer.firstTokenMs === 0) answer.firstTokenMs = performance.now() - started
      yield text
    }
    if (!done) throw new ZgError('ERR_UNAVAILABLE', 'the answer broke off before its end', { hint: 'ask again' })
    answer.totalMs = performance.now() - started
    answer.responseHash = received.digest('hex')
    return answer
  } catch (err) {
    throw inWords(err, endpoint.base, signal)
  } finally {
    clearTimeout(silent)
    signal.removeEventListener('abort', onAbort)
    stop.abort()
  }
}

/** The `data:` fields of a stream of server-sent events (WHATWG HTML 9.2). @throws {ZgError} ERR_PROTOCOL past EVENT_BYTES_MAX. */
export async function* events(parts: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  let rest = ''
  let data: string[] = []
  for await (const part of parts) {
    rest += decoder.decode(part, { stream: true })
    if (rest.length > EVENT_BYTES_MAX) throw new ZgError('ERR_PROTOCOL', 'an event of the answer is longer than 1 MiB')
    for (;;) {
      const end = /\r\n|\n|\r(?!$)/.exec(rest)
      if (end === null) break
      const line = rest.slice(0, end.index)
      rest = rest.slice(end.index + end[0].length)
      if (line === '') {
        if (data.length > 0) yield data.join('\n')
        data = []
      } else if (line.startsWith('data:')) {
        data.push(line.slice(line.startsWith('data: ') ? 6 : 5))
      }
    }
  }
}

/** Reads one chunk into the summary; answers its text. */
function take(answer: Answer, data: string): string {
  let chunk: {
    id?: unknown
    model?: unknown
    error?: { message?: unknown }
    usage?: { prompt_tokens?: unknown; completion_tokens?: unknown } | null
    choices?: { text?: unknown; delta?: { content?: unknown }; finish_reason?: unknown }[]
  }
  try {
    chunk = JSON.parse(data)
  } catch {
    throw new ZgError('ERR_PROTOCOL', 'the server streams something that is not JSON')
  }
  if (chunk.error !== undefined)
    throw new ZgError(
      'ERR_UNAVAILABLE',
      `the provider failed in the middle: ${String(chunk.error?.message).slice(0, 200)}`
    )
  if (typeof chunk.id === 'string') answer.id = chunk.id
  if (typeof chunk.model === 'string') answer.model = chunk.model
  if (typeof chunk.usage?.prompt_tokens === 'number') answer.promptTokens = chunk.usage.prompt_tokens
  if (typeof chunk.usage?.completion_tokens === 'number') answer.completionTokens = chunk.usage.completion_tokens
  const choice = chunk.choices?.[0]
  if (typeof choice?.finish_reason === 'string') answer.finish = choice.finish_reason
  const text = choice?.delta?.content ?? choice?.text
  return typeof text === 'string' ? text : ''
}

/** A refusal in the family's words, with the server's own message. */
export async function refusal(res: Response, where: string): Promise<ZgError> {
  const text = (await res.text().catch(() => '')).slice(0, 4096)
  let message = `HTTP ${res.status}`
  let code: unknown
  try {
    const { error } = JSON.parse(text) as { error?: string | { message?: string; code?: unknown } }
    if (typeof error === 'string') message = error
    else if (typeof error?.message === 'string') message = error.message
    code = typeof error === 'object' ? error?.code : undefined
  } catch {
    // Not ours to understand: the status says enough.
  }
  message = messageOf(message).slice(0, 300)
  switch (res.status) {
    case 400:
    case 413:
      return new ZgError(
        'ERR_BAD_INPUT',
        message,
        code === 'context_length_exceeded' ? { hint: "run 'zg-market list --context N'" } : {}
      )
    case 401:
    case 403:
      return new ZgError('ERR_PERMISSION', `the provider refuses the session: ${message}`)
    case 402:
      return new ZgError('ERR_FUNDS', message, { hint: "run 'zg-compute account deposit 1'" })
    case 404:
    case 410:
      return new ZgError('ERR_NOT_FOUND', message, { hint: "run 'zg-compute models'" })
    default:
      return new ZgError('ERR_UNAVAILABLE', `the provider at ${where} answers: ${message}`, {
        hint: res.headers.get('retry-after') === null ? undefined : `again in ${res.headers.get('retry-after')} s`
      })
  }
}

/** A failure of the connection in the family's words; what already is one passes. */
export function inWords(err: unknown, where: string, signal: AbortSignal): unknown {
  if (err instanceof ZgError) return err
  if (signal.aborted) return new ZgError('ERR_STOPPED', 'stopped')
  if ((err as { name?: string }).name === 'TimeoutError')
    return new ZgError('ERR_TIMEOUT', `the provider at ${where} stays silent`)
  const code = systemCode(err)
  return new ZgError(
    'ERR_UNAVAILABLE',
    code === 'ECONNREFUSED' ? `nobody listens at ${where}` : `the connection to ${where} broke: ${messageOf(err)}`,
    { cause: err, hint: "run 'zg-market list' to see who answers" }
  )
}
