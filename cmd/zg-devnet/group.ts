/**
 * The storage nodes of a network as a coding group: their keys are made before they start, so that the signed list of members can
 * name them. List and keys stay with the network's data; the version of the list rises when members or ports change.
 */
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { memberKey } from '../../lib/adapters/member-key.ts'
import { messageOf, systemCode, ZgError } from '../../lib/base/errors.ts'
import { type GroupList, groupFromJson, groupToJson, type Member, signGroup } from '../../lib/codec/storage/members.ts'
import { contractsOf } from './contracts.ts'
import type { NetworkPlan } from './services.ts'

/** Writes the list for a network that is about to start. @returns the path of the file. */
export async function makeGroup(plan: NetworkPlan): Promise<string> {
  const path = join(plan.dataDir, 'group.json')
  const members: Member[] = []
  for (const [i, port] of plan.ports.stores.entries()) {
    const key = await memberKey(join(plan.dataDir, `store-${i}`, 'p2p.key'))
    members.push({ id: key.publicKey, peer: `http://127.0.0.1:${port}` })
  }
  const before = await readList(path)
  const flow = contractsOf(plan.chainId).flow!.toLowerCase()
  const next = { version: (before?.version ?? 0) + 1, chainId: plan.chainId, flow, members }
  const list = signGroup(next, await memberKey(join(plan.dataDir, 'group.key')))
  if (before !== undefined && sameMembers(before, list)) return path
  await writeFile(`${path}.tmp`, groupToJson(list), { mode: 0o600 })
  await rename(`${path}.tmp`, path)
  return path
}

async function readList(path: string): Promise<GroupList | undefined> {
  try {
    return groupFromJson(await readFile(path, 'utf8'))
  } catch (err) {
    if (systemCode(err) === 'ENOENT') return undefined
    throw new ZgError('ERR_CORRUPT', `'${path}' is damaged: ${messageOf(err)}`, {
      cause: err,
      hint: "run 'zg-devnet up --fresh'"
    })
  }
}

function sameMembers(a: GroupList, b: GroupList): boolean {
  const text = (g: GroupList): string => groupToJson({ ...g, version: 1, signature: new Uint8Array(0) })
  return text(a) === text(b)
}
