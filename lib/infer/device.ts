/** Names of devices for the forward pass. Light: command tables import it. */
import { ZgError } from '../base/errors.ts'

/** `auto` is the first CUDA device that can be used, else the CPU. */
export type DeviceChoice = 'cpu' | 'auto' | 'cuda' | `cuda:${number}`

/** Highest index of a device that can be named. */
export const DEVICE_INDEX_MAX = 64

/** @throws {ZgError} ERR_USAGE for anything but `cpu`, `auto`, `cuda` and `cuda:N`. */
export function parseDevice(text: string): DeviceChoice {
  if (/^(cpu|auto|cuda)$/.test(text)) return text as DeviceChoice
  const m = /^cuda:(\d{1,2})$/.exec(text)
  if (m !== null && Number(m[1]) <= DEVICE_INDEX_MAX) return text as DeviceChoice
  throw new ZgError('ERR_USAGE', `device '${text.slice(0, 40)}' is not cpu, cuda, cuda:N or auto`)
}
