/** `zg-store get`: verified bytes to stdout or into a file. Several roots are the fragments of one stream, in order. */
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { checkTarget } from '../../../lib/clients/store/download.ts'
import {
  decrypting,
  download,
  type NodePool,
  RemoteFile,
  readEncryptionKey,
  saveStream
} from '../../../lib/clients/store.ts'
import { findPool, parseRoot } from './common.ts'

export const get: VerbFn = async (ctx, args, opts) => {
  const roots = args.map(parseRoot)
  const output = opts.output === '-' ? undefined : (opts.output as string | undefined)
  if (ctx.json && output === undefined) {
    throw new ZgError('ERR_USAGE', "'--json' needs '--output FILE': stdout carries the file")
  }
  if (output !== undefined) await checkTarget(output, opts.force === true)
  const key =
    opts.encryptionKeyFile === undefined ? undefined : await readEncryptionKey(opts.encryptionKeyFile as string)
  const pool = await findPool(ctx, opts)
  const files: RemoteFile[] = []
  for (const root of roots) files.push(await RemoteFile.open(pool, root, { signal: ctx.signal }))
  const total = files.reduce((sum, f) => sum + f.sizeBytes, 0)
  const bar = ctx.progress('download', { total })
  const file = files[0]!
  const save = { signal: ctx.signal, force: opts.force === true, onProgress: (n: number) => bar.update(n, total) }
  let resumedBytes = 0
  if (output !== undefined && files.length === 1 && key === undefined) {
    resumedBytes = (await download(file, output, save)).resumedBytes
    if (resumedBytes > 0) ctx.say(`resumed at ${Math.floor((100 * resumedBytes) / total)} %`)
  } else {
    const stored = joined(files, ctx.signal)
    const plain = key === undefined ? stored : decrypting(stored, { key })
    if (output !== undefined) await saveStream(plain, output, save)
    else await toStdout(ctx, plain, n => bar.update(n, total))
  }
  bar.done()
  mention(ctx, pool, files)
  if (output !== undefined) {
    const segments = files.reduce((sum, f) => sum + f.shape.segments, 0)
    ctx.print(
      {
        type: 'file',
        root: toHex(file.root),
        size: total,
        segments,
        tx_seq: file.info.seq,
        resumed: resumedBytes > 0,
        nodes: file.nodes.length,
        output
      },
      null
    )
  }
}

async function* joined(files: readonly RemoteFile[], signal: AbortSignal): AsyncGenerator<Uint8Array> {
  for (const f of files) yield* f.segments({ signal })
}

async function toStdout(ctx: VerbContext, parts: AsyncIterable<Uint8Array>, on: (n: number) => void): Promise<void> {
  let done = 0
  for await (const part of parts) {
    await ctx.write(part)
    done += part.length
    on(done)
  }
}

/** Nodes that failed although the file was read: worth a line, not an error. */
function mention(ctx: VerbContext, pool: NodePool, files: readonly RemoteFile[]): void {
  const problems = [...new Set([...pool.problems, ...files.flatMap(f => f.problems)])]
  for (const text of problems.slice(0, 3)) ctx.warn(`${ctx.tool}: ${text}; read from another node`)
}
