/** How a failed execution is told to the caller (chain.md 9.4): reverts are code 3 with their data, all else is text. */
import { RPC, RpcError } from '../../../lib/adapters/jsonrpc/types.ts'
import { bytesToBig, fromUtf8 } from '../../../lib/base/bytes.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { CallResult } from '../core/types.ts'

/** Solidity's panic codes in geth's words. */
const PANICS: Record<string, string> = {
  '0': 'generic panic',
  '1': 'assert(false)',
  '17': 'arithmetic underflow or overflow',
  '18': 'division or modulo by zero',
  '33': 'enum overflow',
  '34': 'invalid encoded storage byte array accessed',
  '49': 'out-of-bounds array access; popping on an empty array',
  '50': 'out-of-bounds access of an array or bytesN',
  '65': 'out of memory',
  '81': 'uninitialized function'
}

/** The error of a call that did not succeed. */
export function executionError(error: NonNullable<CallResult['error']>, returnData: Uint8Array): RpcError {
  if (error.kind !== 'revert') return new RpcError(RPC.server, error.text)
  const reason = revertReason(returnData)
  return new RpcError(
    RPC.reverted,
    reason === undefined ? 'execution reverted' : `execution reverted: ${reason}`,
    toHex(returnData)
  )
}

/** The text of `Error(string)` and `Panic(uint256)`; undefined for custom errors and anything malformed. */
export function revertReason(data: Uint8Array): string | undefined {
  const selector = toHex(data.subarray(0, 4))
  const body = data.subarray(4)
  if (selector === '0x08c379a0') return abiString(body)
  if (selector === '0x4e487b71' && body.length >= 32) {
    const code = bytesToBig(body.subarray(0, 32))
    return PANICS[code.toString()] ?? `unknown panic code: 0x${code.toString(16)}`
  }
  return undefined
}

function abiString(body: Uint8Array): string | undefined {
  const offset = word(body, 0)
  if (offset === undefined) return undefined
  const size = word(body, offset)
  if (size === undefined || offset + 32 + size > body.length) return undefined
  return fromUtf8(body.subarray(offset + 32, offset + 32 + size))
}

/** A 32-byte word as an index into the same data; undefined when it points outside. */
function word(body: Uint8Array, at: number): number | undefined {
  if (at + 32 > body.length) return undefined
  const n = bytesToBig(body.subarray(at, at + 32))
  return n <= BigInt(body.length) ? Number(n) : undefined
}
