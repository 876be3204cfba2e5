/** `zg-da get`: a certified blob to stdout or into a file, never unchecked bytes. */
import { systemDisk } from '../../../lib/adapters/disk.ts'
import { GrpcError, STATUS, statusOf } from '../../../lib/adapters/grpc/status.ts'
import { equalBytes } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { Options, VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import type { DaChain } from '../../../lib/clients/da/chain.ts'
import { RetrieverClient } from '../../../lib/clients/da/retriever.ts'
import { SignerPool } from '../../../lib/clients/da/signer.ts'
import { readNetwork } from '../../../lib/clients/network.ts'
import { encodeBlob } from '../../../lib/codec/da/blob.ts'
import { retrieveBlob } from '../retriever/rebuild.ts'
import { type Found, findCertificate, openChain, parseRoot } from './common.ts'

export const get: VerbFn = async (ctx, args, opts) => {
  const root = parseRoot(args[0]!)
  const output = opts.output === '-' ? undefined : (opts.output as string | undefined)
  if (ctx.json && output === undefined) {
    throw new ZgError('ERR_USAGE', "'--json' needs '--output FILE': stdout carries the blob")
  }
  if (output !== undefined && opts.force !== true && (await systemDisk.exists(output))) {
    throw new ZgError('ERR_EXISTS', `'${output}' exists`, { hint: "give '--force' to replace it" })
  }
  const chain = await openChain(ctx, opts)
  const id = await findCertificate(chain, root, opts)
  const bar = ctx.progress('download')
  const data = await fetchBlob(ctx, opts, chain, id)
  bar.update(data.length)
  bar.done()
  if (output === undefined) {
    await ctx.write(data)
    return
  }
  await save(output, data)
  ctx.print(
    {
      type: 'blob',
      dataRoot: toHex(root),
      epoch: id.epoch,
      quorum_id: id.quorumId,
      size: data.length,
      certified: true,
      blockNumber: id.blockNumber,
      output
    },
    null
  )
}

/** From the retriever when its answer encodes to the root, else from the signers themselves. */
async function fetchBlob(ctx: VerbContext, opts: Options, chain: DaChain, id: Found): Promise<Uint8Array> {
  const address = (opts.retriever as string | undefined) ?? (await readNetwork(ctx.network))?.endpoints.retriever
  if (address !== undefined && opts.direct !== true) {
    const client = new RetrieverClient(address)
    try {
      const data = await client.retrieve(id, { signal: ctx.signal })
      // A faulty encoding has a value and another root: the signers then have the last word.
      if (data.length > 0 && equalBytes((await encodeBlob(data)).header.dataRoot, id.root)) return data
      ctx.warn(`${ctx.tool}: the retriever's answer does not have this root; asking the signers`)
    } catch (err) {
      if (statusOf(err) === STATUS.dataLoss || ctx.signal.aborted) throw err
      ctx.warn(`${ctx.tool}: ${messageOf(err)}; asking the signers`)
    } finally {
      client.close()
    }
  }
  const pool = new SignerPool()
  try {
    return await retrieveBlob(id, { chain, pool, logger: ctx.log('get'), signal: ctx.signal })
  } catch (err) {
    if (!(err instanceof GrpcError)) throw err
    const code = err.code === STATUS.dataLoss ? 'ERR_BAD_PROOF' : 'ERR_NOT_FOUND'
    throw new ZgError(code, `cannot read ${toHex(id.root)}: ${err.message}`, {
      cause: err,
      hint: "run 'zg-devnet status' to see which signers are up"
    })
  } finally {
    pool.close()
  }
}

/** Appears under its name whole or not at all. */
async function save(path: string, data: Uint8Array): Promise<void> {
  const part = `${path}.part`
  const file = await systemDisk.open(part, 'create')
  try {
    await file.truncate(0)
    await file.write(0, data)
    await file.sync()
  } finally {
    await file.close()
  }
  await systemDisk.rename(part, path)
}
