/**
 * What `zg-chain statetest` and `zg-chain blocktest` share: JSON requests on stdin, one a line, JSON answers on stdout, one a line,
 * in any order, until the input ends. A line that cannot be understood is answered with an error line. With `--jobs N` the lines go to N processes
 * of the same verb.
 */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { ZgError } from '../../../lib/base/errors.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import { loadConformance } from '../../../lib/native.ts'
import {
  decodeBlockAnswer,
  decodeStateAnswer,
  encodeBlockRequest,
  encodeStateRequest,
  type Json
} from '../conformance/request.ts'

export type TestKind = 'state' | 'block'

/** Answers are joined up to this many characters before they are written. */
const WRITE_CHARS = 65_536

export function runner(kind: TestKind): VerbFn {
  return async (_ctx, _args, opts) => {
    if (opts.jsonl !== true) {
      throw new ZgError('ERR_USAGE', 'the only form so far is JSON lines', { hint: "add '--jsonl'" })
    }
    const jobs = (opts.jobs as number | undefined) ?? 1
    if (jobs > 1) return spread(jobs)
    const answer = answerer(kind)
    let pending = ''
    for await (const line of createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })) {
      if (line.trim() === '') continue
      pending += `${answer(line)}\n`
      if (pending.length >= WRITE_CHARS) {
        await write(pending)
        pending = ''
      }
    }
    await write(pending)
  }
}

/** The answer to one line; never throws. */
export function answerer(kind: TestKind): (line: string) => string {
  const run = loadConformance()
  return line => {
    let id: unknown = null
    try {
      const request = JSON.parse(line) as Json
      if (typeof request !== 'object' || request === null || Array.isArray(request))
        throw new ZgError('ERR_BAD_INPUT', 'the request is no object')
      id = request.id ?? null
      const result =
        kind === 'state'
          ? decodeStateAnswer(run('state', encodeStateRequest(request)))
          : decodeBlockAnswer(run('block', encodeBlockRequest(request)))
      return JSON.stringify({ id, ...result })
    } catch (err) {
      return JSON.stringify({ id, error: err instanceof Error ? err.message : String(err) })
    }
  }
}

async function write(text: string): Promise<void> {
  if (text === '' || process.stdout.write(text)) return
  await new Promise<void>(resolve => process.stdout.once('drain', resolve))
}

/** Deals lines out to processes of this same command with one job each. */
async function spread(jobs: number): Promise<void> {
  const args = process.argv.slice(1)
  const at = args.findIndex(a => a === '--jobs' || a.startsWith('--jobs='))
  if (at >= 0) args.splice(at, args[at] === '--jobs' ? 2 : 1)
  const children = Array.from({ length: jobs }, () =>
    spawn(process.execPath, [...process.execArgv, ...args, '--jobs', '1'], { stdio: ['pipe', 'pipe', 'inherit'] })
  )
  const ended = children.map(async child => {
    const code = new Promise<number | null>((resolve, reject) => {
      child.on('error', reject)
      child.on('exit', resolve)
    })
    // A child that dies closes its input under us; its exit status says so.
    child.stdin.on('error', () => {})
    for await (const line of createInterface({ input: child.stdout, crlfDelay: Number.POSITIVE_INFINITY }))
      await write(`${line}\n`)
    const status = await code
    if (status !== 0) throw new ZgError('ERR_CRASHED', `a worker ended with ${status ?? 'a signal'}`)
  })
  let next = 0
  for await (const line of createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })) {
    const child = children[next++ % jobs]!
    if (!child.stdin.destroyed && !child.stdin.write(`${line}\n`) && !child.stdin.destroyed) {
      await new Promise<void>(resolve => {
        const go = (): void => {
          child.stdin.off('drain', go)
          child.stdin.off('close', go)
          resolve()
        }
        child.stdin.on('drain', go)
        child.stdin.on('close', go)
      })
    }
  }
  for (const child of children) child.stdin.end()
  await Promise.all(ended)
}
