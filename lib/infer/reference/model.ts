/** What the reference engine knows of a model: shape and rules of its architecture (inference.md section 3), tensors by their names. */
import { ZgError } from '../../base/errors.ts'
import { dequantize, type TypeShape } from './blocks.ts'
import { div, sqrt } from './float.ts'
import { GgufFile } from './gguf.ts'
import type { Rope } from './rope.ts'

export interface Matrix {
  readonly shape: TypeShape
  readonly bytes: Uint8Array
  readonly columns: number
  /** Of all experts together. */
  readonly rows: number
  readonly rowBytes: number
}

export interface Architecture {
  /** Pairs of RoPE are elements i and i + n/2 instead of 2i and 2i + 1. */
  readonly halfSplit: boolean
  /** RMS norm of each head of q and k before RoPE. */
  readonly headNorms: boolean
  /** GELU instead of SiLU, and embeddings times √width. */
  readonly gemma: boolean
  /** Norms of the branches before they are added. */
  readonly postNorms: boolean
  /** Layers i with i mod period ≠ full have the window. */
  readonly windows?: { readonly period: number; readonly full: number }
  /** Layers with a window turn by base 10,000, unscaled. */
  readonly localBase: boolean
}

const PLAIN: Architecture = {
  halfSplit: false,
  headNorms: false,
  gemma: false,
  postNorms: false,
  localBase: false
}
const ARCHITECTURES: Record<string, Architecture> = {
  llama: PLAIN,
  qwen2: { ...PLAIN, halfSplit: true },
  qwen3: { ...PLAIN, halfSplit: true, headNorms: true },
  qwen3moe: { ...PLAIN, halfSplit: true, headNorms: true },
  gemma: { ...PLAIN, halfSplit: true, gemma: true },
  gemma2: { ...PLAIN, halfSplit: true, gemma: true, postNorms: true, windows: { period: 2, full: 1 } },
  gemma3: {
    ...PLAIN,
    halfSplit: true,
    headNorms: true,
    gemma: true,
    postNorms: true,
    windows: { period: 6, full: 5 },
    localBase: true
  }
}

export interface Layer {
  readonly attentionNorm: Float32Array
  readonly feedNorm: Float32Array
  readonly qNorm: Float32Array | undefined
  readonly kNorm: Float32Array | undefined
  readonly postAttentionNorm: Float32Array | undefined
  readonly postFeedNorm: Float32Array | undefined
  readonly bias: Record<'q' | 'k' | 'v' | 'o', Float32Array | undefined>
  readonly q: Matrix
  readonly k: Matrix
  readonly v: Matrix
  readonly o: Matrix
  /** Of a mixture: expert after expert. */
  readonly gate: Matrix
  readonly up: Matrix
  readonly down: Matrix
  readonly router: Matrix | undefined
  /** Tokens that a query sees, itself included; 0: all. */
  readonly window: number
  readonly rope: Rope
}

export interface Model {
  readonly architecture: Architecture
  readonly context: number
  readonly width: number
  readonly feed: number
  readonly heads: number
  readonly kvHeads: number
  readonly headSize: number
  readonly vocabulary: number
  readonly experts: number
  readonly expertsUsed: number
  readonly epsilon: number
  readonly scoreScale: number
  /** 0: none. */
  readonly scoreCap: number
  readonly logitCap: number
  readonly embeddingScale: number
  readonly layers: readonly Layer[]
  readonly outputNorm: Float32Array
  readonly embedding: Matrix
  readonly output: Matrix
}

/** @throws {ZgError} ERR_NO_INPUT, ERR_BAD_INPUT with what is missing or of the wrong shape. */
export function readModel(path: string): Model {
  const file = GgufFile.open(path)
  try {
    return modelOf(file)
  } finally {
    file.close()
  }
}

