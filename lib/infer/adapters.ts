/**
 * LoRA adapters of a running model by their names. Each stands beside the weights and is applied by request, so requests with different ones
 * share the engine's steps; what was computed with one is shared with no other.
 */
import { existsSync } from 'node:fs'
import { basename } from 'node:path'
import { messageOf, ZgError } from '../base/errors.ts'
import type { NativeModel } from './native.ts'
import type { AdapterChoice, AdapterInfo, EngineOptions } from './types.ts'

/** Adapters of one request. native/napi/infer_napi.cpp has the same. */
export const MAX_ADAPTERS = 8
/** How much stronger or weaker than the file says. */
export const MAX_ADAPTER_STRENGTH = 100

export class Adapters {
  readonly infos: readonly AdapterInfo[]
  readonly #ids: ReadonlyMap<string, number>

  private constructor(infos: readonly AdapterInfo[], ids: ReadonlyMap<string, number>) {
    this.infos = infos
    this.#ids = ids
  }

  /** @throws {ZgError} ERR_NO_INPUT, ERR_BAD_INPUT when one is no adapter for this model, or two have one name. */
  static async load(native: NativeModel, list: NonNullable<EngineOptions['adapters']>): Promise<Adapters> {
    const infos: AdapterInfo[] = []
    const ids = new Map<string, number>()
    for (const { path, name, strength = 1 } of list) {
      if (!existsSync(path)) throw new ZgError('ERR_NO_INPUT', `adapter file '${path}' does not exist`)
      const loaded = await native.loadAdapter(path).catch((err: unknown) => {
        throw new ZgError('ERR_BAD_INPUT', `adapter '${path}' cannot be used: ${messageOf(err)}`, { cause: err })
      })
      const own = name ?? (loaded.name === '' ? basename(path).replace(/\.gguf$/, '') : loaded.name)
      if (ids.has(own)) throw new ZgError('ERR_BAD_INPUT', `two adapters are called '${own}'`)
      ids.set(own, loaded.id)
      infos.push({ name: own, path, rank: loaded.rank, bytes: loaded.bytes, strength })
    }
    const on = infos.filter(i => i.strength !== 0)
    if (on.length > MAX_ADAPTERS) {
      throw new ZgError('ERR_BAD_INPUT', `${on.length} adapters are on at once, at most ${MAX_ADAPTERS}`)
    }
    return new Adapters(infos, ids)
  }

  /** What the native part wants; undefined for none. @throws {ZgError} ERR_BAD_INPUT for unknown names and strengths. */
  pairs(choices: readonly AdapterChoice[] | undefined): [id: number, strength: number][] | undefined {
    const wanted = choices ?? this.infos.filter(i => i.strength !== 0)
    if (wanted.length === 0) return undefined
    if (wanted.length > MAX_ADAPTERS) {
      throw new ZgError('ERR_BAD_INPUT', `${wanted.length} adapters in one request, at most ${MAX_ADAPTERS}`)
    }
    return wanted.map(({ name, strength }) => {
      const id = this.#ids.get(name)
      if (id === undefined) throw new ZgError('ERR_BAD_INPUT', `there is no adapter '${name.slice(0, 100)}' here`)
      if (!(Math.abs(strength) <= MAX_ADAPTER_STRENGTH)) {
        throw new ZgError(
          'ERR_BAD_INPUT',
          `an adapter's strength is from -${MAX_ADAPTER_STRENGTH} to ${MAX_ADAPTER_STRENGTH}`
        )
      }
      return [id, strength]
    })
  }
}
