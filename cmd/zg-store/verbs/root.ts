/** `zg-store root`: the root a file or directory would have, without network; `-c` checks a list of them, as sha256sum does. */
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { EXIT } from '../../../lib/cli/exit.ts'
import type { Options, VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { isDirectory, treeRootOf } from '../../../lib/clients/store.ts'
import { type FileHash, FileHasher, hashFile } from '../../../lib/codec/storage/hasher.ts'
import { namedRoot } from '../print.ts'

export const root: VerbFn = async (ctx, args, opts) => {
  const paths = args.length === 0 ? ['-'] : args
  if (opts.check === true) return check(ctx, paths, opts)
  let exit = 0
  for (const path of paths) {
    try {
      const hash = await hashOf(ctx, path)
      const hex = toHex(hash.root)
      ctx.print(
        { type: 'root', root: hex, size: hash.size, segments: hash.shape.segments, file: path },
        // A single root stands alone so that it can be used as it is.
        namedRoot(hex, paths.length === 1 ? undefined : path)
      )
    } catch (err) {
      // One bad file must not hide the roots of the others.
      if (paths.length === 1 || ctx.signal.aborted || !(err instanceof ZgError)) throw err
      ctx.warn(`${ctx.tool}: ${err.message}`)
      exit ||= EXIT[err.code]
    }
  }
  return exit
}

interface Tally {
  ok: number
  wrong: number
  unreadable: number
  malformed: number
}

async function check(ctx: VerbContext, lists: readonly string[], opts: Options): Promise<number> {
  const tally: Tally = { ok: 0, wrong: 0, unreadable: 0, malformed: 0 }
  for (const list of lists) {
    const input: Readable = list === '-' ? ctx.stdin : createReadStream(list)
    try {
      for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
        ctx.signal.throwIfAborted()
        if (line === '') continue
        const entry = parseLine(line)
        if (entry === undefined) tally.malformed++
        else await checkOne(ctx, entry, opts, tally)
      }
    } catch (err) {
      if (err instanceof ZgError || ctx.signal.aborted) throw err
      throw new ZgError('ERR_NO_INPUT', `cannot open '${list}'`, { cause: err })
    }
  }
  const read = tally.ok + tally.wrong + tally.unreadable
  const say = (n: number, one: string, many: string): void => {
    if (n > 0) ctx.warn(`${ctx.tool}: ${n} ${n === 1 ? one : many}`)
  }
  say(tally.malformed, 'line is malformed', 'lines are malformed')
  say(tally.unreadable, 'file could not be read', 'files could not be read')
  say(tally.wrong, 'root did not match', 'roots did not match')
  if (read === 0 && opts.ignoreMissing !== true)
    throw new ZgError('ERR_BAD_INPUT', 'no line has a root and a file name')
  if (read === 0) {
    ctx.warn(`${ctx.tool}: no file was checked`)
    return 1
  }
  return tally.wrong + tally.unreadable > 0 ? 1 : 0
}

async function checkOne(
  ctx: VerbContext,
  want: { root: string; file: string },
  opts: Options,
  tally: Tally
): Promise<void> {
  let state: 'ok' | 'wrong' | 'unreadable' = 'unreadable'
  try {
    state = toHex((await hashOf(ctx, want.file)).root) === want.root ? 'ok' : 'wrong'
  } catch (err) {
    if (ctx.signal.aborted || !(err instanceof ZgError)) throw err
    if (opts.ignoreMissing === true && err.code === 'ERR_NO_INPUT') return
    ctx.warn(`${ctx.tool}: ${err.message}`)
  }
  tally[state]++
  const words = state === 'ok' ? 'OK' : state === 'wrong' ? 'FAILED' : 'FAILED open or read'
  const shown = want.file.replaceAll('\n', '\\n').replaceAll('\r', '\\r')
  ctx.print(
    { type: 'root_check', file: want.file, root: want.root, ok: state === 'ok', state },
    ctx.quiet && state === 'ok' ? null : `${shown}: ${words}`
  )
}

/** `root  name` or `root *name`; with a backslash before it the name is escaped. */
export function parseLine(line: string): { root: string; file: string } | undefined {
  const m = /^(\\?)(0x)?([0-9a-fA-F]{64}) [ *](.+)$/s.exec(line)
  if (m === null) return undefined
  const file = m[1] === '' ? m[4]! : m[4]!.replace(/\\([\\nr])/g, (_, c) => (c === 'n' ? '\n' : c === 'r' ? '\r' : c))
  return file.includes('\0') ? undefined : { root: `0x${m[3]!.toLowerCase()}`, file }
}

async function hashOf(ctx: VerbContext, path: string): Promise<FileHash> {
  if (path === '-') return hashStdin(ctx)
  const bar = ctx.progress('hash')
  const o = {
    signal: ctx.signal,
    onProgress: (done: number, size: number) => bar.update(done, size === 0 ? undefined : size)
  }
  const hash = (await isDirectory(path)) ? (await treeRootOf(path, o)).hash : await hashFile(path, o)
  bar.done()
  return hash
}

async function hashStdin(ctx: VerbContext): Promise<FileHash> {
  if (ctx.stdin.isTTY === true) ctx.say('reading from the terminal, Ctrl-D ends')
  const hasher = new FileHasher()
  for await (const part of ctx.stdin as AsyncIterable<Uint8Array>) {
    ctx.signal.throwIfAborted()
    await hasher.push(part)
  }
  return hasher.finish()
}
