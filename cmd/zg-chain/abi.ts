/**
 * Calls from the words of a command line: `balanceOf(address)(uint256)` and its arguments, as cast writes them. The ABI work is
 * ethers'; its texts never reach the user.
 */
import type { FunctionFragment, ParamType } from 'ethers'
import { ZgError } from '../../lib/base/errors.ts'
import { toHex } from '../../lib/base/hex.ts'

/** A function named by its signature, with or without the types of its results. */
export interface FunctionCall {
  data: Uint8Array
  /** Results as text, one a line; undefined when the signature names none. */
  decode: ((returned: string) => Decoded[]) | undefined
}

export interface Decoded {
  name: string
  type: string
  /** Numbers as decimal text, bytes as hex, lists and structs as arrays. */
  value: unknown
}

/** @throws {ZgError} ERR_USAGE when the signature or an argument does not read. */
export async function encodeCall(signature: string, args: string[]): Promise<FunctionCall> {
  const { FunctionFragment, Interface } = await import('ethers')
  const [name, inputs, outputs] = splitSignature(signature)
  let fragment: FunctionFragment
  try {
    fragment = FunctionFragment.from(`function ${name}${inputs}${outputs === undefined ? '' : ` returns ${outputs}`}`)
  } catch {
    throw new ZgError('ERR_USAGE', `'${signature}' is not a function signature`, {
      hint: "write 'transfer(address,uint256)' or 'balanceOf(address)(uint256)'"
    })
  }
  const iface = new Interface([fragment])
  const data = encode(args, fragment.inputs, values => iface.encodeFunctionData(fragment, values))
  return {
    data: await data,
    decode:
      outputs === undefined
        ? undefined
        : returned => decodeResult(iface.decodeFunctionResult.bind(iface), fragment, returned)
  }
}

/** ABI-encoded constructor arguments behind the code. @throws {ZgError} ERR_USAGE. */
export async function encodeConstructor(inputs: readonly ParamType[], args: string[]): Promise<Uint8Array> {
  const { AbiCoder } = await import('ethers')
  return encode(args, inputs, values => AbiCoder.defaultAbiCoder().encode(inputs, values))
}

/** Name, inputs and results: the parentheses of the inputs may be nested. */
function splitSignature(signature: string): [name: string, inputs: string, outputs: string | undefined] {
  const text = signature.trim().replace(/^function\s+/, '')
  const open = text.indexOf('(')
  let depth = 0
  for (let i = open; i >= 0 && i < text.length; i++) {
    if (text[i] === '(') depth++
    if (text[i] === ')' && --depth === 0) {
      const rest = text
        .slice(i + 1)
        .trim()
        .replace(/^(view|pure|external|public|payable|\s)*(returns)?\s*/, '')
      return [text.slice(0, open).trim(), text.slice(open, i + 1), rest === '' ? undefined : rest]
    }
  }
  throw new ZgError('ERR_USAGE', `'${signature}' is not a function signature`, {
    hint: "write 'transfer(address,uint256)' or 'balanceOf(address)(uint256)'"
  })
}

async function encode(
  args: string[],
  inputs: readonly ParamType[],
  run: (values: unknown[]) => string
): Promise<Uint8Array> {
  if (args.length !== inputs.length) {
    throw new ZgError('ERR_USAGE', `${args.length} arguments given, ${inputs.length} wanted`)
  }
  const values: unknown[] = []
  for (const [i, text] of args.entries()) values.push(await readArgument(inputs[i]!, text, i))
  try {
    return new Uint8Array(Buffer.from(run(values).slice(2), 'hex'))
  } catch {
    throw new ZgError('ERR_USAGE', `arguments do not fit (${inputs.map(p => p.type).join(', ')})`)
  }
}

async function readArgument(type: ParamType, text: string, index: number): Promise<unknown> {
  const { findAddress } = await import('../../lib/clients/accounts.ts')
  if (type.baseType === 'array' || type.baseType === 'tuple') {
    try {
      // Numbers beyond 2⁵³ must be quoted, as anywhere in JSON.
      return JSON.parse(text)
    } catch {
      throw new ZgError('ERR_USAGE', `argument ${index + 1} (${type.type}) is not JSON`)
    }
  }
  if (type.type === 'address') return toHex(await findAddress(text))
  if (type.type === 'bool') {
    if (text !== 'true' && text !== 'false') {
      throw new ZgError('ERR_USAGE', `argument ${index + 1} is neither true nor false`)
    }
    return text === 'true'
  }
  return text
}

function decodeResult(
  decode: (fragment: FunctionFragment, data: string) => ArrayLike<unknown>,
  fragment: FunctionFragment,
  returned: string
): Decoded[] {
  let values: ArrayLike<unknown>
  try {
    values = decode(fragment, returned)
  } catch {
    throw new ZgError('ERR_BAD_INPUT', `the answer does not fit (${fragment.outputs.map(p => p.type).join(', ')})`, {
      hint: returned === '0x' ? 'there may be no contract at that address' : undefined
    })
  }
  return fragment.outputs.map((p, i) => ({ name: p.name, type: p.type, value: plain(values[i]) }))
}

/** ethers' results as JSON: big integers become decimal text. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString()
  if (Array.isArray(value) || (typeof value === 'object' && value !== null && 'length' in value)) {
    return Array.from(value as ArrayLike<unknown>, plain)
  }
  return value
}
