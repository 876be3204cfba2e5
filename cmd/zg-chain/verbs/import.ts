/**
 * `zg-chain import`: blocks from a file of RLP. Each is executed and committed before the next, so that an import that was stopped goes
 * on where it was: blocks that are there already are compared by hash and skipped.
 */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { equalBytes } from '../../../lib/base/bytes.ts'
import { messageOf, ZgError } from '../../../lib/base/errors.ts'
import { toHex } from '../../../lib/base/hex.ts'
import type { VerbFn } from '../../../lib/cli/types.ts'
import { decodeRlp, encodeRlp, rlpList, rlpNumber } from '../../../lib/codec/rlp.ts'
import { keccak256 } from '../../../lib/crypto/hash.ts'
import type { NativeError } from '../../../lib/evm/types.ts'
import { fromNative } from '../core/failure.ts'
import { number } from '../print.ts'
import { openDirectory } from './directory.ts'

/** One block of a file: a length that lies must not allocate. */
export const MAX_BLOCK_BYTES = 64 * 1024 * 1024

export const importBlocks: VerbFn = async (ctx, [file], opts) => {
  const input = file === '-' ? ctx.stdin : createReadStream(file!)
  const total = file === '-' ? undefined : (await stat(file!)).size
  const at = await openDirectory(ctx, opts)
  const { native } = at.chain
  const progress = ctx.progress('import', { ...(total === undefined ? {} : { total }), unit: 'bytes' })
  let imported = 0
  let skipped = 0
  let done = 0
  try {
    for await (const raw of blocksOf(input as AsyncIterable<Uint8Array>)) {
      ctx.signal.throwIfAborted()
      done += raw.length
      const header = rlpList(rlpList(decodeRlp(raw))[0])
      const height = Number(rlpNumber(header[8]))
      const hash = keccak256(encodeRlp(header))
      const known = native.numberOf(hash)
      if (known !== undefined) skipped++
      else if (height <= native.head().number) {
        throw new ZgError('ERR_WRONG_NETWORK', `block ${height} of '${file}' is another one than the chain's`, {
          facts: [`the file has ${toHex(hash)}`]
        })
      } else {
        await take(raw, height)
        imported++
      }
      progress.update(done)
    }
    progress.done()
  } finally {
    await at.close()
  }
  const head = native === undefined ? undefined : at.chain.head()
  ctx.print(
    { type: 'import', file, imported, skipped, blockNumber: head!.number, hash: toHex(head!.hash) },
    `${number(ctx, imported)} blocks imported, ${number(ctx, skipped)} were there, head ${number(ctx, head!.number)}`
  )

  async function take(raw: Uint8Array, height: number): Promise<void> {
    try {
      const hash = await native.newPayload(raw)
      const moved = await native.commit(hash)
      if (!equalBytes(moved.hash, hash)) throw new ZgError('ERR_BUG', 'the head is not the block that was committed')
    } catch (err) {
      const { failure } = err as NativeError
      if (failure === 'rejected')
        throw new ZgError('ERR_REJECTED', `block ${height} is invalid: ${messageOf(err)}`, { cause: err })
      if (failure === 'not found')
        throw new ZgError('ERR_BAD_INPUT', `block ${height} does not follow on block ${native.head().number}`, {
          cause: err
        })
      throw fromNative(err)
    }
    await at.chain.headMoved()
  }
}

/** Cuts a stream into RLP lists. @throws {ZgError} ERR_BAD_INPUT for anything else, and where the file ends within a block. */
export async function* blocksOf(input: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let parts: Uint8Array[] = []
  let size = 0
  let wanted = 1
  let offset = 0
  const joined = (): Uint8Array => {
    if (parts.length > 1) parts = [Buffer.concat(parts, size)]
    return parts[0] ?? new Uint8Array(0)
  }
  for await (const part of input) {
    parts.push(part)
    size += part.length
    while (size >= wanted) {
      const bytes = joined()
      const length = listLength(bytes, offset)
      if (length === undefined) {
        wanted = size + 1
        break
      }
      wanted = length
      if (size < wanted) break
      offset += length
      // A copy: what the reader of the block keeps must not keep the whole buffer.
      yield Uint8Array.prototype.slice.call(bytes, 0, length)
      parts = [bytes.subarray(length)]
      size -= length
      wanted = 1
    }
  }
  if (size > 0) throw new ZgError('ERR_BAD_INPUT', `the file ends within the block at byte ${offset}`)
}

/** Bytes of the list that begins here, its head included; undefined when its head is not there whole. */
function listLength(bytes: Uint8Array, offset: number): number | undefined {
  const first = bytes[0]!
  if (first < 0xc0) throw new ZgError('ERR_BAD_INPUT', `byte ${offset} begins no block`)
  if (first <= 0xf7) return 1 + first - 0xc0
  const n = first - 0xf7
  if (bytes.length < 1 + n) return undefined
  let length = 0
  for (let i = 1; i <= n; i++) length = length * 256 + bytes[i]!
  if (length > MAX_BLOCK_BYTES) throw new ZgError('ERR_BAD_INPUT', `the block at byte ${offset} claims ${length} bytes`)
  return 1 + n + length
}
