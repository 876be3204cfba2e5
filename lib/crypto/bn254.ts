/**
 * BLS signatures on BN254 as the data availability layer uses them (da.md 6.3 to 6.5, chain.md 4.1), over @noble/curves: signatures in
 * G1, public keys in both groups, a hash to the curve by trial. JavaScript big integers are not constant time.
 *
 * A point is its affine coordinates; (0, 0) is infinity, as in EIP-196. In G2 a coordinate is [c0, c1] and means c0 + c1·i: the order of
 * `SignerDetail`; the pairing precompile wants the opposite (see the words functions at the end).
 * About 1 ms to sign, 15 ms to verify, 1 ms to check a point of G2.
 */
import { bn254 } from '@noble/curves/bn254.js'
import { bigToBytes, bytesToBig, concat, u64be, utf8 } from '../base/bytes.ts'
import { ZgError } from '../base/errors.ts'
import { keccak256 } from './hash.ts'

/** A point of G1. */
export interface G1 {
  x: bigint
  y: bigint
}

/** A point of G2; each coordinate is [c0, c1]. */
export interface G2 {
  x: readonly [bigint, bigint]
  y: readonly [bigint, bigint]
}

/** The field of the coordinates. */
export const BN254_P = 21888242871839275222246405745257275088696311157297823662689037894645226208583n
/** The order of both groups. */
export const BN254_R = 21888242871839275222246405745257275088548364400416034343698204186575808495617n

export const G1_INFINITY: G1 = { x: 0n, y: 0n }
export const G1_GENERATOR: G1 = { x: 1n, y: 2n }
/** Bytes of a point of G1 in either byte order. */
export const G1_BYTES = 64

const { Fp, Fp2, Fp12 } = bn254.fields
/** The twist is y² = x³ + 3 / (9 + i). */
const TWIST_B = Fp2.div(Fp2.fromBigTuple([3n, 0n]), Fp2.fromBigTuple([9n, 1n]))
const Point1 = bn254.G1.Point
const Point2 = bn254.G2.Point
type Point1 = InstanceType<typeof Point1>
type Point2 = InstanceType<typeof Point2>

// ---------------------------------------------------------------------------------------------------------------------------- keys

/** A secret key from a seed of at least 32 bytes of entropy: 512 bits of hash reduced to 1 … order − 1. */
export function secretKeyFrom(seed: Uint8Array): bigint {
  if (seed.length < 32) throw new ZgError('ERR_BAD_INPUT', `seed has ${seed.length} bytes, at least 32 wanted`)
  const wide = concat(keccak256(Uint8Array.of(0), seed), keccak256(Uint8Array.of(1), seed))
  return (bytesToBig(wide) % (BN254_R - 1n)) + 1n
}

/** @throws {ZgError} ERR_BAD_INPUT outside 1 … order − 1. */
export function checkSecretKey(key: bigint): void {
  if (key <= 0n || key >= BN254_R) throw new ZgError('ERR_BAD_INPUT', 'BLS secret key is not in the range of BN254')
}

/** key · generator of G1. @throws {ZgError} ERR_BAD_INPUT. */
export function publicKeyG1(key: bigint): G1 {
  checkSecretKey(key)
  return outG1(Point1.BASE.multiply(key))
}

/** key · generator of G2. @throws {ZgError} ERR_BAD_INPUT. */
export function publicKeyG2(key: bigint): G2 {
  checkSecretKey(key)
  return outG2(Point2.BASE.multiply(key))
}

// -------------------------------------------------------------------------------------------------------------------------- digests

/** What signers sign of a blob (da.md 6.3); 32 bytes. It holds neither chain id nor contract: the same bytes on every network. */
export function blobDigest(dataRoot: Uint8Array, epoch: bigint, quorumId: bigint, commitment: G1): Uint8Array {
  return keccak256(dataRoot, word(epoch), word(quorumId), encodeG1Be(commitment))
}

/** Key of a certificate in DAEntrance (da.md 7.1); 32 bytes. */
export function certificateId(dataRoot: Uint8Array, epoch: bigint, quorumId: bigint): Uint8Array {
  return keccak256(dataRoot, word(epoch), word(quorumId))
}

/** What a signer signs to register (chain.md 4.1). @param signer - address, 20 bytes. */
export function registrationDigest(signer: Uint8Array, chainId: bigint): Uint8Array {
  return keccak256(signer, word(chainId), utf8('0G_BN254_Pubkey_Registration'))
}

/** What a signer signs to take part in an epoch (chain.md 4.1): the one after the current. */
export function epochDigest(signer: Uint8Array, epoch: bigint, chainId: bigint): Uint8Array {
  return keccak256(signer, u64be(epoch), word(chainId))
}

/**
 * Maps a digest to G1: x = digest mod p, then the first x, x + 1, … on the curve, with the root (x³ + 3)^((p + 1) / 4) and not its
 * negative. Not constant time, no domain tag: upstream's map.
 */
