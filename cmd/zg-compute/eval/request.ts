/** Requests of `zg-compute eval`: one JSON object a line, checked field by field before any model is opened. */
import { ZgError } from '../../../lib/base/errors.ts'

/** Of one line. */
export const EVAL_LINE_MAX_BYTES = 64 * 1024 * 1024
/** Of one request, the tokens to follow included. */
export const EVAL_TOKENS_MAX = 1024 * 1024

export type EvalRequest =
  | { op: 'dequantize'; type: string; blocks: Uint8Array }
  | { op: 'tokenize'; model: string; text: string; special: boolean }
  | { op: 'detokenize'; model: string; tokens: Int32Array }
  | {
      op: 'chat'
      model: string
      messages: { role: string; content: string }[]
      addGenerationPrompt: boolean
      tools: unknown[] | undefined
    }
  | { op: 'logits'; model: string; tokens: Int32Array; ids: Int32Array }
  | { op: 'force'; model: string; tokens: Int32Array; follow: Int32Array }
  | { op: 'greedy'; model: string; tokens: Int32Array; count: number }
  | { op: 'trace'; model: string; tokens: Int32Array; follow: Int32Array }

/** @throws {ZgError} ERR_BAD_INPUT that names the field. */
export function readRequest(value: unknown): EvalRequest {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong('the request is no JSON object')
  const o = value as Record<string, unknown>
  const model = (): string => {
    if (typeof o.model === 'string' && o.model !== '') return o.model
    throw wrong("'model' must be a path")
  }
  const ids = (name: string, least = 1): Int32Array => {
    const list = o[name]
    const whole = (x: unknown): boolean => Number.isInteger(x) && (x as number) >= 0 && (x as number) < 2 ** 31
    if (!Array.isArray(list) || list.length < least || list.length > EVAL_TOKENS_MAX || !list.every(whole)) {
      throw wrong(`'${name}' must be a list of ${least} to ${EVAL_TOKENS_MAX} token ids`)
    }
    return Int32Array.from(list as number[])
  }
  const flag = (name: string, otherwise: boolean): boolean => {
    if (o[name] === undefined) return otherwise
    if (typeof o[name] === 'boolean') return o[name]
    throw wrong(`'${name}' must be true or false`)
  }
  switch (o.op) {
    case 'dequantize': {
      if (typeof o.type !== 'string') throw wrong("'type' must be the name of a tensor type")
      const hex = typeof o.hex === 'string' ? o.hex.replace(/^0x/, '') : ''
      if (!/^([0-9a-fA-F]{2})+$/.test(hex)) throw wrong("'hex' must be whole blocks in hexadecimal digits")
      return { op: 'dequantize', type: o.type, blocks: Uint8Array.from(Buffer.from(hex, 'hex')) }
    }
    case 'tokenize':
      if (typeof o.text !== 'string') throw wrong("'text' must be a string")
      return { op: 'tokenize', model: model(), text: o.text, special: flag('special', false) }
    case 'detokenize':
      return { op: 'detokenize', model: model(), tokens: ids('tokens', 0) }
    case 'chat': {
      const message = (m: unknown): boolean =>
        typeof m === 'object' && m !== null && typeof (m as { role?: unknown }).role === 'string'
      if (!Array.isArray(o.messages) || o.messages.length === 0 || !o.messages.every(message)) {
        throw wrong("'messages' must be a list of {role, content}")
      }
      if (o.tools !== undefined && o.tools !== null && !Array.isArray(o.tools)) throw wrong("'tools' must be a list")
      return {
        op: 'chat',
        model: model(),
        messages: o.messages as { role: string; content: string }[],
        addGenerationPrompt: flag('add_generation_prompt', false),
        tools: (o.tools ?? undefined) as unknown[] | undefined
      }
    }
    case 'logits':
      return { op: 'logits', model: model(), tokens: ids('tokens'), ids: ids('ids', 0) }
    case 'force':
    case 'trace':
      return { op: o.op, model: model(), tokens: ids('tokens'), follow: ids('follow', 0) }
    case 'greedy': {
      const { count } = o
      if (!Number.isInteger(count) || (count as number) < 0 || (count as number) > EVAL_TOKENS_MAX) {
        throw wrong(`'count' must be a whole number up to ${EVAL_TOKENS_MAX}`)
      }
      return { op: 'greedy', model: model(), tokens: ids('tokens'), count: count as number }
    }
    default:
      throw wrong("'op' must be dequantize, tokenize, detokenize, chat, logits, force, greedy or trace")
  }
}

function wrong(message: string): ZgError {
  return new ZgError('ERR_BAD_INPUT', message)
}
