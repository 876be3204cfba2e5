/**
 * A plain reader of GGUF files (inference.md section 1), for the reference engine: the whole header as JavaScript values, tensors read when
 * they are asked for. The checks that matter here are those of lengths against the file; native/infer/gguf.h has all of them.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { messageOf, ZgError } from '../../base/errors.ts'
import { shapeOf, type TypeShape } from './blocks.ts'

export type GgufValue = number | bigint | boolean | string | Uint8Array | GgufValue[]

export interface GgufTensor {
  readonly name: string
  readonly shape: TypeShape
  /** Fastest first. */
  readonly dims: readonly number[]
  /** From the start of the file. */
  readonly offset: number
  readonly bytes: number
}

/** Of a header: a vocabulary of 150,000 takes six of them. */
const HEADER_MAX_BYTES = 256 * 1024 * 1024
const NESTING_MAX = 4

export class GgufFile {
  readonly metadata: ReadonlyMap<string, GgufValue>
  readonly tensors: ReadonlyMap<string, GgufTensor>
  readonly #fd: number

  private constructor(fd: number, metadata: Map<string, GgufValue>, tensors: Map<string, GgufTensor>) {
    this.#fd = fd
    this.metadata = metadata
    this.tensors = tensors
  }

  /** @throws {ZgError} ERR_NO_INPUT when there is no such file, ERR_BAD_INPUT when it is no GGUF file of one part. */
  static open(path: string): GgufFile {
    let fd: number
    try {
      fd = openSync(path, 'r')
    } catch (err) {
      throw new ZgError('ERR_NO_INPUT', `cannot open '${path}': ${messageOf(err)}`, { cause: err })
    }
    try {
      const { metadata, tensors } = new Reader(fd).file()
      if (Number(metadata.get('split.count') ?? 1) > 1) {
        throw new ZgError('ERR_BAD_INPUT', 'the reference engine reads models of one file alone')
      }
      return new GgufFile(fd, metadata, tensors)
    } catch (err) {
      closeSync(fd)
      if (err instanceof ZgError) throw new ZgError(err.code, `'${path}': ${err.message}`, { cause: err })
      throw err
    }
  }

  /** A tensor's bytes. */
  read(tensor: GgufTensor): Uint8Array {
    return readAt(this.#fd, tensor.offset, tensor.bytes)
  }

  close(): void {
    closeSync(this.#fd)
  }
}

function readAt(fd: number, offset: number, bytes: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(bytes)
  for (let done = 0; done < bytes; ) {
    const n = readSync(fd, out, done, bytes - done, offset + done)
    if (n === 0) throw new ZgError('ERR_BAD_INPUT', `the file ends at byte ${offset + done}`)
    done += n
  }
  return out
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

class Reader {
  readonly #fd: number
  readonly #size: number
  #buffer = new Uint8Array(0)
  #view = new DataView(this.#buffer.buffer)
  #at = 0

  constructor(fd: number) {
    this.#fd = fd
    this.#size = fstatSync(fd).size
    this.#grow(Math.min(this.#size, 1024 * 1024))
  }

  #grow(bytes: number): void {
    if (bytes > this.#size) throw new ZgError('ERR_BAD_INPUT', `the file ends within its header, at byte ${this.#size}`)
    if (bytes > HEADER_MAX_BYTES)
      throw new ZgError('ERR_BAD_INPUT', `the header takes more than ${HEADER_MAX_BYTES} bytes`)
    this.#buffer = readAt(this.#fd, 0, bytes)
    this.#view = new DataView(this.#buffer.buffer)
  }

  /** The place of the next `bytes`, which are there. */
  #take(bytes: number): number {
    const at = this.#at
    if (at + bytes > this.#buffer.length)
      this.#grow(Math.max(at + bytes, Math.min(2 * this.#buffer.length, this.#size)))
    this.#at += bytes
    return at
  }

  /** The view is asked for behind the bytes: taking them may make a new one. */
  #number<T>(bytes: number, read: (view: DataView, at: number) => T): T {
    const at = this.#take(bytes)
    return read(this.#view, at)
  }

  #u32(): number {
    return this.#number(4, (v, at) => v.getUint32(at, true))
  }

  /** A count or length: nothing in a file that is there is above 2⁵³. */
  #count(least: number): number {
    const n = this.#number(8, (v, at) => v.getBigUint64(at, true))
    if (n * BigInt(least) > BigInt(this.#size)) {
      throw new ZgError('ERR_BAD_INPUT', `${n} entries do not fit in the file, declared before byte ${this.#at}`)
    }
    return Number(n)
  }

  /** Text, or bytes where they are no UTF-8 (tokens). */
  #string(): string | Uint8Array {
    const length = this.#count(1)
    const at = this.#take(length)
    const bytes = this.#buffer.slice(at, at + length)
    try {
      return decoder.decode(bytes)
    } catch {
      return bytes
    }
  }

  #name(): string {
    const s = this.#string()
    return typeof s === 'string' ? s : Buffer.from(s).toString('latin1')
  }

