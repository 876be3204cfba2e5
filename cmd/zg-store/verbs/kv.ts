/** `zg-store kv get`, `kv put` and `kv list`: keys of a stream. What is written goes out as {@link writeStream} does it. */
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { Options, VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { ChainClient } from '../../../lib/clients/chain.ts'
import { findEndpoint, readNetwork } from '../../../lib/clients/network.ts'
import {
  encryptedSource,
  hashSource,
  KvClient,
  memorySource,
  put as putFile,
  readEncryptionKey
} from '../../../lib/clients/store.ts'
import { ANY_VERSION, encodeKv, encodeStreamTags, type KvOps, streamsOf } from '../../../lib/codec/storage/kv.ts'
import { encryptionLock, findPayer, findPool, journalDir, parseBytes, parseStream } from './common.ts'
import { putOptions, watch } from './put.ts'

/** Values larger than this belong into a file whose root is the value. */
const VALUE_MAX_BYTES = 64 * 1024 * 1024

export const kvGet: VerbFn = async (ctx, args, opts) => {
  const stream = parseStream(args[0]!)
  const key = parseBytes(args[1]!)
  const client = new KvClient(await kvUrl(ctx, opts.kv), ctx.signal)
  const at = opts.at as number | undefined
  const proven = opts.proof === true ? await prove(ctx, client, { stream, key, at }, opts) : undefined
  const value = opts.proof === true ? proven : await client.get(stream, key, at)
  if (value === undefined || value.sizeBytes === 0) {
    if (proven !== undefined) ctx.say(`submission ${proven.version} deleted it, as proven`)
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
      value: toHex(value.data),
      ...(proven === undefined
        ? {}
        : {
            proof: {
              root: toHex(proven.proof.event.root),
              flow_root: toHex(proven.proof.flowRoot),
              block: proven.proof.block,
              txHash: proven.proof.txHash
            }
          })
    },
    null
  )
  return 0
}

/** The value with proof: believed are the chain and its flow contract, not the key-value node. */
async function prove(
  ctx: VerbContext,
  client: KvClient,
  what: { stream: Uint8Array; key: Uint8Array; at: number | undefined },
  opts: Options
): ReturnType<KvClient['prove']> {
  const url = await findEndpoint(opts.rpcUrl as string | undefined, ctx.network, 'rpc', 'zg-store')
  const flow = (opts.flow as string | undefined) ?? (await readNetwork(ctx.network))?.contracts.flow
  if (flow === undefined) {
    throw new ZgError('ERR_USAGE', 'the flow contract is not known', { hint: "give '--flow ADDRESS'" })
  }
  const keyFile = opts.encryptionKeyFile as string | undefined
  return client.prove(what.stream, what.key, {
    chain: new ChainClient(url, { signal: ctx.signal }),
    flow: flow.toLowerCase(),
    ...(what.at === undefined ? {} : { version: what.at }),
    encryptionKey: keyFile === undefined ? undefined : await readEncryptionKey(keyFile)
  })
}

export const kvList: VerbFn = async (ctx, args, opts) => {
  const stream = parseStream(args[0]!)
  const client = new KvClient(await kvUrl(ctx, opts.kv), ctx.signal)
  const limit = (opts.limit as number | undefined) ?? Number.MAX_SAFE_INTEGER
  const values = opts.values === true
  const list = client.list(stream, {
    ...(args[1] === undefined ? {} : { prefix: parseBytes(args[1]) }),
    ...(opts.from === undefined ? {} : { from: parseBytes(opts.from as string) }),
    ...(opts.at === undefined ? {} : { version: opts.at as number }),
    reverse: opts.reverse === true,
    values
  })
  let n = 0
  for await (const e of list) {
    const value = values
      ? e.data.length < e.sizeBytes
        ? (await client.get(stream, e.key, e.version))!.data
        : e.data
      : undefined
    const text = showBytes(e.key)
    ctx.print(
      {
        type: 'kv_entry',
        stream: toHex(stream),
        key: toHex(e.key),
        version: e.version,
        size: e.sizeBytes,
        ...(value === undefined ? {} : { value: toHex(value) })
      },
      value !== undefined
        ? `${text}\t${showBytes(value)}`
        : opts.long === true
          ? `${e.version}\t${e.sizeBytes}\t${text}`
          : text
    )
    if (++n >= limit) break
  }
  return n === 0 ? 1 : 0
}

/** Bytes on one line, as {@link parseBytes} reads them back: text where it is printable and does not look like hex, else hex. */
function showBytes(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString('utf8')
  const same = Buffer.from(text, 'utf8').equals(bytes) && !/[\p{C}\u2028\u2029]/u.test(text)
  return same && !/^0x([0-9a-fA-F]{2})*$/.test(text) ? text : toHex(bytes)
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
  const written = await writeStream(ctx, { version, reads: [], writes: [{ stream, key, value }], controls: [] }, opts)
  ctx.print(
    { type: 'kv_write', stream: toHex(stream), key: toHex(key), size: value.length, ...written.record },
    String(written.seq)
  )
  written.check()
}

/** A file of operations that was stored, and what became of it. */
export interface WrittenStream {
  seq: number
  /** Fields of a record that tell of it. */
  record: Record<string, unknown>
  /** @throws {ZgError} ERR_REJECTED when it was not applied. */
  check: () => void
}

/** Stores operations, and waits until a key-value node has applied them unless `--no-wait` says otherwise. */
export async function writeStream(ctx: VerbContext, ops: KvOps, opts: Options): Promise<WrittenStream> {
  const wait = opts.wait !== false
  const client = wait ? new KvClient(await kvUrl(ctx, opts.kv), ctx.signal) : undefined
  const plain = memorySource(encodeKv(ops))
  const lock = await encryptionLock(ctx, opts)
  const source = lock === undefined ? plain : await encryptedSource(plain, lock)
  const { flow, signer } = await findPayer(ctx, opts)
  const { on, end } = watch(ctx)
  const result = await putFile(source, await hashSource(source), {
    pool: await findPool(ctx, opts),
    flow,
    signer,
    journalDir: journalDir(ctx.network),
    ...putOptions(ctx, { ...opts, wait: true }),
    tags: encodeStreamTags(streamsOf(ops)),
    // The same bytes again are another write: set a=1, a=2, a=1 must leave 1.
    always: true,
    on
  })
  end(result.urls)
  const text = await client?.waitResult(result.seq, (opts.timeout as number | undefined) ?? 60_000)
  return {
    seq: result.seq,
    record: {
      root: toHex(result.root),
      tx_seq: result.seq,
      txHash: result.txHash === undefined ? null : toHex(result.txHash),
      fee_neuron: result.feeNeuron.toString(),
      result: text ?? null
    },
    check: () => {
      if (text !== undefined && text !== 'Commit') {
        throw new ZgError('ERR_REJECTED', `the write was stored but not applied: ${text}`)
      }
    }
  }
}

export function kvUrl(ctx: VerbContext, given: unknown): Promise<string> {
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
