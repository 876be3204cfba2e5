/**
 * Which LoRA adapters a request asks for, in the two ways that clients know: by the model's name, as vLLM serves them, or by the list
 * `lora: [{"id": 0, "scale": 0.5}]`, as llama-server takes it. Pure.
 */
import { MAX_ADAPTER_STRENGTH, MAX_ADAPTERS } from './adapters.ts'
import { ApiError } from './openai.ts'
import type { AdapterChoice, AdapterInfo } from './types.ts'

/**
 * @param adapters - the served ones; ids in a request are places in this list.
 * @returns the choice; undefined: those that are on by themselves.
 * @throws {ApiError} 400 naming `lora`.
 */
export function parseAdapters(
  body: Record<string, unknown>,
  adapters: readonly AdapterInfo[] = []
): AdapterChoice[] | undefined {
  const wrong = (why: string): ApiError => new ApiError(400, `'lora' ${why}`, { param: 'lora' })
  const named = adapters.find(a => a.name === body.model)
  const { lora } = body
  if (lora === undefined || lora === null) {
    return named === undefined ? undefined : [{ name: named.name, strength: named.strength || 1 }]
  }
  if (named !== undefined) throw wrong('is for the base model, and the request names an adapter as its model')
  if (!Array.isArray(lora)) throw wrong('is not a list of {"id", "scale"}')
  if (lora.length > MAX_ADAPTERS) throw wrong(`has more than ${MAX_ADAPTERS} entries`)
  const choices = lora.map((item: unknown): AdapterChoice => {
    if (typeof item !== 'object' || item === null) throw wrong('has an entry that is no {"id", "scale"}')
    const { id, scale } = item as { id?: unknown; scale?: unknown }
    const adapter = typeof id === 'number' ? adapters[id] : undefined
    if (adapter === undefined)
      throw wrong(`names id ${(JSON.stringify(id) ?? 'nothing').slice(0, 40)}, ids are ${idsOf(adapters)}`)
    if (typeof scale !== 'number' || !(Math.abs(scale) <= MAX_ADAPTER_STRENGTH)) {
      throw wrong(`has a scale that is not from -${MAX_ADAPTER_STRENGTH} to ${MAX_ADAPTER_STRENGTH}`)
    }
    return { name: adapter.name, strength: scale }
  })
  if (new Set(choices.map(c => c.name)).size < choices.length) throw wrong('names an id twice')
  // One order, whatever the request's: the sums are rounded.
  return choices.sort((a, b) => placeOf(adapters, a) - placeOf(adapters, b)).filter(c => c.strength !== 0)
}

function placeOf(adapters: readonly AdapterInfo[], choice: AdapterChoice): number {
  return adapters.findIndex(a => a.name === choice.name)
}

function idsOf(adapters: readonly AdapterInfo[]): string {
  return adapters.length === 0 ? 'none: the server has no adapters' : `0 to ${adapters.length - 1}`
}

/** `GET /lora-adapters`, as llama-server lists them. */
export function adapterList(adapters: readonly AdapterInfo[] = []): Record<string, unknown>[] {
  return adapters.map(({ name, path, strength }, id) => ({ id, name, path, scale: strength }))
}
