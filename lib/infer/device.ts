/** Names of devices for the forward pass. Light: command tables import it. */
import { ZgError } from '../base/errors.ts'

/** `auto` is the first CUDA device that can be used, else the CPU; `cuda:all` and lists spread a model's layers over several. */
export type DeviceChoice = 'cpu' | 'auto' | 'cuda' | `cuda:${string}`

/** Highest index of a device that can be named. */
export const DEVICE_INDEX_MAX = 64

/** How many layers one device may get beside another: shares are small numbers. */
export const SHARE_MAX = 1_000_000

/** @throws {ZgError} ERR_USAGE for anything but `cpu`, `auto`, `cuda`, `cuda:N`, `cuda:N,M…` and `cuda:all`. */
export function parseDevice(text: string): DeviceChoice {
  if (/^(cpu|auto|cuda|cuda:all)$/.test(text)) return text as DeviceChoice
  const list = /^cuda:(\d{1,2}(?:,\d{1,2})*)$/.exec(text)?.[1]?.split(',').map(Number)
  if (list === undefined || list.some(n => n > DEVICE_INDEX_MAX)) {
    throw new ZgError('ERR_USAGE', `device '${text.slice(0, 40)}' is not cpu, cuda, cuda:N, cuda:N,M, cuda:all or auto`)
  }
  if (new Set(list).size < list.length) throw new ZgError('ERR_USAGE', `device '${text}' names one twice`)
  return text as DeviceChoice
}

/** Indexes that a choice names; `all`: whatever there is; undefined: not CUDA's. */
export function devicesOf(choice: DeviceChoice): readonly number[] | 'all' | undefined {
  if (choice === 'cpu') return undefined
  if (choice === 'cuda:all') return 'all'
  return choice.startsWith('cuda:') ? choice.slice(5).split(',').map(Number) : [0]
}

/** `3,1`: of four layers the first device gets three. @throws {ZgError} ERR_USAGE. */
export function parseSplit(text: string): number[] {
  const shares = /^\d{1,7}(,\d{1,7})*$/.test(text) ? text.split(',').map(Number) : []
  if (shares.length < 1 || shares.length > DEVICE_INDEX_MAX || shares.some(s => s < 1 || s > SHARE_MAX)) {
    throw new ZgError('ERR_USAGE', `split '${text.slice(0, 40)}' is not a list of shares`, {
      hint: "a number from 1 on for each device, like '3,1'"
    })
  }
  return shares
}
