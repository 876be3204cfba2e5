/**
 * From rows to the blob (da-design.md 7): decoding, and the strict check that makes all readers agree.
 */
import { equalBytes } from '../../base/bytes.ts'
import type { DaKernels } from '../../native.ts'
import { rowTree } from './blob.ts'
import { daKernels } from './kernels.ts'
import { rootOf } from './row-tree.ts'
import { DaError, type DaHeader } from './types.ts'
import { checkRootsOfR0 } from './verify.ts'

/**
 * The data matrix from any k different code rows; data rows are preferred, and with all of them it is a copy.
 * @param rows - payload by code row, each checked by `verifyLines`; more than k are welcome.
 * @returns k·w bytes: the blob is the first len of them.
 * @throws {DaError} `row-count` (fewer than k), `row-index`, `row-size`.
 */
export async function decodeMatrix(
  header: DaHeader,
  rows: ReadonlyMap<number, Uint8Array>,
  kernels: DaKernels = daKernels()
): Promise<Uint8Array> {
  const { k, w } = header
  for (const [c, row] of rows) {
    if (!Number.isInteger(c) || c < 0 || c >= 3 * k) throw new DaError('row-index', `there is no code row ${c}`, c)
    if (row.length !== w) throw new DaError('row-size', `code row ${c} has ${row.length} bytes, ${w} wanted`, c)
  }
  if (rows.size < k) throw new DaError('row-count', `${rows.size} code rows do not rebuild a blob of ${k}`)
  const chosen = [...rows.keys()].sort((a, b) => a - b).slice(0, k)
  const list = chosen.map(c => rows.get(c)!)
  if (chosen[k - 1] !== k - 1) return kernels.decode(w, Uint16Array.from(chosen), list)
  const out = new Uint8Array(k * w)
  for (const [i, row] of list.entries()) out.set(row, i * w)
  return out
}

/** The blob from any k different code rows: len bytes. See {@link decodeMatrix}. */
export async function decodeRows(header: DaHeader, rows: ReadonlyMap<number, Uint8Array>): Promise<Uint8Array> {
  return (await decodeMatrix(header, rows)).subarray(0, header.len)
}

/** The verdict on a decoded matrix. */
export interface StrictCheck {
  /** True: the re-encoded rows have the committed root, and the matrix is the canonical value. */
  readonly exact: boolean
  /** Roots of the re-encoded rows, 3k × 32. */
  readonly rowRoots: Uint8Array
  /**
   * When it is not exact: counts the rows that match the committed roots.
   * @param committed - 3k × 32 bytes from anyone.
   * @returns how many of the 3k match; at least 2k of them.
   * @throws {DaError} `row-roots-size` and `row-roots` when these are not the committed ones: ask somebody else; `no-value` when
   *   fewer than 2k match: the blob has no value, for every reader.
   */
  count(committed: Uint8Array): number
}

/**
 * Re-encodes what was decoded and compares (section 7, step 3).
 * @param matrix - as {@link decodeMatrix} gave it, k·w bytes with what lies beyond len.
 */
export async function strictCheck(
  header: DaHeader,
  matrix: Uint8Array,
  kernels: DaKernels = daKernels()
): Promise<StrictCheck> {
  const { k, w, tag, r0 } = header
  if (matrix.length !== k * w) throw new DaError('row-size', `matrix has ${matrix.length} bytes, ${k * w} wanted`)
  const rowRoots = (await kernels.encode(tag, matrix, undefined)).subarray(0, 96 * k)
  return {
    exact: equalBytes(rootOf(rowTree(rowRoots, kernels)), r0),
    rowRoots,
    count: committed => {
      checkRootsOfR0(header, committed, kernels)
      let matches = 0
      for (let at = 0; at < rowRoots.length; at += 32) {
        if (equalBytes(rowRoots.subarray(at, at + 32), committed.subarray(at, at + 32))) matches++
      }
      if (matches < 2 * k) throw new DaError('no-value', 'blob encoding does not match its root')
      return matches
    }
  }
}
