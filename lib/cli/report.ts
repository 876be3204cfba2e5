/** The one place that prints an error (ux.md section 4) and says with which status to exit. */
import { AssertionError, messageOf, ZgError } from '../base/errors.ts'
import { EXIT, toZgError } from './exit.ts'

/** Prints to stderr and answers the exit status. A bug prints its stack and versions and answers 70. */
export function report(tool: string, thrown: unknown, o: { json: boolean; verbose: boolean }): number {
  const err = toZgError(thrown) ?? bug(thrown)
  const exit = EXIT[err.code]
  const lines: string[] = []
  if (!o.json || err.code === 'ERR_BUG') {
    lines.push(`${tool}: ${err.message}`)
    if (err.hint !== undefined && !o.json) lines.push(`hint: ${err.hint}`)
    if (!o.json) lines.push(...err.facts)
  }
  if (o.verbose || err.code === 'ERR_BUG') {
    const stack = (err.cause instanceof Error ? err.cause : err).stack
    lines.push(stack ?? '', `node ${process.version} ${process.platform}-${process.arch}`)
  }
  if (o.json)
    lines.push(
      JSON.stringify({
        type: 'error',
        code: err.code,
        exit,
        message: err.message,
        ...(err.hint === undefined ? {} : { hint: err.hint })
      })
    )
  process.stderr.write(`${lines.join('\n')}\n`)
  return exit
}

function bug(thrown: unknown): ZgError {
  const broken = thrown instanceof AssertionError ? 'invariant broken: ' : ''
  return new ZgError('ERR_BUG', `bug: ${broken}${messageOf(thrown)}`, { cause: thrown })
}
