/** `zg-store kv get` and `kv put`: one key of a stream. */
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { findEndpoint } from '../../../lib/clients/network.ts'
import { hashSource, KvClient, memorySource, put as putFile } from '../../../lib/clients/store.ts'
import { ANY_VERSION, encodeKv, encodeStreamTags } from '../../../lib/codec/storage/kv.ts'
import { findPayer, findPool, journalDir, parseBytes, parseStream } from './common.ts'
import { putOptions, watch } from './put.ts'

/** Values larger than this belong into a file whose root is the value. */
const VALUE_MAX_BYTES = 64 * 1024 * 1024

export const kvGet: VerbFn = async (ctx, args, opts) => {
  const stream = parseStream(args[0]!)
  const key = parseBytes(args[1]!)
  const client = new KvClient(await kvUrl(ctx, opts.kv), ctx.signal)
  const value = await client.get(stream, key, opts.at as number | undefined)
  if (value === undefined) {
    ctx.warn(`${ctx.tool}: no value of '${args[1]}' in stream ${toHex(stream)}`)
    return 1
  }
  if (!ctx.json) {
    await ctx.write(value.data)
    return 0
  }
  ctx.print(
    {
      type: 'kv_value',
      stream: toHex(stream),
      key: toHex(key),
      version: value.version,
      size: value.sizeBytes,
      value: toHex(value.data)
    },
    null
  )
  return 0
}

export const kvPut: VerbFn = async (ctx, args, opts) => {
  const stream = parseStream(args[0]!)
  const key = parseBytes(args[1]!)
  const erase = opts.delete === true
  if (erase && args[2] !== undefined) throw new ZgError('ERR_USAGE', "'--delete' takes no value")
  const value = erase
    ? new Uint8Array(0)
    : args[2] === undefined || args[2] === '-'
      ? await input(ctx)
      : parseBytes(args[2])
  if (!erase && value.length === 0) {
    throw new ZgError('ERR_USAGE', 'an empty value deletes the key', { hint: "give '--delete' if that is meant" })
  }
  const version = opts.seen === undefined ? ANY_VERSION : BigInt(opts.seen as number)
  const content = encodeKv({ version, reads: [], writes: [{ stream, key, value }], controls: [] })
  const wait = opts.wait !== false
  const client = wait ? new KvClient(await kvUrl(ctx, opts.kv), ctx.signal) : undefined
  const source = memorySource(content)
  const { flow, signer } = await findPayer(ctx, opts)
  const { on, end } = watch(ctx)
  const result = await putFile(source, await hashSource(source), {
    pool: await findPool(ctx, opts),
    flow,
    signer,
    journalDir: journalDir(ctx.network),
    ...putOptions(ctx, { ...opts, wait: true }),
    tags: encodeStreamTags([stream]),
    // The same bytes again are another write: set a=1, a=2, a=1 must leave 1.
    always: true,
    on
  })
  end(result.urls)
  const text = await client?.waitResult(result.seq, (opts.timeout as number | undefined) ?? 60_000)
  ctx.print(
    {
      type: 'kv_write',
      stream: toHex(stream),
      key: toHex(key),
      size: value.length,
      root: toHex(result.root),
      tx_seq: result.seq,
      txHash: result.txHash === undefined ? null : toHex(result.txHash),
      fee_neuron: result.feeNeuron.toString(),
      result: text ?? null
    },
    String(result.seq)
  )
  if (text !== undefined && text !== 'Commit') {
    throw new ZgError('ERR_REJECTED', `the write was stored but not applied: ${text}`)
  }
}

function kvUrl(ctx: VerbContext, given: unknown): Promise<string> {
  return findEndpoint(given as string | undefined, ctx.network, 'kv', 'zg-store')
}

async function input(ctx: VerbContext): Promise<Uint8Array> {
  if (ctx.stdin.isTTY === true) ctx.say('reading the value from the terminal, Ctrl-D ends')
  const parts: Uint8Array[] = []
  let size = 0
  for await (const part of ctx.stdin as AsyncIterable<Uint8Array>) {
    size += part.length
    if (size > VALUE_MAX_BYTES) {
      throw new ZgError('ERR_BAD_INPUT', 'value is larger than 64 MiB', {
        hint: "store it with 'zg-store put' and keep its root under the key"
      })
    }
    parts.push(part)
  }
  return Buffer.concat(parts, size)
}
