/**
 * Standard base64 with padding, strictly, between buffers and in pieces. Node's decoder is fast but lenient: it skips foreign
 * characters, takes the alphabet of URLs and stops at padding, so that a count of the bytes and two searches tell whether there
 * were any.
 */

/** Longest text that is turned into one string at a time; larger ones are slower a byte, since their memory comes from the system. */
const STEP = 48 * 1024

/** Bytes that the base64 of `bytes` takes. */
export function base64Length(bytes: number): number {
  return 4 * Math.ceil(bytes / 3)
}

/** Writes `data` as base64 at `at`. @returns where it ends. */
export function encodeBase64(data: Uint8Array, into: Buffer, at: number): number {
  const source = Buffer.from(data.buffer, data.byteOffset, data.length)
  for (let from = 0; from < source.length; from += STEP) {
    at += into.write(source.toString('base64', from, Math.min(source.length, from + STEP)), at, 'latin1')
  }
  return at
}

/**
 * Decodes characters without padding, a multiple of 4.
 * @returns bytes written; −1 for anything that is not base64.
 */
export function decodeBase64(text: Buffer, into: Buffer, at: number): number {
  let out = at
  for (let start = 0; start < text.length; start += STEP) {
    const part = text.subarray(start, start + STEP)
    const want = (part.length / 4) * 3
    // The URL alphabet and padding within are what the count does not show.
    if (part.includes(0x2d) || part.includes(0x5f) || part.includes(0x3d)) return -1
    if (into.write(part.toString('latin1'), out, want, 'base64') !== want) return -1
    out += want
  }
  return out - at
}
