/**
 * `zg-store get`: verified bytes to stdout or into a file; a folder into a directory. Several roots are the fragments of one
 * stream, in order.
 */
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { Options, VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { checkTarget } from '../../../lib/clients/store/download.ts'
import type { Chunk } from '../../../lib/clients/store/get.ts'
import {
  download,
  entryAt,
  type NodePool,
  RemoteStream,
  readFolder,
  restoreFolder,
  saveStream
} from '../../../lib/clients/store.ts'
import type { DecryptWith } from '../../../lib/codec/storage/encryption.ts'
import type { FolderEntry } from '../../../lib/codec/storage/folder.ts'
import { decryption, findPool, parseByteRange, parsePathInFolder, parseRoot } from './common.ts'

export const get: VerbFn = async (ctx, args, opts) => {
  const first = parsePathInFolder(args[0]!)
  const rest = args.slice(1).map(parseRoot)
  const output = opts.output === '-' ? undefined : (opts.output as string | undefined)
  const range = opts.range === undefined ? undefined : parseByteRange(opts.range as string)
  if (first.path !== '' && rest.length > 0) throw new ZgError('ERR_USAGE', 'a path in a folder is read alone')
  if (opts.recursive === true) {
    if (output === undefined) throw new ZgError('ERR_USAGE', "'--recursive' needs '--output DIR'")
    if (range !== undefined || rest.length > 0) throw new ZgError('ERR_USAGE', "'--recursive' takes one root, no range")
  } else if (ctx.json && output === undefined) {
    throw new ZgError('ERR_USAGE', "'--json' needs '--output FILE': stdout carries the file")
  }
  if (output !== undefined && opts.recursive !== true) await checkTarget(output, opts.force === true)
  const key = await decryption(ctx, opts)
  const pool = await findPool(ctx, opts)
  const call = { signal: ctx.signal, key }
  let roots = [first.root, ...rest]
  if (first.path !== '' || opts.recursive === true) {
    const entry = entryAt(await readFolder(pool, first.root, call), first.path)
    if (opts.recursive === true) return getFolder(ctx, pool, entry, output!, opts, key)
    if (entry.type !== 'file') {
      const what = entry.type === 'directory' ? 'a folder' : `a link to '${entry.link}'`
      throw new ZgError('ERR_BAD_INPUT', `'${first.path}' is ${what}`, {
        hint: entry.type === 'directory' ? `run 'zg-store get -r ${args[0]} -o DIR'` : undefined
      })
    }
    if (entry.roots.length === 0) {
      // Nothing is stored of an empty file.
      if (output !== undefined) await saveStream(nothing(), output, { force: opts.force === true })
      return
    }
    roots = entry.roots
  }
  const stream = await RemoteStream.open(pool, roots, call)
  const [start, end] = range === undefined ? [0, stream.sizeBytes] : range(stream.sizeBytes)
  const total = end - start
  const bar = ctx.progress('download', { total })
  const save = { signal: ctx.signal, force: opts.force === true, onProgress: (n: number) => bar.update(n, total) }
  let resumedBytes = 0
  if (output === undefined) await toStdout(ctx, stream.chunks(start, end, call), n => bar.update(n, total))
  else if (range !== undefined) await saveStream(stream.bytes(start, end, call), output, save)
  else {
    resumedBytes = (await download(stream, output, save)).resumedBytes
    if (resumedBytes > 0) ctx.say(`resumed at ${Math.floor((100 * resumedBytes) / total)} %`)
  }
  bar.done()
  mention(ctx, pool, stream.problems)
  if (output === undefined) return
  ctx.print(
    {
      type: 'file',
      root: toHex(stream.files[0]!.root),
      size: total,
      segments: stream.segments,
      tx_seq: stream.files[0]!.info.seq,
      resumed: resumedBytes > 0,
      nodes: stream.nodes.length,
      output,
      ...(range === undefined ? {} : { offset: start })
    },
    null
  )
}

async function getFolder(
  ctx: VerbContext,
  pool: NodePool,
  top: FolderEntry,
  dir: string,
  opts: Options,
  key: DecryptWith | undefined
): Promise<void> {
  if (top.type !== 'directory') throw new ZgError('ERR_BAD_INPUT', 'that is a file of the folder, not a folder')
  const total = sizeOf(top)
  const bar = ctx.progress('download', { total })
  let files = 0
  await restoreFolder(pool, top, dir, {
    signal: ctx.signal,
    key,
    force: opts.force === true,
    onProgress: done => bar.update(done, total),
    onFile: (path, entry, resumedBytes) => {
      files++
      const root = entry.roots[0]
      ctx.print(
        {
          type: 'file',
          root: root === undefined ? null : toHex(root),
          size: entry.size,
          resumed: resumedBytes > 0,
          output: `${dir}/${path}`
        },
        null
      )
    }
  })
  bar.done()
  mention(ctx, pool, [])
  ctx.say(`${files} ${files === 1 ? 'file' : 'files'} in ${dir}`)
}

function sizeOf(e: FolderEntry): number {
  return e.entries.reduce((sum, x) => sum + sizeOf(x), e.size)
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

async function toStdout(ctx: VerbContext, parts: AsyncIterable<Chunk>, on: (n: number) => void): Promise<void> {
  let done = 0
  for await (const { bytes, release } of parts) {
    await ctx.write(bytes)
    release()
    done += bytes.length
    on(done)
  }
}

/** Nodes that failed although the file was read: worth a line, not an error. */
function mention(ctx: VerbContext, pool: NodePool, more: readonly string[]): void {
  const problems = [...new Set([...pool.problems, ...more])]
  for (const text of problems.slice(0, 3)) ctx.warn(`${ctx.tool}: ${text}; read from another node`)
}
