/**
 * What the DASigners precompile keeps in its account's storage, and how an epoch's quorums come about (chain.md 4.1): shared by the
 * precompile and by a genesis that begins with signers.
 *
 * Slots are those of chain.md; two records are our own, since only the ABI is visible to users:
 *   signer  u8 length of the socket ‖ socket ‖ G1 (64 bytes) ‖ G2 (128 bytes, c0 before c1), big endian
 *   quorum  u16 count ‖ the signers that occur, 20 bytes each ‖ for each place the index of its signer, one byte up to 256 signers, else
 *           two. Four signers fill 101 slots; plain addresses would fill 1,921.
 */
import { bigToBytes, bytesToBig, concat, fromUtf8, u64be, utf8 } from '../base/bytes.ts'
import { assert, ZgError } from '../base/errors.ts'
import { type G1, type G2, g2Words } from '../crypto/bn254.ts'
import { keccak256 } from '../crypto/hash.ts'

/** Parameters of every network. */
export const DA_SIGNERS = {
  /** Tokens that give one vote. */
  tokensPerVote: 30n,
  maxVotesPerSigner: 102_400n,
  maxQuorums: 10,
  /** Blocks of an epoch where the genesis names no other number. */
  epochBlocks: 28_800n,
  /** Places of a quorum: rows of an encoded blob. */
  encodedSlices: 3_072,
  socketMaxBytes: 96
} as const

/** Bytes of a bitmap over a quorum's places: place p is bit p mod 8 of byte p / 8. */
export const BITMAP_BYTES = DA_SIGNERS.encodedSlices / 8

/** Storage of one account. Slots and values have 32 bytes; what was never written is zero. */
export interface SlotStore {
  get(slot: Uint8Array): Promise<Uint8Array>
  set(slot: Uint8Array, value: Uint8Array): Promise<void>
}

export interface SignerRecord {
  socket: string
  pkG1: G1
  pkG2: G2
}

const key = (kind: number, ...parts: Uint8Array[]) => keccak256(Uint8Array.of(kind), ...parts)

/** Keys of chain.md 4.1: words stand there, byte strings around their hash. */
export const KEYS = {
  signer: (address: Uint8Array) => key(0, address),
  quorum: (epoch: bigint, id: bigint) => key(1, u64be(epoch), u64be(id)),
  registration: (epoch: bigint, address: Uint8Array) => key(2, u64be(epoch), address),
  votes: (epoch: bigint, address: Uint8Array) => key(3, u64be(epoch), address),
  quorumCount: (epoch: bigint) => key(4, u64be(epoch)),
  epochNumber: () => key(5),
  epochStart: (epoch: bigint) => key(6, u64be(epoch)),
  registrationCount: (epoch: bigint) => key(7, u64be(epoch)),
  registeredSigner: (epoch: bigint, index: bigint) => key(8, u64be(epoch), u64be(index)),
  /** Our own: blocks of an epoch as the genesis set it, 0 for the default. */
  epochBlocks: () => key(9)
} as const

// ---------------------------------------------------------------------------------------------------------------- words and strings

/** Longest byte string that is ever written: a quorum in which every place has a signer of its own. */
const STRING_MAX_BYTES = 2 + DA_SIGNERS.encodedSlices * 22

export async function readWord(store: SlotStore, at: Uint8Array): Promise<bigint> {
  return bytesToBig(await store.get(at))
}

export function writeWord(store: SlotStore, at: Uint8Array, value: bigint): Promise<void> {
  return store.set(at, bigToBytes(value, 32))
}

/** Length of a byte string; 0 when there is none. */
export async function stringLength(store: SlotStore, at: Uint8Array): Promise<number> {
  const length = await readWord(store, keccak256(at))
  assert(length <= BigInt(STRING_MAX_BYTES), 'a record of DASigners is longer than any that is written')
  return Number(length)
}

/** Bytes [from, to) of a byte string, reading only the slots they stand in. */
export async function readString(store: SlotStore, at: Uint8Array, from: number, to: number): Promise<Uint8Array> {
  const head = keccak256(at)
  const first = Math.floor(from / 32)
  const chunks: Uint8Array[] = []
  for (let i = first; i * 32 < to; i++) chunks.push(await store.get(keccak256(head, u64be(i))))
  return concat(...chunks).subarray(from - first * 32, to - first * 32)
}