function modelOf(file: GgufFile): Model {
  const name = file.metadata.get('general.architecture')
  const architecture = typeof name === 'string' ? ARCHITECTURES[name] : undefined
  if (architecture === undefined) {
    const known = Object.keys(ARCHITECTURES).join(', ')
    throw new ZgError('ERR_BAD_INPUT', `architecture '${String(name)}' is not known; known are ${known}`)
  }
  if (file.tensors.size === 0) throw new ZgError('ERR_BAD_INPUT', 'the file holds no tensors (a vocabulary only)')

  const number = (suffix: string, fallback?: number): number => {
    const found = file.metadata.get(`${name}.${suffix}`)
    // Layers of different shape are refused by the sizes of their tensors.
    const value = Array.isArray(found) ? found[0] : found
    if (value === undefined && fallback !== undefined) return fallback
    if (typeof value === 'bigint') return Number(value)
    if (typeof value === 'number') return value
    throw new ZgError(
      'ERR_BAD_INPUT',
      `metadata '${name}.${suffix}' is ${value === undefined ? 'missing' : 'no number'}`
    )
  }
  const tensor = (title: string, dims: readonly number[]): { shape: TypeShape; bytes: Uint8Array } | undefined => {
    const t = file.tensors.get(title)
    if (t === undefined) return undefined
    const full = [...t.dims, 1, 1].slice(0, 3)
    if (full.some((n, i) => n !== (dims[i] ?? 1))) {
      throw new ZgError('ERR_BAD_INPUT', `tensor '${title}' is ${t.dims.join(' x ')}, ${dims.join(' x ')} wanted`)
    }
    return { shape: t.shape, bytes: file.read(t) }
  }
  const required = <T>(value: T | undefined, title: string): T => {
    if (value === undefined) throw new ZgError('ERR_BAD_INPUT', `tensor '${title}' is missing`)
    return value
  }
  const maybeMatrix = (title: string, columns: number, rows: number, depth = 1): Matrix | undefined => {
    const t = tensor(title, [columns, rows, depth])
    if (t === undefined) return undefined
    return { ...t, columns, rows: rows * depth, rowBytes: (columns / t.shape.values) * t.shape.bytes }
  }
  const matrix = (title: string, columns: number, rows: number, depth = 1): Matrix =>
    required(maybeMatrix(title, columns, rows, depth), title)
  const maybeVector = (title: string, count: number): Float32Array | undefined => {
    const t = tensor(title, [count])
    return t === undefined ? undefined : dequantize(t.shape, t.bytes)
  }
  const vector = (title: string, count: number): Float32Array => required(maybeVector(title, count), title)

  const layers = number('block_count')
  const width = number('embedding_length')
  const heads = number('attention.head_count')
  const kvHeads = number('attention.head_count_kv', heads)
  const headSize = number('attention.key_length', Math.floor(width / heads))
  const context = number('context_length')
  const experts = number('expert_count', 0)
  const plainFeed = number('feed_forward_length')
  const feed = experts > 0 ? number('expert_feed_forward_length', plainFeed) : plainFeed
  const window = number('attention.sliding_window', 0)
  const vocabulary = required(file.tensors.get('token_embd.weight'), 'token_embd.weight').dims[1] ?? 0
  const rope = ropeOf(
    file,
    name as string,
    number,
    number('rope.dimension_count', headSize),
    context,
    pairs => maybeVector('rope_freqs.weight', pairs) ?? new Float32Array(0)
  )
  const local: Rope = { dims: rope.dims, base: 10_000, divisors: new Float32Array(0), linear: 1 }
  const wide = (name === 'gemma2' && layers === 46) || (name === 'gemma3' && layers === 62)

  const layer = (i: number): Layer => {
    const at = `blk.${i}.`
    const windowed =
      architecture.windows !== undefined &&
      window !== 0 &&
      i % architecture.windows.period !== architecture.windows.full
    const everywhere = architecture.windows === undefined && window < context ? window : 0
    const q = heads * headSize
    const kv = kvHeads * headSize
    const moe = experts > 0
    return {
      attentionNorm: vector(`${at}attn_norm.weight`, width),
      feedNorm: vector(`${at}ffn_norm.weight`, width),
      qNorm: architecture.headNorms ? vector(`${at}attn_q_norm.weight`, headSize) : undefined,
      kNorm: architecture.headNorms ? vector(`${at}attn_k_norm.weight`, headSize) : undefined,
      postAttentionNorm: architecture.postNorms ? vector(`${at}post_attention_norm.weight`, width) : undefined,
      postFeedNorm: architecture.postNorms ? vector(`${at}post_ffw_norm.weight`, width) : undefined,
      bias: {
        q: maybeVector(`${at}attn_q.bias`, q),
        k: maybeVector(`${at}attn_k.bias`, kv),
        v: maybeVector(`${at}attn_v.bias`, kv),
        o: maybeVector(`${at}attn_output.bias`, width)
      },
      q: matrix(`${at}attn_q.weight`, width, q),
      k: matrix(`${at}attn_k.weight`, width, kv),
      v: matrix(`${at}attn_v.weight`, width, kv),
      o: matrix(`${at}attn_output.weight`, q, width),
      gate: moe
        ? matrix(`${at}ffn_gate_exps.weight`, width, feed, experts)
        : matrix(`${at}ffn_gate.weight`, width, feed),
      up: moe ? matrix(`${at}ffn_up_exps.weight`, width, feed, experts) : matrix(`${at}ffn_up.weight`, width, feed),
      down: moe
        ? matrix(`${at}ffn_down_exps.weight`, feed, width, experts)
        : matrix(`${at}ffn_down.weight`, feed, width),
      router: moe ? matrix(`${at}ffn_gate_inp.weight`, width, experts) : undefined,
      window: windowed ? window : everywhere,
      rope: windowed && architecture.localBase ? local : rope
    }
  }

  const embedding = matrix('token_embd.weight', width, vocabulary)
  return {
    architecture,
    context,
    width,
    feed,
    heads,
    kvHeads,
    headSize,
    vocabulary,
    experts,
    expertsUsed: number('expert_used_count', 0),
    epsilon: number('attention.layer_norm_rms_epsilon'),
    scoreScale: wide ? sqrt(div(heads, width)) : div(1, sqrt(headSize)),
    scoreCap: number('attn_logit_softcapping', 0),
    logitCap: number('final_logit_softcapping', 0),
    embeddingScale: architecture.gemma ? sqrt(width) : 1,
    layers: Array.from({ length: layers }, (_, i) => layer(i)),
    outputNorm: vector('output_norm.weight', width),
    embedding,
    output: maybeMatrix('output.weight', width, vocabulary) ?? embedding
  }
}

function ropeOf(
  file: GgufFile,
  name: string,
  number: (suffix: string, fallback?: number) => number,
  dims: number,
  context: number,
  divisors: (pairs: number) => Float32Array
): Rope {
  const type = file.metadata.get(`${name}.rope.scaling.type`) ?? 'none'
  const factor = number('rope.scaling.factor', 1)
  const old = number('rope.scale_linear', 1)
  const plain = { dims, base: number('rope.freq_base', 10_000), divisors: divisors(dims / 2), linear: 1 }
  if (type === 'none') return { ...plain, linear: old }
  if (type === 'linear') return { ...plain, linear: factor !== 1 ? factor : old }
  if (type !== 'yarn') {
    throw new ZgError('ERR_BAD_INPUT', `metadata '${name}.rope.scaling.type': '${String(type)}' is not supported`)
  }
  return {
    ...plain,
    yarn: {
      factor,
      originalContext: number('rope.scaling.original_context_length', context),
      betaFast: number('rope.scaling.yarn_beta_fast', 32),
      betaSlow: number('rope.scaling.yarn_beta_slow', 1),
      attention: number('rope.scaling.attn_factor', 0)
    }
  }
}
