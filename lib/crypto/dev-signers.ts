/**
 * The four signers of data availability that a development network starts with: development accounts 5 to 8, so that none is the
 * owner, the compute provider or a user of examples. Their keys are public knowledge, as those of the accounts are.
 */
import { fromHex, type Hex } from '../base/hex.ts'
import { type G1, type G2, publicKeyG1, publicKeyG2, secretKeyFrom } from './bn254.ts'
import { DEV_ACCOUNTS } from './dev-accounts.ts'

export interface DevSigner {
  /** Its place among the development accounts. */
  readonly accountIndex: number
  /** With EIP-55 checksum. */
  readonly address: Hex
  /** Of the account: it pays for transactions. */
  readonly privateKey: Hex
  /** BLS, 1 … order − 1; made from the account's private key. */
  readonly secretKey: bigint
  readonly pkG1: G1
  readonly pkG2: G2
  /** `host:port` in the genesis; a network on other ports updates it on chain. */
  readonly socket: string
}

const FIRST_ACCOUNT = 5
const COUNT = 4
/** The default port of a signer (da.md 1); the next ones follow. */
const FIRST_PORT = 34000

/** The devnet's signers, always the same ones. About 10 ms. */
export function devSigners(): DevSigner[] {
  return Array.from({ length: COUNT }, (_, i) => devSigner(i)!)
}

/** One of them: a daemon needs no more than its own. @returns undefined when there is none of this number. */
export function devSigner(index: number): DevSigner | undefined {
  if (!Number.isInteger(index) || index < 0 || index >= COUNT) return undefined
  const accountIndex = FIRST_ACCOUNT + index
  const { address, privateKey } = DEV_ACCOUNTS[accountIndex]!
  const secretKey = secretKeyFrom(fromHex(privateKey))
  return {
    accountIndex,
    address,
    privateKey,
    secretKey,
    pkG1: publicKeyG1(secretKey),
    pkG2: publicKeyG2(secretKey),
    socket: `127.0.0.1:${FIRST_PORT + index}`
  }
}
