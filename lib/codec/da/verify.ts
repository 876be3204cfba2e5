/**
 * Checks of lines (da-design.md 5, steps 2 to 4): what a signer does before it signs, and a reader before it decodes.
 *
 * Order: sizes first, then header and z, then row hashes, the code's check last. The first failure is thrown; a line that passes
 * its proofs and fails the code (`line-code`) is a proof that the encoder cheated.
 */
import { equalBytes } from '../../base/bytes.ts'
import { keccak256 } from '../../crypto/hash.ts'
import type { DaKernels } from '../../native.ts'
import { lineTrees, rowTree } from './blob.ts'
import { daKernels } from './kernels.ts'
import { codeRow, type OpenBlob, openZ } from './open.ts'
import { rowPathHashes } from './records.ts'
import { climb, rootOf } from './row-tree.ts'
import { DaError, type DaHeader, LINE_PATH_HASHES, type LineRecord, PLACES, type Shape, THIRD } from './types.ts'

/** What the lines of a request must bring. */
export interface VerifyOptions {
  /** 3k × 32 bytes: the roots form. Absent: the paths form. */
  rowRoots?: Uint8Array | undefined
  /** Exactly the places that must be there, ascending. Absent: any. */
  places?: readonly number[] | undefined
  /** Absent: a signer's check. True: a reader's, which needs no line paths. */
  reading?: boolean | undefined
  kernels?: DaKernels | undefined
}

/** Lines that passed every check. */
export interface VerifiedLines {
  readonly blob: OpenBlob
  /** Payload of each distinct code row. */
  readonly rows: ReadonlyMap<number, Uint8Array>
  /** Root of each distinct code row. */
  readonly roots: ReadonlyMap<number, Uint8Array>
}

/**
 * Verifies lines of one blob.
 * @param header - decoded, or its 208 bytes; compare it with request or chain by `checkHeader` first.
 * @param z - its bytes, or the blob as {@link openZ} opened it: then the header is not looked at again.
 * @param lines - ascending by place. A record without payload stands for the first one of the same code row.
 * @throws {DaError} the first check that failed, with place in `at`: sizes (`record-*`, `payload-size`, `path-size`,
 *   `row-roots-size`), header, `z-size`, `z-hash`, `payload-missing`, `payload-differs`, `path-missing`, `row-roots`,
 *   `outer-tree`, `row-root`, `row-path`, `line-path`, and last `line-code`.
 */
export async function verifyLines(
  header: DaHeader | Uint8Array,
  z: Uint8Array | OpenBlob,
  lines: readonly LineRecord[],
  opts: VerifyOptions = {}
): Promise<VerifiedLines> {
  const kernels = opts.kernels ?? daKernels()
  if (z instanceof Uint8Array) checkPlaces(lines, opts.places)
  const blob = z instanceof Uint8Array ? openZ(header, z, kernels) : z
  if (!(z instanceof Uint8Array)) checkPlaces(lines, opts.places)
  const shape = blob.header
  for (const line of lines) checkSizes(line, shape)
  if (opts.rowRoots !== undefined && opts.rowRoots.length !== 96 * shape.k) {
    throw new DaError('row-roots-size', `row roots have ${opts.rowRoots.length} bytes, ${96 * shape.k} wanted`)
  }
  const rows = payloads(blob, lines, opts)
  if (opts.rowRoots !== undefined) checkRowRoots(blob, opts.rowRoots, kernels)
  const indexes = [...rows.keys()]
  const list = indexes.map(c => rows.get(c)!)
  const flat = await kernels.rowRoots(shape.tag, list)
  const roots = new Map(indexes.map((c, i) => [c, flat.subarray(32 * i, 32 * (i + 1))]))
  for (const line of lines) checkProofs(blob, line, roots, opts.rowRoots)
  const sums = await kernels.rowSums(shape.p, list)
  indexes.forEach((c, i) => {
    if (!equalBytes(sums.subarray(16 * i, 16 * (i + 1)), blob.e.subarray(16 * c, 16 * (c + 1)))) {
      const at = lines.find(line => codeRow(blob, line.p) === c)!.p
      throw new DaError('line-code', `line ${at} does not belong to the code of its blob`, at)
    }
  })
  return { blob, rows, roots }
}

