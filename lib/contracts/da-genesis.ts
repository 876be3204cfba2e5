/** Data availability in a genesis: the account of the DASigners precompile, and the signers a network begins with. */
import { compareBytes } from '../base/bytes.ts'
import { ZgError } from '../base/errors.ts'
import { fromHex, toHex } from '../base/hex.ts'
import { encodeG1Be, type G1, type G2, isG1, isG2 } from '../crypto/bn254.ts'
import { keccak256 } from '../crypto/hash.ts'
import {
  type Candidate,
  checkSocket,
  drawQuorums,
  KEYS,
  openEpoch,
  register,
  type SlotStore,
  writeSigner,
  writeWord
} from './da-signers.ts'

export interface GenesisSigner {
  /** 20 bytes. */
  address: Uint8Array
  /** `host:port`, at most 96 bytes. */
  socket: string
  pkG1: G1
  pkG2: G2
  /** Ballots in the first epoch: 1 … 102,400. */
  votes: bigint
}

export interface DaSignersOptions {
  /** Empty: the first epoch has no quorum. */
  signers: readonly GenesisSigner[]
  /** Blocks of an epoch. */
  epochBlocks: bigint
}

/** Blocks of an epoch on a devnet: 20 minutes at a block a second. */
export const DEVNET_EPOCH_BLOCKS = 1200n
/** Number of the epoch that a genesis begins in; 0 would look like an absent field on the wire. */
const FIRST_EPOCH = 1n
/** The code of the account: not empty, and the mark by which an engine knows that the chain has the precompile. */
const DA_SIGNERS_CODE = Uint8Array.of(1)
const DA_SIGNERS_ADDRESS = fromHex('0x0000000000000000000000000000000000001000')

/**
 * The account of the precompile, with signers and quorums of the first epoch. Nobody has signed a registration yet: the hash of the
 * public key stands in its place.
 * @throws {ZgError} ERR_CONFIG for a signer that could not register.
 */
export async function daSignersAccount({ signers, epochBlocks }: DaSignersOptions) {
  const bad = (what: string) => new ZgError('ERR_CONFIG', `genesis: ${what}`)
  if (epochBlocks < 3n || epochBlocks >= 1n << 64n) throw bad('an epoch needs at least 3 blocks')
  const slots = new Map<string, Uint8Array>()
  const store: SlotStore = {
    get: async slot => slots.get(toHex(slot)) ?? new Uint8Array(32),
    set: async (slot, value) => {
      if (value.every(byte => byte === 0)) slots.delete(toHex(slot))
      else slots.set(toHex(slot), value)
    }
  }
  await writeWord(store, KEYS.epochBlocks(), epochBlocks)
  const candidates: Candidate[] = []
  for (const s of signers) {
    const name = toHex(s.address)
    if (s.address.length !== 20) throw bad(`signer ${name} does not have 20 bytes`)
    if (candidates.some(c => compareBytes(c.address, s.address) === 0)) throw bad(`signer ${name} stands there twice`)
    if (!isG1(s.pkG1) || !isG2(s.pkG2)) throw bad(`a key of signer ${name} is no point of its group`)
    if (s.votes < 1n) throw bad(`signer ${name} has no vote`)
    checkSocket(s.socket)
    await writeSigner(store, s.address, s)
    const registrationHash = keccak256(encodeG1Be(s.pkG1))
    candidates.push({ address: s.address, registrationHash, votes: s.votes })
    await register(store, FIRST_EPOCH, s.address, registrationHash, s.votes)
  }
  await openEpoch(store, FIRST_EPOCH, 0n, drawQuorums(candidates, new Uint8Array(32)))
  return {
    address: DA_SIGNERS_ADDRESS,
    balance: 0n,
    nonce: 0n,
    code: DA_SIGNERS_CODE,
    storage: [...slots]
      .map(([slot, value]): [Uint8Array, Uint8Array] => [fromHex(slot), value])
      .sort(([a], [b]) => compareBytes(a, b))
  }
}
