/**
 * GGUF files for tests, read and written apart from the product's code: metadata as raw entries, tensors as bytes. Trusts what it reads.
 */

export interface RawTensor {
  name: string
  dims: number[]
  type: number
  data: Uint8Array
}

export interface RawGguf {
  /** Whole entries: key, type, value. */
  entries: { key: string; bytes: Uint8Array }[]
  tensors: RawTensor[]
}

/** Values and bytes of a block, by id of the type. */
const BLOCKS: Record<number, [values: number, bytes: number]> = {
  ...{ 0: [1, 4], 1: [1, 2], 2: [32, 18], 3: [32, 20], 6: [32, 22], 7: [32, 24], 8: [32, 34], 10: [256, 84] },
  ...{ 11: [256, 110], 12: [256, 144], 13: [256, 176], 14: [256, 210], 20: [32, 18], 23: [256, 136] },
  ...{ 30: [1, 2], 39: [32, 17] }
}
const SCALARS: Record<number, number> = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 }

/** Ids of tensor types by name. */
export const TENSOR_TYPES: Record<string, number> = {
  ...{ F32: 0, F16: 1, Q4_0: 2, Q4_1: 3, Q5_0: 6, Q5_1: 7, Q8_0: 8, Q2_K: 10, Q3_K: 11, Q4_K: 12 },
  ...{ Q5_K: 13, Q6_K: 14, IQ4_NL: 20, IQ4_XS: 23, BF16: 30, MXFP4: 39 }
}

export function parseGguf(source: Uint8Array): RawGguf {
  // A Buffer's slices would share its memory.
  const file = new Uint8Array(source)
  const view = new DataView(file.buffer, file.byteOffset, file.length)
  let at = 24
  const u32 = (): number => {
    at += 4
    return view.getUint32(at - 4, true)
  }
  const u64 = (): number => {
    at += 8
    return Number(view.getBigUint64(at - 8, true))
  }
  const text = (): string => {
    const length = u64()
    at += length
    return Buffer.from(file.subarray(at - length, at)).toString('utf8')
  }
  const skip = (type: number): void => {
    if (type === 8) text()
    else if (type === 9) {
      const element = u32()
      const count = u64()
      for (let i = 0; i < count; i++) skip(element)
    } else at += SCALARS[type]!
  }
  const tensorCount = Number(view.getBigUint64(8, true))
  const entries: RawGguf['entries'] = []
  for (let i = Number(view.getBigUint64(16, true)); i > 0; i--) {
    const start = at
    const key = text()
    skip(u32())
    entries.push({ key, bytes: file.slice(start, at) })
  }
  const infos: (Omit<RawTensor, 'data'> & { offset: number })[] = []
  for (let i = 0; i < tensorCount; i++) {
    const name = text()
    const dims = Array.from({ length: u32() }, u64)
    infos.push({ name, dims, type: u32(), offset: u64() })
  }
  const base = Math.ceil(at / 32) * 32
  return {
    entries,
    tensors: infos.map(({ offset, ...t }) => {
      const [values, bytes] = BLOCKS[t.type]!
      const size = (t.dims.reduce((a, b) => a * b, 1) / values) * bytes
      return { ...t, data: file.slice(base + offset, base + offset + size) }
    })
  }
}

export function writeGguf({ entries, tensors }: RawGguf): Uint8Array {
  const parts: Uint8Array[] = [Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(entries.length)]
  for (const e of entries) parts.push(e.bytes)
  let offset = 0
  for (const t of tensors) {
    parts.push(string(t.name), u32(t.dims.length), ...t.dims.map(u64), u32(t.type), u64(offset))
    offset = Math.ceil((offset + t.data.length) / 32) * 32
  }
  const pad = (): void => {
    const size = parts.reduce((sum, p) => sum + p.length, 0)
    parts.push(Buffer.alloc(Math.ceil(size / 32) * 32 - size))
  }
  pad()
  for (const t of tensors) {
    parts.push(t.data)
    pad()
  }
  return Buffer.concat(parts)
}

export function u32(n: number): Uint8Array {
  const b = Buffer.alloc(4)
  b.writeUInt32LE(n)
  return b
}

export function u64(n: number): Uint8Array {
  const b = Buffer.alloc(8)
  b.writeBigUInt64LE(BigInt(n))
  return b
}

function string(text: string): Uint8Array {
  return Buffer.concat([u64(Buffer.byteLength(text)), Buffer.from(text)])
}

/** An entry: a number as `u16`, `u32`, `i32` or `f32`, or a text. */
export function entry(
  key: string,
  kind: 'u16' | 'u32' | 'i32' | 'f32' | 'text',
  value: number | string
): RawGguf['entries'][number] {
  const type = { u16: 2, u32: 4, i32: 5, f32: 6, text: 8 }[kind]
  const b = Buffer.alloc(kind === 'u16' ? 2 : 4)
  if (kind === 'u16') b.writeUInt16LE(value as number)
  else if (kind === 'f32') b.writeFloatLE(value as number)
  else if (kind !== 'text') b.writeInt32LE((value as number) | 0)
  return { key, bytes: Buffer.concat([string(key), u32(type), kind === 'text' ? string(value as string) : b]) }
}

export function floatsOf(values: Iterable<number>): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer)
}
