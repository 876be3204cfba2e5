/**
 * Data availability in one process, for faults that no network of daemons produces on demand: the product's own signers over
 * simulated disks, a chain of plain maps beside them, and an encoder that commits to whatever it is told to.
 */
import { FraudProofs } from '../../cmd/zg-da/node/fraud.ts'
import { LineStore } from '../../cmd/zg-da/node/line-store.ts'
import { Postings } from '../../cmd/zg-da/node/postings.ts'
import { SIGN_EPOCHS, Signer } from '../../cmd/zg-da/node/signer.ts'
import { systemClock } from '../../lib/adapters/clock.ts'
import { concat, equalBytes } from '../../lib/base/bytes.ts'
import { ZgError } from '../../lib/base/errors.ts'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import type { BlobId, G1, SignerDetail, Submission, Upload } from '../../lib/clients/da/abi.ts'
import type { Quorum } from '../../lib/clients/da/chain.ts'
import type { SignRequest } from '../../lib/clients/da/wire.ts'
import { lineTrees, rowTree } from '../../lib/codec/da/blob.ts'
import { commitmentOf, commitmentToLe, makeHeader } from '../../lib/codec/da/header.ts'
import { daKernels } from '../../lib/codec/da/kernels.ts'
import { permutation } from '../../lib/codec/da/open.ts'
import { encodeRecord } from '../../lib/codec/da/records.ts'
import { pathOf, rootOf } from '../../lib/codec/da/row-tree.ts'
import { shapeTag } from '../../lib/codec/da/shape.ts'
import { type DaCommitment, type DaHeader, type LineRecord, PLACES, type Shape } from '../../lib/codec/da/types.ts'
import { blobDigest, encodeG1Le, signBls } from '../../lib/crypto/bn254.ts'
import { devSigners } from '../../lib/crypto/dev-signers.ts'
import { keccak256 } from '../../lib/crypto/hash.ts'
import { silentLog } from '../../lib/ops/log.ts'
import type { Clock } from '../../lib/ports/clock.ts'
import type { Disk } from '../../lib/ports/disk.ts'

export const KEYS = devSigners()

const keyOf = (id: BlobId): string => `${id.epoch}/${id.quorumId}/${toHex(id.root)}`

/** What contracts and precompile would say. A posting is final `lag` blocks after its own. */
export class WorldChain {
  now = { epoch: 5, block: 100 }
  lag = 0
  quorums = 1
  readonly uploadsAt: (Upload & { blockNumber: number })[] = []
  readonly certificates = new Map<string, G1>()
  /** Certificates that were paid for, known ones skipped included. */
  submissions = 0
  readonly #owners: number[]
  readonly #signers: number
  readonly #heads = new Set<() => void>()

  /** @param owner - signer of a place. */
  constructor(signers: number, owner: (place: number) => number) {
    this.#signers = signers
    this.#owners = Array.from({ length: PLACES }, (_, p) => owner(p))
  }

  address(i: number): Uint8Array {
    return KEYS[i] === undefined ? new Uint8Array(20).fill(100 + i) : fromHex(KEYS[i].address)
  }

  places(i: number): number[] {
    return this.#owners.flatMap((owner, p) => (owner === i ? [p] : []))
  }

  // As DaChain.

  async epoch(): Promise<number> {
    return this.now.epoch
  }

  async params(): Promise<{ epochBlocks: number }> {
    return { epochBlocks: 100 }
  }

  async quorumCount(): Promise<number> {
    return this.quorums
  }