export function hashToG1(digest: Uint8Array): G1 {
  let x = bytesToBig(digest) % BN254_P
  for (;;) {
    const square = Fp.add(Fp.mul(Fp.sqr(x), x), 3n)
    const y = Fp.pow(square, (BN254_P + 1n) / 4n)
    if (Fp.eql(Fp.sqr(y), square)) return { x, y }
    x = Fp.add(x, 1n)
  }
}

// ----------------------------------------------------------------------------------------------------------------------- signatures

/** key · H(digest). @throws {ZgError} ERR_BAD_INPUT for a key out of range. */
export function signBls(key: bigint, digest: Uint8Array): G1 {
  checkSecretKey(key)
  return outG1(inG1(hashToG1(digest)).multiply(key))
}

/**
 * True when `signature` is of `digest` by the holder of `key` (an aggregate of both works too). Points off the curve, outside the
 * subgroup or at infinity verify nothing.
 */
export function verifyBls(digest: Uint8Array, signature: G1, key: G2): boolean {
  if (!isG1(signature) || !isG2(key)) return false
  return pairsToOne(inG1(signature), inG1(hashToG1(digest)), inG2(key))
}

/**
 * Proof of possession: true when `signature` is of `digest` by `key1`, and `key2` is the same key in G2 (chain.md 4.1). One pairing
 * product shows both, tied by γ = keccak(H ‖ S ‖ PK1 ‖ PK2) mod r.
 */
export function verifyPossession(digest: Uint8Array, signature: G1, key1: G1, key2: G2): boolean {
  if (!isG1(signature) || !isG1(key1) || !isG2(key2)) return false
  const h = hashToG1(digest)
  const bound = keccak256(encodeG1Be(h), encodeG1Be(signature), encodeG1Be(key1), ...g2Words(key2).map(word))
  const gamma = bytesToBig(bound) % BN254_R
  const left = inG1(signature).add(inG1(key1).multiplyUnsafe(gamma))
  const right = inG1(h).add(Point1.BASE.multiplyUnsafe(gamma))
  return pairsToOne(left, right, inG2(key2))
}

/** Sum of points of G1, infinity for none. @throws {ZgError} ERR_BAD_INPUT for one off the curve. */
export function sumG1(points: Iterable<G1>): G1 {
  let sum = Point1.ZERO
  for (const p of points) sum = sum.add(checkedG1(p))
  return outG1(sum)
}

/** Sum of points of G2, infinity for none. @throws {ZgError} ERR_BAD_INPUT for one off the curve or outside the subgroup. */
export function sumG2(points: Iterable<G2>): G2 {
  let sum = Point2.ZERO
  for (const p of points) {
    if (!isG2(p, { infinity: true })) throw new ZgError('ERR_BAD_INPUT', 'point is not in G2 of BN254')
    sum = sum.add(inG2(p))
  }
  return outG2(sum)
}

/** e(left, −G2) · e(right, key) = 1, on checked points. */
function pairsToOne(left: Point1, right: Point1, key: Point2): boolean {
  // The library refuses infinity, whose pairing is one.
  const pairs = [
    { g1: left, g2: Point2.BASE.negate() },
    { g1: right, g2: key }
  ].filter(({ g1, g2 }) => !g1.is0() && !g2.is0())
  return pairs.length === 0 || Fp12.eql(bn254.pairingBatch(pairs), Fp12.ONE)
}

// --------------------------------------------------------------------------------------------------------------------------- checks

/** True for a point of G1 (the curve has no other points); infinity only when asked for. */
export function isG1(p: G1, opts: { infinity?: boolean } = {}): boolean {
  if (p.x === 0n && p.y === 0n) return opts.infinity === true
  if (!inField(p.x) || !inField(p.y)) return false
  return Fp.eql(Fp.sqr(p.y), Fp.add(Fp.mul(Fp.sqr(p.x), p.x), 3n))
}

/** True for a point on the twist and of order r; infinity only when asked for. */
export function isG2(p: G2, opts: { infinity?: boolean } = {}): boolean {
  const all = [...p.x, ...p.y]
  if (all.every(c => c === 0n)) return opts.infinity === true
  if (!all.every(inField)) return false
  const x = Fp2.fromBigTuple([...p.x])
  const y = Fp2.fromBigTuple([...p.y])
  if (!Fp2.eql(Fp2.sqr(y), Fp2.add(Fp2.mul(Fp2.sqr(x), x), TWIST_B))) return false
  return inG2(p).isTorsionFree()
}

/** True when both are the same point. */
export function equalG1(a: G1, b: G1): boolean {
  return a.x === b.x && a.y === b.y
}

function inField(n: bigint): boolean {
  return n >= 0n && n < BN254_P
}

// ---------------------------------------------------------------------------------------------------------------------------- bytes

/** Bit 7 of the last byte: y is the larger of ±y. */
const FLAG_LARGER = 0x80
/** Bit 6 of the last byte: infinity. */
const FLAG_INFINITY = 0x40

