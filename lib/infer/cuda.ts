/**
 * The deterministic engine on CUDA devices (native/infer/cuda): its addon is built only where CUDA's compiler is, loads anywhere and
 * says where it has no device. One step at a time a model.
 */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { ZgError } from '../base/errors.ts'
import { nativePath } from '../native.ts'

export interface CudaDevice {
  readonly name: string
  readonly memoryBytes: number
  /** Compute capability, such as `9.0`. */
  readonly capability: string
}

export interface CudaOptions {
  readonly device?: number
  /** Longest sequence; at most the model's context. */
  readonly positions?: number
  /** Sequences at once, rows of a step, pages of 16 positions in the cache. */
  readonly sequences?: number
  readonly rows?: number
  readonly pages?: number
}

/** One position to compute: rows of a sequence ascend and follow what was computed before. */
export interface CudaRow {
  readonly sequence: number
  readonly position: number
  readonly token: number
  readonly wantsLogits: boolean
}

export interface CudaStep {
  /** Of the rows that want them, one behind the other. */
  readonly logits: Float32Array
  /** Final-norm states of the same rows. */
  readonly hidden: Float32Array
  /** Of each of them, the token with the highest logit. */
  readonly best: Uint32Array
  /** Of every row, the layer (from 1) in which it stopped being finite; 0: none. */
  readonly failedLayers: Uint32Array
  /** On the device's clock. */
  readonly milliseconds: number
}

interface Addon {
  devices(): { devices: CudaDevice[]; why?: string }
  open(path: string, options: CudaOptions): Promise<Opened>
  step(handle: unknown, rows: Uint32Array): Promise<CudaStep>
  cut(handle: unknown, sequence: number, position: number): void
  close(handle: unknown): void
}

interface Opened {
  handle: unknown
  device: string
  deviceBytes: number
  weightBytes: number
  vocabularySize: number
  width: number
  positions: number
}

let addon: Addon | undefined

function load(): Addon | undefined {
  const path = nativePath('infer_cuda')
  if (addon === undefined && existsSync(path)) addon = createRequire(import.meta.url)(path) as Addon
  return addon
}

/** The devices here; none, with the reason. */
export function cudaDevices(): { devices: readonly CudaDevice[]; why: string } {
  const loaded = load()
  if (loaded === undefined) return { devices: [], why: 'built without CUDA' }
  const { devices, why } = loaded.devices()
  return { devices, why: why ?? '' }
}

export class CudaModel {
  readonly #opened: Opened

  private constructor(opened: Opened) {
    this.#opened = opened
  }

  /**
   * Loads a GGUF model onto a device.
   * @throws {ZgError} ERR_UNAVAILABLE without a device; ERR_BAD_INPUT when the file is refused or does not fit.
   */
  static async open(path: string, options: CudaOptions = {}): Promise<CudaModel> {
    const { devices, why } = cudaDevices()
    if (devices.length === 0) throw new ZgError('ERR_UNAVAILABLE', `no CUDA device: ${why}`)
    try {
      return new CudaModel(await load()!.open(path, options))
    } catch (error) {
      throw new ZgError('ERR_BAD_INPUT', `${path}: ${(error as Error).message}`)
    }
  }

  get info(): Readonly<Omit<Opened, 'handle'>> {
    return this.#opened
  }

  /** Computes rows; the promise is rejected with the device's words when it failed, and the model is then of no use. */
  step(rows: readonly CudaRow[]): Promise<CudaStep> {
    const words = new Uint32Array(rows.length * 4)
    rows.forEach((r, i) => {
      words.set([r.sequence, r.position, r.token, r.wantsLogits ? 1 : 0], 4 * i)
    })
    return load()!.step(this.#opened.handle, words)
  }

  /** Forgets a sequence from a position on. */
  cut(sequence: number, position: number): void {
    load()!.cut(this.#opened.handle, sequence, position)
  }

  close(): void {
    load()!.close(this.#opened.handle)
  }
}
