/** The call data of a signed EIP-1559 transaction: what must be sent again after a restart. */

import { ZgError } from '../../../lib/base/errors.ts'
import { decodeRlp } from '../../../lib/codec/rlp.ts'

/** Position of `data` among the fields of a type-2 transaction. */
const DATA_FIELD = 7

/** @throws {ZgError} ERR_CORRUPT when the bytes are no such transaction. */
export function callOf(raw: Uint8Array): Uint8Array {
  try {
    const fields = raw[0] === 2 ? decodeRlp(raw.slice(1)) : undefined
    const data = Array.isArray(fields) ? fields[DATA_FIELD] : undefined
    if (data instanceof Uint8Array) return new Uint8Array(data)
  } catch {
    // Said below.
  }
  throw new ZgError('ERR_CORRUPT', 'the fee journal holds a transaction that cannot be read')
}
