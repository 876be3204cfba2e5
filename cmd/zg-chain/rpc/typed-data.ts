/**
 * The digest of EIP-712 typed data, for eth_signTypedData_v4. The node does not load a wallet library for it: that would cost a
 * quarter of a second at every start.
 *
 *   digest = keccak(0x19 0x01 ‖ hashStruct(EIP712Domain, domain) ‖ hashStruct(primaryType, message))
 *   hashStruct(T, v) = keccak(keccak(encodeType(T)) ‖ encodeData(T, v))
 */
import { concat, padLeft, utf8 } from '../../../lib/base/bytes.ts'
import { keccak256 } from '../../../lib/crypto/hash.ts'
import { asArray, asBytes, asObject, asString, field, invalid, type JsonObject, need } from './decode.ts'

type Types = Map<string, { name: string; type: string }[]>

const MAX_TYPES = 100
const MAX_FIELDS = 100
const MAX_VALUES = 10_000
/** Nesting of structs and arrays in a value; the JSON itself is bounded by the server. */
const MAX_DEPTH = 32

/** @param value - `{types, primaryType, domain, message}`, or its JSON text, as wallets send both. 32 bytes. */
export function typedDataDigest(value: unknown, name: string): Uint8Array {
  const root = asObject(typeof value === 'string' ? parse(value, name) : value, name)
  const types = readTypes(need(field(root, 'types', name, asObject), `${name}.types`), `${name}.types`)
  const primary = need(field(root, 'primaryType', name, asString), `${name}.primaryType`)
  const domain = need(field(root, 'domain', name, asObject), `${name}.domain`)
  if (!types.has('EIP712Domain')) types.set('EIP712Domain', domainFields(domain))
  if (!types.has(primary)) throw invalid(`${name}.primaryType`, 'no such type')
  const separator = hashStruct(types, 'EIP712Domain', domain, `${name}.domain`, 0)
  const prefix = Uint8Array.of(0x19, 0x01)
  if (primary === 'EIP712Domain') return keccak256(prefix, separator)
  const message = need(field(root, 'message', name, asObject), `${name}.message`)
  return keccak256(prefix, separator, hashStruct(types, primary, message, `${name}.message`, 0))
}

function parse(text: string, name: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw invalid(name, 'not JSON')
  }
}

function readTypes(object: JsonObject, name: string): Types {
  const names = Object.keys(object)
  if (names.length > MAX_TYPES) throw invalid(name, `${names.length} types, at most ${MAX_TYPES}`)
  const out: Types = new Map()
  for (const type of names) {
    const fields = asArray(object[type], `${name}.${type}`, MAX_FIELDS).map((entry, i) => {
      const path = `${name}.${type}[${i}]`
      const o = asObject(entry, path)
      return {
        name: need(field(o, 'name', path, asString), `${path}.name`),
        type: need(field(o, 'type', path, asString), `${path}.type`)
      }
    })
    out.set(type, fields)
  }
  return out
}

/** The domain's fields in the order of the standard, when the caller did not spell out the type. */
function domainFields(domain: JsonObject): { name: string; type: string }[] {
  const all = { name: 'string', version: 'string', chainId: 'uint256', verifyingContract: 'address', salt: 'bytes32' }
  return Object.entries(all)
    .filter(([key]) => Object.hasOwn(domain, key))
    .map(([name, type]) => ({ name, type }))
}

function hashStruct(types: Types, type: string, value: JsonObject, path: string, depth: number): Uint8Array {
  if (depth > MAX_DEPTH) throw invalid(path, 'nested too deep')
  const parts = [keccak256(utf8(encodeType(types, type)))]
  for (const f of types.get(type)!) {
    parts.push(
      encodeValue(types, f.type, Object.hasOwn(value, f.name) ? value[f.name] : undefined, `${path}.${f.name}`, depth)
    )
  }
  return keccak256(concat(...parts))
}

