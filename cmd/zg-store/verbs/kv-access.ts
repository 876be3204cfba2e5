/**
 * `zg-store kv grant`, `kv revoke`, `kv renounce`, `kv protect` and `kv roles`: who may write what in a stream (storage.md 6.2, 6.3).
 *
 * Whoever writes a stream first is its admin. An admin writes every key; a writer every key that is not special; a special key its own
 * writers only. Admins and writers make writers, special writers of a key make others for it; only admins take roles away, and nobody
 * takes away that of an admin: he renounces it.
 */
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { Options, VerbContext, VerbFn } from '../../../lib/cli/types.ts'
import { findAddress } from '../../../lib/clients/accounts.ts'
import { KvClient } from '../../../lib/clients/store.ts'
import { ANY_VERSION, type ControlName, type KvControl } from '../../../lib/codec/storage/kv.ts'
import { parseBytes, parseStream } from './common.ts'
import { kvUrl, writeStream } from './kv.ts'

export const kvGrant: VerbFn = async (ctx, args, opts) => {
  const type = role(opts, { admin: 'grantAdmin', writer: 'grantWriter', key: 'grantSpecialWriter' })
  await control(
    ctx,
    { type, stream: parseStream(args[0]!), account: await findAddress(args[1]!), ...keyOf(opts) },
    opts
  )
}

export const kvRevoke: VerbFn = async (ctx, args, opts) => {
  const type = role(opts, { writer: 'revokeWriter', key: 'revokeSpecialWriter' })
  await control(
    ctx,
    { type, stream: parseStream(args[0]!), account: await findAddress(args[1]!), ...keyOf(opts) },
    opts
  )
}

export const kvRenounce: VerbFn = async (ctx, args, opts) => {
  const type = role(opts, { admin: 'renounceAdmin', writer: 'renounceWriter', key: 'renounceSpecialWriter' })
  await control(ctx, { type, stream: parseStream(args[0]!), ...keyOf(opts) }, opts)
}

export const kvProtect: VerbFn = async (ctx, args, opts) => {
  const type = opts.off === true ? 'setNormal' : 'setSpecial'
  await control(ctx, { type, stream: parseStream(args[0]!), key: keyBytes(args[1]!) }, opts)
}

export const kvRoles: VerbFn = async (ctx, args, opts) => {
  const stream = parseStream(args[0]!)
  const account = await findAddress(args[1]!)
  const key = args[2] === undefined ? undefined : keyBytes(args[2])
  const client = new KvClient(await kvUrl(ctx, opts.kv), ctx.signal)
  const r = await client.roles(stream, account, key, opts.at as number | undefined)
  const words = [
    ...(r.admin ? ['admin'] : []),
    ...(r.writer ? ['writer'] : []),
    ...(r.keyWriter === true ? [`writer of ${args[2]}`] : []),
    ...(r.special === true ? [`${args[2]} is special`] : []),
    ...(r.mayWrite === undefined ? [] : [r.mayWrite ? `may write ${args[2]}` : `may not write ${args[2]}`])
  ]
  ctx.print(
    {
      type: 'kv_roles',
      stream: toHex(stream),
      account: toHex(account),
      admin: r.admin,
      writer: r.writer,
      ...(key === undefined
        ? {}
        : { key: toHex(key), special: r.special, key_writer: r.keyWriter, may_write: r.mayWrite })
    },
    words.length === 0 ? 'no role' : words.join(', ')
  )
  return r.admin || r.writer || r.keyWriter === true || r.mayWrite === true ? 0 : 1
}

async function control(ctx: VerbContext, c: KvControl, opts: Options): Promise<void> {
  const written = await writeStream(ctx, { version: ANY_VERSION, reads: [], writes: [], controls: [c] }, opts)
  ctx.print(
    {
      type: 'kv_access',
      stream: toHex(c.stream),
      operation: c.type,
      ...(c.account === undefined ? {} : { account: toHex(c.account) }),
      ...(c.key === undefined ? {} : { key: toHex(c.key) }),
      ...written.record
    },
    String(written.seq)
  )
  written.check()
}

/** The operation that the flags choose; a writer of the whole stream without any. */
function role(opts: Options, names: { admin?: ControlName; writer: ControlName; key: ControlName }): ControlName {
  if (opts.admin === true && opts.key !== undefined) throw new ZgError('ERR_USAGE', "'--admin' is a role for all keys")
  if (opts.admin === true) return names.admin!
  return opts.key === undefined ? names.writer : names.key
}

function keyOf(opts: Options): { key?: Uint8Array } {
  return opts.key === undefined ? {} : { key: keyBytes(opts.key as string) }
}

function keyBytes(text: string): Uint8Array {
  const key = parseBytes(text)
  if (key.length === 0) throw new ZgError('ERR_USAGE', 'a key has at least one byte')
  return key
}
