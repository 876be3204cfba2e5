/** What the client verbs share: which chain, which certificate, roots as people write them. */
import { ZgError } from '../../../lib/base/errors.ts'
import { fromHex, type Hex, toHex } from '../../../lib/base/hex.ts'
import type { Options, VerbContext } from '../../../lib/cli/types.ts'
import { ChainClient } from '../../../lib/clients/chain.ts'
import type { BlobId } from '../../../lib/clients/da/abi.ts'
import { DaChain } from '../../../lib/clients/da/chain.ts'
import { findEndpoint } from '../../../lib/clients/network.ts'

/** A certificate as the chain records it. */
export type Found = BlobId & { blockNumber: number; txHash: Hex }

/** @throws {ZgError} ERR_NO_NETWORK, ERR_UNAVAILABLE, ERR_NO_CONTRACT. */
export async function openChain(ctx: VerbContext, opts: Options): Promise<DaChain> {
  const url = await findEndpoint(opts.rpcUrl as string | undefined, ctx.network, 'rpc', `zg-da ${ctx.verb}`)
  const client = new ChainClient(url, { signal: ctx.signal })
  return DaChain.open(client, { entrance: opts.entrance as string | undefined })
}

/** The certificate that root, `--epoch` and `--quorum-id` name. @throws {ZgError} ERR_NOT_FOUND. */
export async function findCertificate(chain: DaChain, root: Uint8Array, opts: Options): Promise<Found> {
  const at = { epoch: opts.epoch as number | undefined, quorumId: opts.quorumId as number | undefined }
  const found = await chain.findCertificate(root, at)
  if (found !== undefined) return found
  const where =
    at.epoch === undefined && at.quorumId === undefined
      ? ''
      : ` in ${[at.epoch === undefined ? '' : `epoch ${at.epoch}`, at.quorumId === undefined ? '' : `quorum ${at.quorumId}`].filter(Boolean).join(', ')}`
  throw new ZgError('ERR_NOT_FOUND', `no certificate of ${toHex(root)} on chain ${chain.chainId}${where}`, {
    hint: "check the root; 'zg-da put FILE --dry-run' prints the one a file has"
  })
}

/** @throws {ZgError} ERR_USAGE. */
export function parseRoot(text: string): Uint8Array {
  try {
    return fromHex(text, 'root', { size: 32, bare: true })
  } catch (err) {
    throw new ZgError('ERR_USAGE', `'${text.slice(0, 80)}' is not a root`, {
      cause: err,
      hint: "a root is 0x and 64 hex digits, as 'zg-da put' prints it"
    })
  }
}
