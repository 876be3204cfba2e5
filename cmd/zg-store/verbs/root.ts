/** `zg-store root`: the root a file would have, without network. */
import { toHex } from '../../../lib/base/hex.ts'
import type { VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { type FileHash, FileHasher, hashFile } from '../../../lib/codec/storage/hasher.ts'

export const root: VerbFn = async (ctx, args) => {
  const paths = args.length === 0 ? ['-'] : args
  for (const path of paths) {
    const hash = path === '-' ? await hashStdin(ctx) : await hashPath(ctx, path)
    const hex = toHex(hash.root)
    ctx.print(
      { type: 'root', root: hex, size: hash.size, segments: hash.shape.segments, file: path },
      // As sha256sum does it, but a single root stands alone so that it can be used as it is.
      paths.length === 1 ? hex : `${hex}  ${path}`
    )
  }
}

async function hashPath(ctx: VerbContext, path: string): Promise<FileHash> {
  const bar = ctx.progress('hash')
  const hash = await hashFile(path, {
    signal: ctx.signal,
    onProgress: (done, size) => bar.update(done, size === 0 ? undefined : size)
  })
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
