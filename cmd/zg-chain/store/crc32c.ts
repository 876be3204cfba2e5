/** CRC-32C (Castagnoli), the checksum of every record that this chain writes to a file. Source: RFC 3720, appendix B.4. */

/** Eight tables: the remainder of a byte followed by 0 … 7 zero bytes, so that eight bytes go at once. */
const TABLES: Uint32Array[] = [new Uint32Array(256)]
for (let n = 0; n < 256; n++) {
  let c = n
  for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1
  TABLES[0]![n] = c >>> 0
}
for (let t = 1; t < 8; t++) {
  TABLES.push(TABLES[t - 1]!.map(c => (TABLES[0]![c & 0xff]! ^ (c >>> 8)) >>> 0))
}
const [T0, T1, T2, T3, T4, T5, T6, T7] = TABLES as [
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array,
  Uint32Array
]

/** CRC-32C of the parts joined, as an unsigned 32-bit integer. */
export function crc32c(...parts: readonly Uint8Array[]): number {
  let c = 0xffffffff
  for (const p of parts) {
    let i = 0
    for (const end = p.length - 7; i < end; i += 8) {
      c ^= p[i]! | (p[i + 1]! << 8) | (p[i + 2]! << 16) | (p[i + 3]! << 24)
      c =
        T7[c & 0xff]! ^
        T6[(c >>> 8) & 0xff]! ^
        T5[(c >>> 16) & 0xff]! ^
        T4[c >>> 24]! ^
        T3[p[i + 4]!]! ^
        T2[p[i + 5]!]! ^
        T1[p[i + 6]!]! ^
        T0[p[i + 7]!]!
    }
    for (; i < p.length; i++) c = T0[(c ^ p[i]!) & 0xff]! ^ (c >>> 8)
  }
  return (c ^ 0xffffffff) >>> 0
}
