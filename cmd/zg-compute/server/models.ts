/** `GET /v1/models` (compute.md 2.5, inference.md 11). */
import { checksumAddress } from '../../../lib/crypto/address.ts'
import type { Service } from '../serve/service.ts'

const PARAMETERS = [
  'max_tokens',
  'temperature',
  'top_p',
  'top_k',
  'min_p',
  'stop',
  'seed',
  'logprobs',
  'top_logprobs',
  'logit_bias',
  'frequency_penalty',
  'presence_penalty',
  'repetition_penalty',
  'tools'
]

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
