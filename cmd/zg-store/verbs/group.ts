/** `zg-store group id|make|prune`: names, the signed list and tombstones of a coding group. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { memberKey } from '../../../lib/adapters/member-key.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { fromHex, hashFromHex, toHex } from '../../../lib/base/hex.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import {
  encodeTombstone,
  groupFromJson,
  groupToJson,
  type Member,
  signGroup,
  signTombstone
} from '../../../lib/codec/storage/members.ts'

/** Prints the id of the node whose data directory this is; makes its key when there is none. */
export const groupId: VerbFn = async (ctx, args) => {
  const key = await memberKey(join(args[0]!, 'p2p.key'))
  const id = toHex(key.publicKey)
  ctx.print({ type: 'member', id, dir: args[0] }, id)
}

/** Writes a list signed by the group's key (made when absent), one version above the file that is there. */
export const groupMake: VerbFn = async (ctx, args, opts) => {
  const path = args[0]!
  if (opts.member === undefined || opts.chainId === undefined || opts.flow === undefined) {
    throw new ZgError('ERR_USAGE', 'a list needs --member, --chain-id and --flow')
  }
  const key = await memberKey(opts.key as string)
  const old = await readFile(path, 'utf8').then(groupFromJson, () => undefined)
  const list = signGroup(
    {
      version: (old?.version ?? 0) + 1,
      chainId: opts.chainId as number,
      flow: opts.flow as string,
      members: (opts.member as string[]).map(parseMember)
    },
    key
  )
  await writeFile(path, groupToJson(list), { mode: 0o644 })
  const members = list.members.length
  ctx.print({ type: 'group', group: toHex(list.group), version: list.version, members, file: path }, path)
}

/** Prints a tombstone as hex, for `admin_tombstone` of any member. */
export const groupTombstone: VerbFn = async (ctx, args, opts) => {
  const key = await memberKey(opts.key as string)
  const stone = signTombstone(hashFromHex(args[0], 'root'), opts.epoch as number, opts.reason as string, key)
  const hex = toHex(encodeTombstone(stone))
  ctx.print({ type: 'tombstone', root: toHex(stone.root), tombstone: hex }, hex)
}

/** Reads `0xID@http://host:port` or `0xID@http://host:port,zone`. */
export function parseMember(text: string): Member {
  const m = /^(0x[0-9a-fA-F]{64})@(https?:\/\/[^,\s]+)(?:,(.+))?$/.exec(text)
  if (m === null) {
    throw new ZgError('ERR_USAGE', `'${text}' is not a member`, {
      hint: "write '0xID@http://host:port' or with ',zone'"
    })
  }
  try {
    return { id: fromHex(m[1]!.toLowerCase()), peer: m[2]!, ...(m[3] === undefined ? {} : { zone: m[3] }) }
  } catch (err) {
    throw new ZgError('ERR_USAGE', messageOf(err))
  }
}
