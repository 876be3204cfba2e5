/**
 * CUDA devices for the engine (native/infer/cuda). The addon is built only where CUDA's compiler is, loads anywhere and says where it has
 * no device. What it exports as `backend` goes to the other addon's open(): scheduler, tokenizer and server are the same for all devices.
 */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { ZgError } from '../base/errors.ts'
import { loadError, nativePath } from '../native.ts'
import { type DeviceChoice, devicesOf } from './device.ts'

export interface CudaDevice {
  readonly name: string
  readonly memoryBytes: number
  /** Compute capability, such as `9.0`. */
  readonly capability: string
}

/** Devices for the other addon: what its open() takes as `backend` and `devices`. */
export interface NativeBackend {
  readonly backend: unknown
  readonly devices: Int32Array
}

interface Addon {
  devices(): { devices: CudaDevice[]; why?: string }
  readonly backend: unknown
}

/** The least compute capability that the kernels are built for. */
const CAPABILITY_MIN = 8

const loaded = new Map<string, Addon>()

/** @throws {ZgError} ERR_NATIVE when the file is there and does not load. */
function load(path: string): Addon | undefined {
  const known = loaded.get(path)
  if (known !== undefined || !existsSync(path)) return known
  try {
    const addon = createRequire(import.meta.url)(path) as Addon
    loaded.set(path, addon)
    return addon
  } catch (err) {
    throw loadError(err, path)
  }
}

/** The devices here; none, with the reason. */
export function cudaDevices(path = nativePath('infer_cuda')): { devices: readonly CudaDevice[]; why: string } {
  const addon = load(path)
  if (addon === undefined) return { devices: [], why: 'zg was built without CUDA' }
  const { devices, why } = addon.devices()
  return { devices, why: why ?? '' }
}

/**
 * The back end of a choice; undefined is the CPU.
 * @param path - of the addon; tests name the one of the emulated device.
 * @throws {ZgError} ERR_UNAVAILABLE when CUDA was asked for and there is no addon, no device, or an older one.
 */
export function backendOf(choice: DeviceChoice, path = nativePath('infer_cuda')): NativeBackend | undefined {
  if (choice === 'cpu') return undefined
  const { devices, why } = cudaDevices(path)
  const named = devicesOf(choice)!
  const wanted = named === 'all' ? devices.map((_, i) => i) : named
  const missing = wanted.find(i => devices[i] === undefined)
  // The emulated device has none.
  const old = wanted
    .map(i => devices[i])
    .find(d => d !== undefined && d.capability !== '0.0' && Number(d.capability) < CAPABILITY_MIN)
  if (wanted.length > 0 && missing === undefined && old === undefined) {
    return { backend: load(path)!.backend, devices: Int32Array.from(wanted) }
  }
  if (choice === 'auto') return undefined
  if (missing === undefined && old !== undefined) {
    throw new ZgError('ERR_UNAVAILABLE', `${old.name} has compute capability ${old.capability}, 8.0 is the least`)
  }
  const reason = devices.length > 0 ? `device ${missing} is not among ${devices.length}` : why
  throw new ZgError('ERR_UNAVAILABLE', `no CUDA device: ${reason}`, {
    hint:
      devices.length === 0 && /built without/.test(why)
        ? "install CUDA's toolkit and run 'npm run build:native', or use '--device cpu'"
        : "use '--device cpu', or '--device auto' to take what there is"
  })
}