/** The list as such: nothing here needs the blob. */
function checkPlaces(lines: readonly LineRecord[], places: readonly number[] | undefined): void {
  if (lines.length > PLACES) throw new DaError('record-count', `${lines.length} lines, at most ${PLACES}`)
  lines.forEach(({ p }, i) => {
    if (!Number.isInteger(p) || p < 0 || p >= PLACES) throw new DaError('record-place', `there is no place ${p}`)
    const before = i === 0 ? -1 : lines[i - 1]!.p
    if (p === before) throw new DaError('record-repeated', `line ${p} comes twice`, p)
    if (p < before) throw new DaError('record-order', `line ${p} comes after line ${before}`, p)
  })
  if (places === undefined) return
  if (lines.length !== places.length || lines.some(({ p }, i) => p !== places[i])) {
    throw new DaError('record-places', `lines of ${lines.length} places are not those of the ${places.length} wanted`)
  }
}

function checkSizes({ p, payload, linePath, rowPath }: LineRecord, shape: Shape): void {
  if (payload !== undefined && payload.length !== shape.w) {
    throw new DaError('payload-size', `line ${p} has ${payload.length} bytes of payload, ${shape.w} wanted`, p)
  }
  const check = (path: Uint8Array | undefined, hashes: number, what: string): void => {
    if (path !== undefined && path.length !== 32 * hashes) {
      throw new DaError('path-size', `line ${p} has a ${what} path of ${path.length} bytes, ${32 * hashes} wanted`, p)
    }
  }
  check(linePath, LINE_PATH_HASHES, 'line')
  check(rowPath, rowPathHashes(shape), 'row')
}

/** Payload of each code row; every line has one, and the proofs that its form demands are there. */
function payloads(blob: OpenBlob, lines: readonly LineRecord[], opts: VerifyOptions): Map<number, Uint8Array> {
  const rows = new Map<number, Uint8Array>()
  for (const { p, payload, linePath, rowPath } of lines) {
    const c = codeRow(blob, p)
    const first = rows.get(c)
    if (first === undefined) {
      if (payload === undefined)
        throw new DaError('payload-missing', `line ${p} has no payload, nor any line before it`, p)
      if (opts.rowRoots === undefined && rowPath === undefined) {
        throw new DaError('path-missing', `line ${p} has no row path`, p)
      }
      rows.set(c, payload)
    } else if (payload !== undefined && !equalBytes(payload, first)) {
      throw new DaError('payload-differs', `line ${p} has another payload than a line of the same row before it`, p)
    }
    if (opts.rowRoots === undefined && opts.reading !== true && linePath === undefined) {
      throw new DaError('path-missing', `line ${p} has no line path`, p)
    }
  }
  return rows
}

/** The roots form: R0 and all that follows from the row roots and σ. */
function checkRowRoots(blob: OpenBlob, rowRoots: Uint8Array, kernels: DaKernels): void {
  checkRootsOfR0(blob.header, rowRoots, kernels)
  lineTrees(rowRoots, blob.sigma, kernels).forEach((tree, t) => {
    if (!equalBytes(rootOf(tree), blob.header.b[t]!)) {
      throw new DaError('outer-tree', `third ${t} of the lines is not dealt out as the permutation says`)
    }
  })
}

/**
 * Checks that row roots are the committed ones.
 * @throws {DaError} `row-roots-size`, `row-roots`.
 */
export function checkRootsOfR0(header: DaHeader, rowRoots: Uint8Array, kernels: DaKernels = daKernels()): void {
  if (rowRoots.length !== 96 * header.k) {
    throw new DaError('row-roots-size', `row roots have ${rowRoots.length} bytes, ${96 * header.k} wanted`)
  }
  if (!equalBytes(rootOf(rowTree(rowRoots, kernels)), header.r0)) {
    throw new DaError('row-roots', 'row roots are not those that the blob header commits to')
  }
}

/** Step 3 of one line. Paths that are there are checked in either form. */
function checkProofs(
  blob: OpenBlob,
  line: LineRecord,
  roots: ReadonlyMap<number, Uint8Array>,
  rowRoots: Uint8Array | undefined
): void {
  const { p } = line
  const c = codeRow(blob, p)
  const root = roots.get(c)!
  if (rowRoots !== undefined && !equalBytes(root, rowRoots.subarray(32 * c, 32 * (c + 1)))) {
    throw new DaError('row-root', `payload of line ${p} does not have the root of row ${c}`, p)
  }
  if (line.rowPath !== undefined && !equalBytes(climb(keccak256, root, c, line.rowPath), blob.header.r0)) {
    throw new DaError('row-path', `line ${p} does not lead to the root of the rows`, p)
  }
  if (line.linePath === undefined) return
  const third = blob.header.b[Math.floor(p / THIRD)]!
  if (!equalBytes(climb(keccak256, root, p % THIRD, line.linePath), third)) {
    throw new DaError('line-path', `line ${p} does not lead to the root of its third`, p)
  }
}
