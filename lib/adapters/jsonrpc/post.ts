/**
 * One POST of JSON over kept-alive connections. Node's own HTTP client, not `fetch`: a daemon that follows a chain makes such calls
 * all day, and each costs it and the machine a fifth of the time.
 */
import { Agent as HttpAgent, request as httpRequest, type RequestOptions } from 'node:http'
import type { Agent as HttpsAgent } from 'node:https'

/** Idle connections are closed before servers commonly do (5 s), so that a call does not meet a closing one. */
const IDLE_MS = 4_000
const KEEP = { keepAlive: true, maxFreeSockets: 16, timeout: IDLE_MS, scheduling: 'lifo' } as const
const plain = new HttpAgent(KEEP)
let secure: { agent: HttpsAgent; request: typeof httpRequest } | undefined

/**
 * @param signal - ends the exchange; the rejection is its reason.
 * @param maxBytes - of the answer; more is not read.
 * @throws what the connection failed with, as Node tells it (`code` ECONNREFUSED, ECONNRESET, …); {@link AnswerTooLarge}.
 */
export async function postJson(
  url: string,
  body: string,
  signal: AbortSignal,
  headers: Record<string, string> = {},
  maxBytes = Number.POSITIVE_INFINITY
): Promise<{ status: number; text: string }> {
  const bytes = Buffer.from(body)
  const to = new URL(url)
  const { agent, request } = to.protocol === 'https:' ? await overTls() : { agent: plain, request: httpRequest }
  const options: RequestOptions = {
    method: 'POST',
    agent,
    headers: { ...headers, 'content-type': 'application/json', 'content-length': bytes.length }
  }
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const req = request(to, options, res => {
      const parts: Buffer[] = []
      let size = 0
      res.on('data', (part: Buffer) => {
        size += part.length
        if (size <= maxBytes) parts.push(part)
        else {
          parts.length = 0
          done(() => reject(new AnswerTooLarge(maxBytes)))
          req.destroy()
        }
      })
      res.once('end', () => done(() => resolve({ status: res.statusCode ?? 0, text: textOf(parts) })))
      // After `end` it says nothing new; before it the answer was cut short.
      res.once('close', () => done(() => reject(lost())))
      res.once('error', err => done(() => reject(err)))
    })
    const onAbort = (): void => done(() => reject(signal.reason))
    signal.addEventListener('abort', onAbort, { once: true })
    let settled = false
    function done(settle: () => void): void {
      if (settled) return
      settled = true
      signal.removeEventListener('abort', onAbort)
      settle()
      if (signal.aborted) req.destroy()
    }
    req.on('error', err => done(() => reject(err)))
    req.end(bytes)
  })
}

/** An answer went on beyond what was asked for; the rest was not read. */
export class AnswerTooLarge extends Error {
  constructor(maxBytes: number) {
    super(`the answer has more than ${maxBytes} bytes`)
    this.name = 'AnswerTooLarge'
  }
}

/** TLS is loaded by the first who needs it. */
async function overTls(): Promise<NonNullable<typeof secure>> {
  if (secure === undefined) {
    const { Agent, request } = await import('node:https')
    secure ??= { agent: new Agent(KEEP), request }
  }
  return secure
}

function textOf(parts: readonly Buffer[]): string {
  return (parts.length === 1 ? parts[0]! : Buffer.concat(parts)).toString('utf8')
}

function lost(): Error {
  return Object.assign(new Error('connection closed within the answer'), { code: 'ECONNRESET' })
}