  #value(type: number, depth = 0): GgufValue {
    switch (type) {
      case 0:
        return this.#number(1, (v, at) => v.getUint8(at))
      case 1:
        return this.#number(1, (v, at) => v.getInt8(at))
      case 2:
        return this.#number(2, (v, at) => v.getUint16(at, true))
      case 3:
        return this.#number(2, (v, at) => v.getInt16(at, true))
      case 4:
        return this.#u32()
      case 5:
        return this.#number(4, (v, at) => v.getInt32(at, true))
      case 6:
        return this.#number(4, (v, at) => v.getFloat32(at, true))
      case 7:
        return this.#number(1, (v, at) => v.getUint8(at)) !== 0
      case 8:
        return this.#string()
      case 9: {
        const element = this.#u32()
        const count = this.#count(1)
        if (depth >= NESTING_MAX) throw new ZgError('ERR_BAD_INPUT', `arrays nest too deep at byte ${this.#at}`)
        const out: GgufValue[] = []
        for (let i = 0; i < count; i++) out.push(this.#value(element, depth + 1))
        return out
      }
      case 10:
        return this.#number(8, (v, at) => v.getBigUint64(at, true))
      case 11:
        return this.#number(8, (v, at) => v.getBigInt64(at, true))
      case 12:
        return this.#number(8, (v, at) => v.getFloat64(at, true))
      default:
        throw new ZgError('ERR_BAD_INPUT', `value type ${type} at byte ${this.#at - 4} is unknown`)
    }
  }

  file(): { metadata: Map<string, GgufValue>; tensors: Map<string, GgufTensor> } {
    if (this.#u32() !== 0x46554747) throw new ZgError('ERR_BAD_INPUT', 'not a GGUF file')
    const version = this.#u32()
    if (version !== 2 && version !== 3) throw new ZgError('ERR_BAD_INPUT', `GGUF version ${version} is not 2 or 3`)
    const tensorCount = this.#count(33)
    const entries = this.#count(13)
    const metadata = new Map<string, GgufValue>()
    for (let i = 0; i < entries; i++) {
      const key = this.#name()
      metadata.set(key, this.#value(this.#u32()))
    }
    const described: { name: string; type: number; dims: number[]; offset: number }[] = []
    for (let i = 0; i < tensorCount; i++) {
      const name = this.#name()
      const dims = Array.from({ length: this.#dimensions() }, () => this.#count(0))
      described.push({ name, dims, type: this.#u32(), offset: this.#count(0) })
    }
    const alignment = Number(metadata.get('general.alignment') ?? 32)
    const start = Math.ceil(this.#at / alignment) * alignment
    const tensors = new Map<string, GgufTensor>()
    for (const { name, type, dims, offset } of described) {
      const shape = shapeOf(type)
      const values = dims.reduce((a, b) => a * b, 1)
      const bytes = (values / shape.values) * shape.bytes
      if (!Number.isSafeInteger(bytes) || start + offset + bytes > this.#size) {
        throw new ZgError('ERR_BAD_INPUT', `tensor '${name}' does not lie within the file`)
      }
      tensors.set(name, { name, shape, dims, offset: start + offset, bytes })
    }
    return { metadata, tensors }
  }

  #dimensions(): number {
    const n = this.#u32()
    if (n < 1 || n > 4) throw new ZgError('ERR_BAD_INPUT', `a tensor of ${n} dimensions before byte ${this.#at}`)
    return n
  }
}
