/** Long lists as JSON text, made in turns: an answer of ten thousand parts must not hold the event loop for all who wait beside it. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { LIMITS } from '../../base/limits.ts'
import { RPC, RpcError } from './types.ts'

/** How long one list may hold the event loop before others get their turn. */
const TURN_MS = 4

/**
 * `[…]` of `count` parts, each the JSON of what `part` gives.
 * @throws {RpcError} -32005 when it becomes longer than one answer may be, before the rest is made.
 */
export async function jsonList(count: number, part: (index: number) => unknown): Promise<string> {
  const pieces: string[] = []
  let chars = 2
  let began = performance.now()
  for (let i = 0; i < count; i++) {
    if ((i & 15) === 15 && performance.now() - began > TURN_MS) {
      await nextTurn()
      began = performance.now()
    }
    const text = JSON.stringify(part(i) ?? null)
    chars += text.length + 1
    if (chars > LIMITS.rpcAnswerBytes) throw new RpcError(RPC.limit, 'answer is too large, ask for less at a time')
    pieces.push(text)
  }
  return `[${pieces.join(',')}]`
}
