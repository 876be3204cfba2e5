/** The one KZG operation that execution needs: the point evaluation precompile 0x0a. Source: EIP-4844, "Point evaluation precompile". */
import type { KZG } from '@ethereumjs/util'
import { bls12_381 } from '@noble/curves/bls12-381.js'
import { ZgError } from '../../lib/base/errors.ts'

const { G1, G2, fields } = bls12_381
/** τ·G2 of the public ceremony: all that verification needs of the trusted setup. */
const TAU_G2 =
  'b5bfd7dd8cdeb128843bc287230af38926187075cbfbefa81009a2ce615ac53d2914e5870cb452d2afaaab24f3499f72185cbfee53492714734429b7b38608e23926c911cceceac9a36851477ba4c60b087041de621000edc98edada20c1def2'
let tau: InstanceType<typeof G2.Point> | undefined

/**
 * Whether the polynomial of `commitment` has value `y` at `z`: e(proof, τG2 − zG2) = e(commitment − yG1, G2). Anything that is
 * no point of the right subgroup or no canonical field element is a no. All arguments hex with 0x.
 */
export function verifyProof(commitment: string, z: string, y: string, proof: string): boolean {
  const [zInt, yInt] = [BigInt(z), BigInt(y)]
  if (zInt >= fields.Fr.ORDER || yInt >= fields.Fr.ORDER) return false
  let c: InstanceType<typeof G1.Point>
  let p: InstanceType<typeof G1.Point>
  try {
    c = G1.Point.fromHex(commitment.slice(2))
    p = G1.Point.fromHex(proof.slice(2))
    c.assertValidity()
    p.assertValidity()
  } catch {
    // Not a point, or not of the subgroup.
    return false
  }
  tau ??= G2.Point.fromHex(TAU_G2)
  const g1 = (n: bigint) => (n === 0n ? G1.Point.ZERO : G1.Point.BASE.multiplyUnsafe(n))
  const zG2 = zInt === 0n ? G2.Point.ZERO : G2.Point.BASE.multiplyUnsafe(zInt)
  const pairs = [
    { g1: p, g2: tau.subtract(zG2) },
    { g1: c.subtract(g1(yInt)).negate(), g2: G2.Point.BASE }
  ]
  // A pairing with infinity is one.
  const product = pairs
    .filter(({ g1, g2 }) => !g1.is0() && !g2.is0())
    .reduce((f, pair) => fields.Fp12.mul(f, bls12_381.pairing(pair.g1, pair.g2)), fields.Fp12.ONE)
  return fields.Fp12.eql(product, fields.Fp12.ONE)
}

function unused(): never {
  throw new ZgError('ERR_BUG', 'blobs are not part of this chain')
}

/** As the EVM library wants it: blobs and cells do not exist here. */
export const kzg: KZG = {
  verifyProof,
  blobToKzgCommitment: unused,
  computeBlobProof: unused,
  verifyBlobProofBatch: unused,
  computeCells: unused,
  computeCellsAndProofs: unused,
  recoverCellsAndProofs: unused,
  verifyCellKzgProofBatch: unused
}
