/** Passwords: from a file, a descriptor, or a prompt that does not echo. Never from a flag or the environment. */
import { readFileSync } from 'node:fs'
import { messageOf, ZgError } from '../base/errors.ts'
import { readSecretFile } from '../crypto/keystore-file.ts'
import type { Options, VerbContext } from './types.ts'

/** Longest password line read from a file or descriptor. */
const MAX_CHARACTERS = 4_096

/**
 * A function that gets the password once it is needed.
 * @param opts - `passwordFile` and `passwordFd` as the verb got them.
 */
export function passwordReader(ctx: VerbContext, opts: Options): (question: string) => Promise<string> {
  return async question => {
    if (typeof opts.passwordFile === 'string') return firstLine(await readSecretFile(opts.passwordFile))
    if (typeof opts.passwordFd === 'number') return firstLine(readDescriptor(opts.passwordFd))
    return prompt(ctx, question)
  }
}

/** Asks twice, for a password that will encrypt something. @throws {ZgError} ERR_USAGE when the two differ or are empty. */
export async function newPassword(ctx: VerbContext, opts: Options, question: string): Promise<string> {
  const read = passwordReader(ctx, opts)
  const password = await read(question)
  if (password === '') throw new ZgError('ERR_USAGE', 'the password is empty')
  const asked = opts.passwordFile === undefined && opts.passwordFd === undefined
  if (asked && (await read('again: ')) !== password) throw new ZgError('ERR_USAGE', 'the two passwords differ')
  return password
}

function firstLine(text: string): string {
  const line = text.split(/\r?\n/, 1)[0]!
  if (line.length > MAX_CHARACTERS) throw new ZgError('ERR_BAD_INPUT', 'the password is too long')
  return line
}

function readDescriptor(fd: number): string {
  try {
    return readFileSync(fd, 'utf8')
  } catch (err) {
    throw new ZgError('ERR_USAGE', `cannot read descriptor ${fd}: ${messageOf(err)}`, { cause: err })
  }
}

/** Reads a line from the terminal without showing it. */
function prompt(ctx: VerbContext, question: string): Promise<string> {
  const stdin = process.stdin
  if (!stdin.isTTY || ctx.json || process.env.CI !== undefined) {
    throw new ZgError('ERR_USAGE', 'a password is needed and nobody can be asked', {
      hint: "give '--password-file FILE'"
    })
  }
  return new Promise((resolve, reject) => {
    let line = ''
    const end = (fn: () => void): void => {
      stdin.setRawMode(false)
      stdin.pause()
      stdin.off('data', onData)
      process.stderr.write('\n')
      fn()
    }
    const onData = (chunk: Buffer): void => {
      for (const c of chunk.toString('utf8')) {
        if (c === '\r' || c === '\n') {
          end(() => resolve(line))
          return
        }
        // Ctrl-C and Ctrl-D: raw mode delivers them as characters.
        if (c === '\u0003' || c === '\u0004') {
          end(() => reject(new ZgError('ERR_STOPPED', 'stopped')))
          return
        }
        if (c === '\u007f' || c === '\b') line = line.slice(0, -1)
        else line += c
      }
    }
    // Before the question: whoever is quick must not see the first letters echoed.
    stdin.setRawMode(true)
    stdin.resume()
    stdin.on('data', onData)
    process.stderr.write(question)
  })
}
