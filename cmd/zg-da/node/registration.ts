/**
 * A signer's standing on chain: it is registered under its keys, its published socket is the one it listens on, and it takes part
 * in every next epoch. Without the last a network would run out of signers at the first change of epoch.
 */
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import { registerNextEpochCall, registerSignerCall, updateSocketCall } from '../../../lib/clients/da/abi.ts'
import type { DaChain } from '../../../lib/clients/da/chain.ts'
import { epochDigest, registrationDigest, signBls } from '../../../lib/crypto/bn254.ts'
import type { Logger } from '../../../lib/ops/log.ts'
import type { Clock } from '../../../lib/ports/clock.ts'
import type { Identity } from './identity.ts'

export interface RegistrationOptions {
  chain: DaChain
  identity: Identity
  /** `host:port` under which dispersers and retrievers reach this node. */
  socket: string
  clock: Clock
  logger: Logger
}

/** How often the epoch is looked at: far more often than the shortest epoch of a development network ends. */
const LOOK_MS = 2_000
/** The first look waits until a whole network that starts at once has come up: checking a signature costs the chain a pairing. */
const FIRST_LOOK_MS = 4_000
/**
 * Enough for a registration (137,000). Given, because an estimate would run the pairing of the precompile a dozen times over; what a
 * refusal burns is small.
 */
const NEXT_EPOCH_GAS = 250_000n
/** After a failed transaction. */
const RETRY_MS = 5_000

/** Registers the signer, or publishes its socket anew, when the chain says otherwise. @throws {ZgError} as the chain refuses. */
export async function takeStand(o: RegistrationOptions): Promise<void> {
  const { chain, identity, socket, logger } = o
  const { address } = identity.account
  if (!(await chain.isSigner(address))) {
    const proof = signBls(identity.secretKey, registrationDigest(address, BigInt(chain.chainId)))
    const detail = { address, socket, pkG1: identity.pkG1, pkG2: identity.pkG2 }
    await chain.transact(identity.account, chain.addresses.registry, registerSignerCall(detail, proof))
    logger.info('registered as a signer', { signer: toHex(address), socket })
    return
  }
  const [known] = await chain.signers([address])
  if (known === undefined) throw new ZgError('ERR_PROTOCOL', 'the chain knows this signer and then does not')
  if (known.pkG1.x !== identity.pkG1.x || known.pkG1.y !== identity.pkG1.y) {
    throw new ZgError('ERR_CONFIG', `signer ${toHex(address)} is registered with another BLS key`, {
      hint: 'start with the key it was registered with'
    })
  }
  if (known.socket === socket) return
  await chain.transact(identity.account, chain.addresses.signers, updateSocketCall(socket))
  logger.info('published the socket', { socket, before: known.socket })
}

/** Registers for the next epoch, each epoch, until the signal. */
export async function keepRegistered(o: RegistrationOptions, signal: AbortSignal): Promise<void> {
  const { chain, identity, clock, logger } = o
  const { address } = identity.account
  let registeredFor = -1
  let told = ''
  await clock.sleep(FIRST_LOOK_MS, signal).catch(() => {})
  while (!signal.aborted) {
    let waitMs = LOOK_MS
    try {
      const next = (await chain.epoch()) + 1
      if (next !== registeredFor && !(await chain.registeredFor(address, next))) {
        const signature = signBls(identity.secretKey, epochDigest(address, BigInt(next), BigInt(chain.chainId)))
        await chain.transact(identity.account, chain.addresses.registry, registerNextEpochCall(signature), {
          gasLimit: NEXT_EPOCH_GAS
        })
        logger.info('registered for the next epoch', { epoch: next })
      }
      registeredFor = next
      told = ''
    } catch (err) {
      if (signal.aborted) return
      const message = messageOf(err)
      // The epoch may have changed between reading it and the transaction: the next look settles that.
      if (message !== told) logger.warn('cannot register for the next epoch', { error: message })
      told = message
      waitMs = RETRY_MS
    }
    await clock.sleep(waitMs, signal).catch(() => {})
  }
}
