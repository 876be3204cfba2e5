/** Which models there are (`GET /v1/models`, compute.md 2.5, inference.md 11), and the one that a request means. */
import { checksumAddress } from '../../../lib/crypto/address.ts'
import type { Service } from '../serve/service.ts'
import { BusyError, notFound } from './errors.ts'
import type { Held } from './model-set.ts'

const PARAMETERS = [
  'max_tokens',
  'temperature',
  'top_p',
  'top_k',
  'min_p',
  'typical_p',
  'stop',
  'seed',
  'logprobs',
  'top_logprobs',
  'logit_bias',
  'frequency_penalty',
  'presence_penalty',
  'repetition_penalty',
  'min_tokens',
  'n',
  'response_format',
  'structured_outputs',
  'tools',
  'tool_choice',
  'parallel_tool_calls'
]

/**
 * The engine that a request means: the first model where it names none, another one opened on demand.
 * @throws {ApiError} 404 `model_not_found`; {BusyError} 503 while it loads or finds no room.
 */
export async function hold(s: Service, model: unknown, signal: AbortSignal): Promise<Held> {
  if (typeof model === 'string' && s.others?.has(model) === true) return s.others.take(model, signal)
  if (s.engine === undefined) throw new BusyError(503, 'starting', 'the model is loading', 1)
  if (typeof model === 'string' && !s.modelNames.includes(model)) {
    const served = [...s.modelNames.slice(0, 1), ...(s.others?.names() ?? [])].map(name => `'${name}'`)
    const are = served.length === 1 ? 'is' : 'are'
    throw notFound(`model '${model.slice(0, 100)}' is not served here, ${served.join(', ')} ${are}`, 'model_not_found')
  }
  return {
    engine: s.engine,
    names: s.modelNames,
    fingerprint: s.fingerprint,
    created: s.modelCreated,
    release: () => {}
  }
}

/** All models, in the order in which they were named; undefined while the first one loads. */
export function modelList(s: Service): Record<string, unknown>[] | undefined {
  const first = modelEntry(s)
  if (first === undefined && s.upstreams === undefined) return undefined
  const others = (s.others?.names() ?? []).map(id => ({ id, object: 'model', created: s.modelCreated, owned_by: 'zg' }))
  const own = [...(first === undefined ? [] : [first, ...adapterEntries(s)]), ...others]
  const names = new Set(own.map(m => m.id))
  return [...own, ...(s.upstreams?.models() ?? []).filter(m => !names.has(m.id))]
}

/** The served model as clients list it; undefined while it loads. */
export function modelEntry(s: Service): Record<string, unknown> | undefined {
  const { engine, broker } = s
  if (engine === undefined) return undefined
  const { info } = engine
  const entry = {
    id: s.modelNames[0]!,
    object: 'model',
    created: s.modelCreated,
    owned_by: broker === undefined ? 'zg' : checksumAddress(broker.provider),
    context_length: info.contextLength,
    max_completion_tokens: info.contextLength - 1,
    supported_parameters: PARAMETERS,
    meta: { architecture: info.architecture, parameters: info.parameters, size: info.fileBytes, cpu: info.cpu }
  }
  if (broker === undefined) return entry
  const service = broker.service()
  const prices = broker.prices()
  return {
    ...entry,
    type: 'chatbot',
    name: s.modelNames[0]!,
    architecture: { modality: 'text->text', input_modalities: ['text'], output_modalities: ['text'] },
    verifiability: service?.verifiability ?? VERIFIABILITY,
    tee_attested: false,
    tee_type: 'none',
    provider_type: 'decentralized',
    pricing: { prompt: prices.inputPrice.toString(), completion: prices.outputPrice.toString() }
  }
}

/** Adapters as models of their own, which a request may name; `parent` is the model that they change. */
export function adapterEntries(s: Service): Record<string, unknown>[] {
  const base = modelEntry(s)
  if (base === undefined) return []
  return (s.engine!.adapters ?? []).map(a => ({
    ...base,
    id: a.name,
    parent: base.id,
    ...('name' in base ? { name: a.name } : {})
  }))
}

/** How our answers can be checked: signed, and re-executed bit by bit. */
export const VERIFIABILITY = 'OpML'
