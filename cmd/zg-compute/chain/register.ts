/** Our service in the contract: registered when absent, updated when it differs, acknowledged where we may (compute.md 1.4). */
import { ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { Account } from '../../../lib/clients/accounts.ts'
import type { ServiceParams, ServiceRecord } from '../../../lib/codec/compute/abi.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { ServingChain } from './serving.ts'

/**
 * Makes the contract say what `wanted` says. Sends nothing when it does already.
 * @param o.owner - the contract's owner, when his key is here: acknowledges the signer.
 * @returns the service as it was before; undefined when there was none.
 * @throws {ZgError} ERR_FUNDS, ERR_REJECTED, or as the chain does; safe to call again.
 */
export async function register(
  chain: ServingChain,
  wanted: ServiceParams,
  o: { stake: bigint; owner: Account | undefined; logger: Logger }
): Promise<ServiceRecord | undefined> {
  const before = await chain.service()
  if (before === undefined || !same(before, wanted)) {
    await chain.register(wanted, before === undefined ? o.stake : 0n)
    o.logger.info(before === undefined ? 'service registered' : 'service updated', {
      model: wanted.model,
      url: wanted.url,
      signer: toHex(wanted.teeSigner)
    })
  }
  const now = before !== undefined && same(before, wanted) ? before : await chain.service()
  if (now?.teeSignerAcknowledged === true) return before
  if (o.owner === undefined) {
    o.logger.warn("the contract's owner has not acknowledged the signer: nobody can be served yet", {
      signer: toHex(wanted.teeSigner)
    })
    return before
  }
  if (toHex(o.owner.address) !== toHex(await chain.owner())) {
    throw new ZgError('ERR_CONFIG', `${toHex(o.owner.address)} does not own the serving contract`, {
      hint: "leave '--owner-account' away; the owner acknowledges the signer himself"
    })
  }
  await chain.acknowledgeAs(o.owner)
  o.logger.info('signer acknowledged by the owner', { signer: toHex(wanted.teeSigner) })
  return before
}

function same(a: ServiceParams, b: ServiceParams): boolean {
  return (
    a.serviceType === b.serviceType &&
    a.url === b.url &&
    a.model === b.model &&
    a.verifiability === b.verifiability &&
    a.inputPrice === b.inputPrice &&
    a.outputPrice === b.outputPrice &&
    a.additionalInfo === b.additionalInfo &&
    toHex(a.teeSigner) === toHex(b.teeSigner)
  )
}