/** `Mail(Person from,Person to)Person(string name)`: the type, then the types it refers to in alphabetical order. */
function encodeType(types: Types, primary: string): string {
  const seen = new Set<string>()
  const queue = [primary]
  for (let type = queue.pop(); type !== undefined; type = queue.pop()) {
    if (seen.has(type)) continue
    seen.add(type)
    for (const f of types.get(type)!) {
      const base = f.type.replace(/\[.*$/, '')
      if (types.has(base)) queue.push(base)
    }
  }
  seen.delete(primary)
  return [primary, ...[...seen].sort()]
    .map(
      type =>
        `${type}(${types
          .get(type)!
          .map(f => `${f.type} ${f.name}`)
          .join(',')})`
    )
    .join('')
}

/** A value as a 32-byte word; absent structs are zero, as in the wallets that defined v4. */
function encodeValue(types: Types, type: string, value: unknown, path: string, depth: number): Uint8Array {
  if (depth > MAX_DEPTH) throw invalid(path, 'nested too deep')
  const array = /^(.+)\[([0-9]{0,6})\]$/.exec(type)
  if (array !== null) {
    const items = asArray(value, path, MAX_VALUES)
    if (array[2] !== '' && items.length !== Number(array[2]))
      throw invalid(path, `${items.length} items, ${array[2]} wanted`)
    return keccak256(concat(...items.map((item, i) => encodeValue(types, array[1]!, item, `${path}[${i}]`, depth + 1))))
  }
  if (types.has(type)) {
    if (value === undefined || value === null) return new Uint8Array(32)
    return hashStruct(types, type, asObject(value, path), path, depth + 1)
  }
  if (value === undefined || value === null) throw invalid(path, 'missing value')
  return encodeAtom(type, value, path)
}

function encodeAtom(type: string, value: unknown, path: string): Uint8Array {
  if (type === 'string') return keccak256(utf8(asString(value, path)))
  if (type === 'bytes') return keccak256(asBytes(value, path))
  if (type === 'bool') {
    if (typeof value !== 'boolean') throw invalid(path, 'not a boolean')
    return padLeft(Uint8Array.of(value ? 1 : 0), 32)
  }
  if (type === 'address') {
    const bytes = asBytes(value, path)
    if (bytes.length !== 20) throw invalid(path, `${bytes.length} bytes, 20 wanted`)
    return padLeft(bytes, 32)
  }
  const fixed = /^bytes([0-9]{1,2})$/.exec(type)
  if (fixed !== null) {
    const size = Number(fixed[1])
    const bytes = asBytes(value, path)
    if (size < 1 || size > 32 || bytes.length !== size) throw invalid(path, `${bytes.length} bytes, ${size} wanted`)
    const word = new Uint8Array(32)
    word.set(bytes)
    return word
  }
  const integer = /^(u?)int([0-9]{0,3})$/.exec(type)
  if (integer === null) throw invalid(path, `unknown type '${type.slice(0, 40)}'`)
  const bits = integer[2] === '' ? 256n : BigInt(integer[2]!)
  if (bits < 8n || bits > 256n || bits % 8n !== 0n) throw invalid(path, `unknown type '${type}'`)
  return encodeInteger(asInteger(value, path), { bits, signed: integer[1] === '' }, path)
}

/** Wallets send integers as JSON numbers, decimal and hex strings. */
function asInteger(value: unknown, path: string): bigint {
  if (typeof value === 'number' && Number.isSafeInteger(value)) return BigInt(value)
  if (typeof value === 'string' && /^(-?[0-9]{1,78}|0x[0-9a-fA-F]{1,64})$/.test(value)) return BigInt(value)
  throw invalid(path, 'not an integer')
}

function encodeInteger(n: bigint, kind: { bits: bigint; signed: boolean }, path: string): Uint8Array {
  const high = 1n << (kind.signed ? kind.bits - 1n : kind.bits)
  if (n >= high || n < (kind.signed ? -high : 0n)) throw invalid(path, 'out of range')
  const word = BigInt.asUintN(256, n).toString(16).padStart(64, '0')
  return new Uint8Array(Buffer.from(word, 'hex'))
}