/**
 * The form of gRPC messages and slices (da.md 2.4): x then y, little endian, flags in the two top bits.
 * @returns 64 bytes.
 */
export function encodeG1Le(p: G1): Uint8Array {
  const out = concat(bigToBytes(p.x, 32).reverse(), bigToBytes(p.y, 32).reverse())
  if (p.x === 0n && p.y === 0n) out[63]! |= FLAG_INFINITY
  else if (isLarger(p.y)) out[63]! |= FLAG_LARGER
  return out
}

/**
 * Reads 64 bytes of {@link encodeG1Le}. Without flags y decides; a flag that says otherwise is refused, so that each point other than
 * infinity has two forms only.
 * @throws {ZgError} ERR_BAD_INPUT for another size, a coordinate not below p, a wrong flag, a point off the curve, or infinity unless
 *   `infinity` is set.
 */
export function decodeG1Le(bytes: Uint8Array, what = 'point', opts: { infinity?: boolean; flags?: boolean } = {}): G1 {
  const bad = (why: string) => new ZgError('ERR_BAD_INPUT', `${what} ${why}`)
  if (bytes.length !== G1_BYTES) throw bad(`has ${bytes.length} bytes, ${G1_BYTES} wanted`)
  const flags = bytes[63]! & (FLAG_LARGER | FLAG_INFINITY)
  const y = Uint8Array.from(bytes.subarray(32)).reverse()
  y[0]! &= 0x3f
  const p: G1 = { x: bytesToBig(Uint8Array.from(bytes.subarray(0, 32)).reverse()), y: bytesToBig(y) }
  const zero = p.x === 0n && p.y === 0n
  if (zero) {
    if (opts.infinity !== true) throw bad('is infinity')
    if ((flags & FLAG_LARGER) !== 0) throw bad('has a wrong flag')
    return p
  }
  if ((flags & FLAG_INFINITY) !== 0) throw bad('is not zero but marked as infinity')
  if (!isG1(p)) throw bad('is not on the curve')
  if ((flags & FLAG_LARGER) !== 0 && !isLarger(p.y)) throw bad('has a wrong flag')
  return p
}

/** x ‖ y, big endian, 64 bytes: the form that is hashed and that precompiles take. */
export function encodeG1Be(p: G1): Uint8Array {
  return concat(bigToBytes(p.x, 32), bigToBytes(p.y, 32))
}

function isLarger(y: bigint): boolean {
  return y > BN254_P - y
}

// ----------------------------------------------------------------------------------------------------------------------- ABI tuples

/** The four words of `SignerDetail.pkG2`: c0 before c1. */
export function g2Words(p: G2): [bigint, bigint, bigint, bigint] {
  return [p.x[0], p.x[1], p.y[0], p.y[1]]
}

/** The four words of `CommitRootSubmission.aggPkG2` and of the pairing precompile: c1 before c0. */
export function g2PairingWords(p: G2): [bigint, bigint, bigint, bigint] {
  return [p.x[1], p.x[0], p.y[1], p.y[0]]
}

/** `G1Point` as an ABI coder takes it. */
export function g1Abi(p: G1): { X: bigint; Y: bigint } {
  return { X: p.x, Y: p.y }
}

/** `SignerDetail.pkG2` as an ABI coder takes it: X = [c0, c1]. */
export function g2Abi(p: G2): { X: [bigint, bigint]; Y: [bigint, bigint] } {
  return { X: [p.x[0], p.x[1]], Y: [p.y[0], p.y[1]] }
}

/** `CommitRootSubmission.aggPkG2` as an ABI coder takes it: X = [c1, c0]. */
export function g2PairingAbi(p: G2): { X: [bigint, bigint]; Y: [bigint, bigint] } {
  return { X: [p.x[1], p.x[0]], Y: [p.y[1], p.y[0]] }
}

// ------------------------------------------------------------------------------------------------------------------ the library's own

function word(n: bigint): Uint8Array {
  return bigToBytes(n, 32)
}

function inG1(p: G1): Point1 {
  return p.x === 0n && p.y === 0n ? Point1.ZERO : Point1.fromAffine(p)
}

function checkedG1(p: G1): Point1 {
  if (!isG1(p, { infinity: true })) throw new ZgError('ERR_BAD_INPUT', 'point is not in G1 of BN254')
  return inG1(p)
}

function outG1(p: Point1): G1 {
  if (p.is0()) return G1_INFINITY
  const { x, y } = p.toAffine()
  return { x, y }
}

function inG2(p: G2): Point2 {
  if (g2Words(p).every(c => c === 0n)) return Point2.ZERO
  return Point2.fromAffine({ x: Fp2.fromBigTuple([...p.x]), y: Fp2.fromBigTuple([...p.y]) })
}

function outG2(p: Point2): G2 {
  if (p.is0()) return { x: [0n, 0n], y: [0n, 0n] }
  const { x, y } = p.toAffine()
  return { x: [x.c0, x.c1], y: [y.c0, y.c1] }
}
