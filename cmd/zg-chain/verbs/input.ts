/** A file or stdin as text, bounded. */
import { ZgError } from '../../../lib/base/errors.ts'
import type { VerbContext } from '../../../lib/cli/types.ts'

/** @param file - `-` is stdin. @throws {ZgError} ERR_BAD_INPUT when it is longer; system errors pass. */
export async function readInput(ctx: VerbContext, file: string, maxBytes: number): Promise<string> {
  const { createReadStream } = await import('node:fs')
  if (file === '-' && ctx.stdin.isTTY) ctx.say('reading from the terminal, end with Ctrl-D')
  const parts: Buffer[] = []
  let size = 0
  for await (const part of file === '-' ? ctx.stdin : createReadStream(file)) {
    size += part.length
    if (size > maxBytes) throw new ZgError('ERR_BAD_INPUT', `'${file}' is larger than ${maxBytes} bytes`)
    parts.push(Buffer.from(part))
  }
  return Buffer.concat(parts).toString('utf8')
}
