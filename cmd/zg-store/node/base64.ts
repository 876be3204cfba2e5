/** Standard base64 with padding, strictly, between buffers and in pieces: native/codec, or Node's made strict where that is not built. */
import { codec } from '../../../lib/native.ts'

/** Bytes that the base64 of `bytes` takes. */
export function base64Length(bytes: number): number {
  return 4 * Math.ceil(bytes / 3)
}

/** Writes `data` as base64 at `at`. @returns where it ends. */
export function encodeBase64(data: Uint8Array, into: Buffer, at: number): number {
  return at + codec().base64EncodeInto(data, into.subarray(at))
}

/**
 * Decodes characters without padding, a multiple of 4.
 * @returns bytes written; −1 for anything that is not base64.
 */
export function decodeBase64(text: Buffer, into: Buffer, at: number): number {
  // Padding within is what the codec takes for an end.
  if (text[text.length - 1] === 0x3d) return -1
  return codec().base64DecodeInto(text, into.subarray(at))
}