/** Writes a byte string over what is there; slots that are no longer needed become zero. */
export async function writeString(store: SlotStore, at: Uint8Array, bytes: Uint8Array): Promise<void> {
  const before = await stringLength(store, at)
  const head = keccak256(at)
  await writeWord(store, head, BigInt(bytes.length))
  for (let i = 0; i * 32 < Math.max(before, bytes.length); i++) {
    const chunk = new Uint8Array(32)
    chunk.set(bytes.subarray(i * 32, i * 32 + 32))
    await store.set(keccak256(head, u64be(i)), chunk)
  }
}

// -------------------------------------------------------------------------------------------------------------------------- signers

/** @throws {ZgError} ERR_BAD_INPUT for a socket of more than 96 bytes. */
export function checkSocket(socket: string): Uint8Array {
  const bytes = utf8(socket)
  if (bytes.length > DA_SIGNERS.socketMaxBytes) {
    throw new ZgError('ERR_BAD_INPUT', `socket has ${bytes.length} bytes, at most ${DA_SIGNERS.socketMaxBytes} fit`)
  }
  return bytes
}

export async function readSigner(store: SlotStore, address: Uint8Array): Promise<SignerRecord | undefined> {
  const at = KEYS.signer(address)
  const length = await stringLength(store, at)
  if (length === 0) return undefined
  const bytes = await readString(store, at, 0, length)
  const socketEnd = 1 + bytes[0]!
  assert(length === socketEnd + 192, 'a signer record of DASigners has another size')
  const coordinate = (i: number) => bytesToBig(bytes.subarray(socketEnd + 32 * i, socketEnd + 32 * i + 32))
  return {
    socket: fromUtf8(bytes.subarray(1, socketEnd)),
    pkG1: { x: coordinate(0), y: coordinate(1) },
    pkG2: { x: [coordinate(2), coordinate(3)], y: [coordinate(4), coordinate(5)] }
  }
}

/** @throws {ZgError} as {@link checkSocket}. */
export async function writeSigner(store: SlotStore, address: Uint8Array, signer: SignerRecord): Promise<void> {
  const socket = checkSocket(signer.socket)
  const words = [signer.pkG1.x, signer.pkG1.y, ...g2Words(signer.pkG2)].map(n => bigToBytes(n, 32))
  await writeString(store, KEYS.signer(address), concat(Uint8Array.of(socket.length), socket, ...words))
}

/** Enters a signer into an epoch. The count goes up with the list: index `count` is always the first free one. */
export async function register(
  store: SlotStore,
  epoch: bigint,
  address: Uint8Array,
  registrationHash: Uint8Array,
  votes: bigint
): Promise<void> {
  const count = await readWord(store, KEYS.registrationCount(epoch))
  await store.set(KEYS.registration(epoch, address), registrationHash)
  await writeWord(store, KEYS.votes(epoch, address), votes)
  await writeWord(store, KEYS.registeredSigner(epoch, count), bytesToBig(address))
  await writeWord(store, KEYS.registrationCount(epoch), count + 1n)
}

// ------------------------------------------------------------------------------------------------------------------ epochs, quorums

export interface Candidate {
  address: Uint8Array
  registrationHash: Uint8Array
  votes: bigint
}

/**
 * Draws the quorums of an epoch: each vote is a ballot, its content a chain of hashes; sorted by content, cut into quorums.
 * A share of votes is therefore only nearly a share of places.
 * @param seed - mixed into the ballots; it must not have been known when the candidates registered.
 * @returns the signer of each place, quorum by quorum; none without candidates.
 */