  async quorum(epoch: number, quorumId: number): Promise<Quorum> {
    if (epoch > this.now.epoch || quorumId >= this.quorums) throw new ZgError('ERR_NOT_FOUND', 'quorum_id out of bound')
    const members = Array.from({ length: this.#signers }, (_, i) => ({
      address: this.address(i),
      places: this.places(i)
    }))
    return { epoch, quorumId, places: PLACES, members: members.filter(m => m.places.length > 0) }
  }

  async signers(addresses: readonly Uint8Array[]): Promise<SignerDetail[]> {
    return addresses.map(address => {
      const i = Array.from({ length: this.#signers }, (_, n) => n).find(n => equalBytes(this.address(n), address))!
      const { pkG1, pkG2 } = KEYS[i % KEYS.length]!
      return { address, socket: `signer-${i}`, pkG1, pkG2 }
    })
  }

  async commitment(id: BlobId): Promise<G1 | undefined> {
    return this.certificates.get(keyOf(id))
  }

  async finalized(): Promise<number> {
    return this.now.block - this.lag
  }

  async *uploads(from: number, to: number): AsyncGenerator<Upload[]> {
    yield this.uploadsAt.filter(u => u.blockNumber >= from && u.blockNumber <= to)
  }

  readonly client = {
    blockNumber: async (): Promise<number> => this.now.block,
    subscribeHeads: (onHead: () => void): (() => void) => {
      this.#heads.add(onHead)
      return () => this.#heads.delete(onHead)
    }
  }

  // What transactions do.

  mine(blocks = 1): void {
    this.now.block += blocks
    for (const onHead of this.#heads) onHead()
  }

  post(root: Uint8Array): { epoch: number; quorumId: number; blockNumber: number } {
    this.mine()
    const posting = {
      epoch: this.now.epoch,
      quorumId: this.uploadsAt.length % this.quorums,
      blockNumber: this.now.block
    }
    this.uploadsAt.push({ root, ...posting })
    return posting
  }

  certify(s: Submission): number {
    this.mine()
    this.submissions++
    if (!this.certificates.has(keyOf(s))) this.certificates.set(keyOf(s), s.commitment)
    return this.now.block
  }
}

export interface WorldSigner {
  signer: Signer
  store: LineStore
  close(): Promise<void>
}

/** The product's signer `i` on a disk. */
export async function openSigner(
  chain: WorldChain,
  i: number,
  disk: Disk,
  clock: Clock = systemClock
): Promise<WorldSigner> {
  const store = await LineStore.open(disk, '/lines')
  const signer = new Signer({
    chain,
    postings: new Postings(chain, clock, SIGN_EPOCHS),
    store,
    fraud: new FraudProofs(disk, '/fraud'),
    address: chain.address(i),
    sign: async (id, commitment) => {
      const digest = blobDigest(id.root, BigInt(id.epoch), BigInt(id.quorumId), commitment)
      return encodeG1Le(signBls(KEYS[i % KEYS.length]!.secretKey, digest))
    },
    entrance: '0x00',
    version: 'test',
    logger: silentLog
  })
  return { signer, store, close: () => store.close() }
}

/** All that an encoder hands out, true or not. */
export interface Forged {
  header: DaHeader
  commitment: DaCommitment
  z: Uint8Array
  rowRoots: Uint8Array
  rows: readonly Uint8Array[]
  code(place: number): number
  records(places: readonly number[], form: 'paths' | 'roots'): LineRecord[]
}

/**
 * Commits to any rows.
 * @param x - data rows of which z is taken.
 * @param rows - all 3k of them.
 */
export async function forge(shape: Shape, x: readonly Uint8Array[], rows: readonly Uint8Array[]): Promise<Forged> {
  const kernels = daKernels()
  const tag = shapeTag(shape)
  const rowRoots = await kernels.rowRoots(tag, [...rows])
  const tree = rowTree(rowRoots, kernels)
  const p = concat(tag, rootOf(tree))
  const z = await kernels.rowSums(p, [...x])
  const zHash = keccak256(z)
  const sigma = permutation(p, zHash, kernels)
  const trees = lineTrees(rowRoots, sigma, kernels)
  const [b0, b1, b2] = trees.map(rootOf)
  const header = makeHeader(shape, { r0: rootOf(tree), zHash, b: [b0!, b1!, b2!] })
  const code = (place: number): number => sigma[place]! % rows.length
  return {
    header,
    commitment: commitmentOf(header),
    z,
    rowRoots,
    rows,
    code,
    records(places, form) {
      const seen = new Set<number>()
      return places.map(place => {
        const c = code(place)
        const first = !seen.has(c)
        seen.add(c)
        return {
          p: place,
          payload: first ? rows[c] : undefined,
          linePath: form === 'paths' ? pathOf(trees[place >> 10]!, place & 1023) : undefined,
          rowPath: form === 'paths' && first ? pathOf(tree, c) : undefined
        }
      })
    }
  }
}

/** The rows of an honest encoder. */
export async function codeRows(shape: Shape, matrix: Uint8Array): Promise<Uint8Array[]> {
  const { k, w } = shape
  const parity = new Uint8Array(2 * k * w)
  await daKernels().encode(shapeTag(shape), matrix, parity)
  const all = concat(matrix, parity)
  return Array.from({ length: 3 * k }, (_, c) => all.subarray(c * w, (c + 1) * w))
}

/** What a disperser asks the owner of these places. */
export function signRequest(
  id: BlobId,
  f: Forged,
  places: readonly number[],
  form: 'paths' | 'roots' = 'roots'
): SignRequest {
  return {
    epoch: id.epoch,
    quorum_id: id.quorumId,
    erasure_commitment: commitmentToLe(f.commitment),
    storage_root: id.root,
    encoded_slice: f.records(places, form).map(encodeRecord),
    fast_header: f.header.bytes,
    fast_z: f.z,
    fast_row_roots: form === 'roots' ? f.rowRoots : new Uint8Array(0)
  }
}

export const asPoint = (c: DaCommitment): G1 => ({ x: BigInt(toHex(c.cx)), y: BigInt(toHex(c.cy)) })