export function drawQuorums(candidates: readonly Candidate[], seed: Uint8Array): Uint8Array[][] {
  const { encodedSlices: places, maxQuorums, maxVotesPerSigner } = DA_SIGNERS
  const ballots: { content: Uint8Array; address: Uint8Array }[] = []
  for (const { address, registrationHash, votes } of candidates) {
    let content = keccak256(registrationHash, seed)
    const count = votes < maxVotesPerSigner ? votes : maxVotesPerSigner
    for (let i = 0n; i < count; i++) {
      ballots.push({ content, address })
      content = keccak256(content)
    }
  }
  if (ballots.length === 0) return []
  ballots.sort((a, b) => Buffer.compare(a.content, b.content))
  const row = ballots.map(b => b.address)
  if (row.length < places) return [Array.from({ length: places }, (_, i) => row[i % row.length]!)]
  const quorums: Uint8Array[][] = []
  for (let at = 0; at < row.length && quorums.length < maxQuorums; at += places) {
    // The rest is filled from before it.
    quorums.push(at + places <= row.length ? row.slice(at, at + places) : row.slice(-places))
  }
  return quorums
}

/** Makes `epoch` the current one, with its quorums, from `block` on. */
export async function openEpoch(
  store: SlotStore,
  epoch: bigint,
  block: bigint,
  quorums: readonly Uint8Array[][]
): Promise<void> {
  for (const [id, quorum] of quorums.entries()) {
    await writeString(store, KEYS.quorum(epoch, BigInt(id)), encodeQuorum(quorum))
  }
  await writeWord(store, KEYS.quorumCount(epoch), BigInt(quorums.length))
  await writeWord(store, KEYS.epochNumber(), epoch)
  await writeWord(store, KEYS.epochStart(epoch), block)
}

/** Everybody registered for an epoch, in the order of registration. */
export async function candidatesOf(store: SlotStore, epoch: bigint): Promise<Candidate[]> {
  const count = await readWord(store, KEYS.registrationCount(epoch))
  const candidates: Candidate[] = []
  for (let i = 0n; i < count; i++) {
    const address = (await store.get(KEYS.registeredSigner(epoch, i))).slice(12)
    candidates.push({
      address,
      registrationHash: await store.get(KEYS.registration(epoch, address)),
      votes: await readWord(store, KEYS.votes(epoch, address))
    })
  }
  return candidates
}

/** A quorum as it is stored: the signers that occur, and for each place which of them. */
export interface Quorum {
  signers: Uint8Array[]
  /** Index into `signers` for each place. */
  places: number[]
}

function encodeQuorum(quorum: readonly Uint8Array[]): Uint8Array {
  const index = new Map<string, number>()
  const signers: Uint8Array[] = []
  const places = quorum.map(address => {
    const name = Buffer.from(address).toString('hex')
    let at = index.get(name)
    if (at === undefined) {
      at = signers.push(address) - 1
      index.set(name, at)
    }
    return at
  })
  const wide = signers.length > 256
  const rows = wide ? places.flatMap(p => [p >> 8, p & 0xff]) : places
  return concat(Uint8Array.of(signers.length >> 8, signers.length & 0xff), ...signers, Uint8Array.from(rows))
}

export async function readQuorum(store: SlotStore, epoch: bigint, id: bigint): Promise<Quorum> {
  const at = KEYS.quorum(epoch, id)
  const length = await stringLength(store, at)
  assert(length > 0, 'a quorum of DASigners is missing')
  const bytes = await readString(store, at, 0, length)
  const count = bytes[0]! * 256 + bytes[1]!
  const start = 2 + 20 * count
  const width = count > 256 ? 2 : 1
  assert(length === start + width * DA_SIGNERS.encodedSlices, 'a quorum of DASigners has another size')
  return {
    signers: Array.from({ length: count }, (_, i) => bytes.slice(2 + 20 * i, 22 + 20 * i)),
    places: Array.from({ length: DA_SIGNERS.encodedSlices }, (_, p) =>
      width === 1 ? bytes[start + p]! : bytes[start + 2 * p]! * 256 + bytes[start + 2 * p + 1]!
    )
  }
}

/** The signer of one place, without reading the others. */
export async function readPlace(store: SlotStore, epoch: bigint, id: bigint, place: number): Promise<Uint8Array> {
  const at = KEYS.quorum(epoch, id)
  const [high, low] = await readString(store, at, 0, 2)
  const count = high! * 256 + low!
  const width = count > 256 ? 2 : 1
  const from = 2 + 20 * count + width * place
  const index = Number(bytesToBig(await readString(store, at, from, from + width)))
  return readString(store, at, 2 + 20 * index, 22 + 20 * index)
}
