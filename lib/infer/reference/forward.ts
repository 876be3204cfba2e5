/**
 * The forward pass of the deterministic mode zg-k1 (inference.md section 12), one token at a time and one operation after another:
 * what every path of the engine must equal bit for bit. Far slower than they are, so for checks alone.
 */
import { ZgError } from '../../base/errors.ts'
import { dequantize, floatProduct, isFloat, quantizeActivations, quantizedProduct } from './blocks.ts'
import { add, div, exp, fma, gelu, joinLanes, larger, mul, roundHalf, silu, sqrt, tanh } from './float.ts'
import type { Layer, Matrix, Model } from './model.ts'
import { type Rope, RopeTable } from './rope.ts'

/** Keys that one step of attention takes together, aligned to position. */
const KEY_BLOCK = 64

/** Keys and values of one position of a layer, as halves give them back. */
interface Slot {
  readonly k: Float32Array
  readonly v: Float32Array
}

export class ReferenceSequence {
  readonly #model: Model
  readonly #tables = new Map<Rope, RopeTable>()
  readonly #cache: Slot[][]
  #position = 0

  constructor(model: Model) {
    this.#model = model
    this.#cache = model.layers.map(() => [])
    for (const { rope } of model.layers) {
      if (!this.#tables.has(rope)) this.#tables.set(rope, new RopeTable(rope))
    }
  }

  get length(): number {
    return this.#position
  }

  /**
   * Takes one token more and gives its final-norm state.
   * @throws {ZgError} ERR_CORRUPT when values stop being finite, ERR_BAD_INPUT for an id outside the vocabulary.
   */
  push(token: number): Float32Array {
    const m = this.#model
    if (!Number.isInteger(token) || token < 0 || token >= m.vocabulary) {
      throw new ZgError('ERR_BAD_INPUT', `token ${token} is not one of ${m.vocabulary}`)
    }
    const position = this.#position++
    const { embedding } = m
    let x = dequantize(embedding.shape, rowOf(embedding, token))
    if (m.architecture.gemma) x = x.map(v => mul(v, m.embeddingScale))
    for (const [l, layer] of m.layers.entries()) {
      let y = this.#attention(layer, this.#cache[l]!, position, norm(x, layer.attentionNorm, m.epsilon))
      if (layer.postAttentionNorm !== undefined) y = norm(y, layer.postAttentionNorm, m.epsilon)
      x = x.map((v, i) => add(v, y[i]!))
      const h = norm(x, layer.feedNorm, m.epsilon)
      y = layer.router === undefined ? this.#dense(layer, 0, h) : this.#mixture(layer, layer.router, h)
      if (layer.postFeedNorm !== undefined) y = norm(y, layer.postFeedNorm, m.epsilon)
      x = x.map((v, i) => add(v, y[i]!))
      finite(x, l + 1)
    }
    const out = norm(x, m.outputNorm, m.epsilon)
    finite(out, m.layers.length + 1)
    return out
  }

  /** Logits of a state that {@link push} gave. */
  logits(state: Float32Array): Float32Array {
    const m = this.#model
    let out = multiply(m.output, 0, m.vocabulary, state)
    if (m.logitCap !== 0) out = out.map(v => mul(m.logitCap, tanh(div(v, m.logitCap))))
    finite(out, m.layers.length + 1)
    return out
  }

  #attention(layer: Layer, cache: Slot[], position: number, h: Float32Array): Float32Array {
    const m = this.#model
    const q = multiply(layer.q, 0, layer.q.rows, h, layer.bias.q)
    const k = multiply(layer.k, 0, layer.k.rows, h, layer.bias.k)
    const v = multiply(layer.v, 0, layer.v.rows, h, layer.bias.v)
    const table = this.#tables.get(layer.rope)!.row(position)
    for (const [heads, weight] of [
      [q, layer.qNorm],
      [k, layer.kNorm]
    ] as const) {
      for (let at = 0; at < heads.length; at += m.headSize) {
        const head = heads.subarray(at, at + m.headSize)
        if (weight !== undefined) head.set(norm(head, weight, m.epsilon))
        rotate(head, table, m.architecture.halfSplit)
      }
    }
    cache.push({ k: k.map(roundHalf), v: v.map(roundHalf) })
    const mixed = new Float32Array(m.heads * m.headSize)
    const shared = m.heads / m.kvHeads
    for (let head = 0; head < m.heads; head++) {
      const at = head * m.headSize
      mixed.set(attend(m, layer.window, cache, q.subarray(at, at + m.headSize), Math.floor(head / shared)), at)
    }
    return multiply(layer.o, 0, m.width, mixed, layer.bias.o)
  }

  /** Down · (act(gate · h) ∘ (up · h)) of one expert, 0 where there is one alone. */
  #dense(layer: Layer, expert: number, h: Float32Array): Float32Array {
    const { feed, width, architecture } = this.#model
    const act = architecture.gemma ? gelu : silu
    const gate = multiply(layer.gate, expert * feed, feed, h)
    const up = multiply(layer.up, expert * feed, feed, h)
    return multiply(
      layer.down,
      expert * width,
      width,
      gate.map((g, i) => mul(act(g), up[i]!))
    )
  }

  /** Experts of the largest router outputs, ties by lower index, added by ascending index. */
  #mixture(layer: Layer, router: Matrix, h: Float32Array): Float32Array {
    const m = this.#model
    const r = multiply(router, 0, m.experts, h)
    let most = Number.NEGATIVE_INFINITY
    for (const v of r) most = larger(most, v)
    let total = 0
    const p = r.map(v => {
      const e = exp(add(v, -most))
      total = add(total, e)
      return e
    })
    const chosen = [...r.keys()]
      .sort((a, b) => (r[b]! > r[a]! ? 1 : r[b]! < r[a]! ? -1 : a - b))
      .slice(0, m.expertsUsed)
      .sort((a, b) => a - b)
    let part = 0
    for (let e = 0; e < m.experts; e++) {
      p[e] = div(p[e]!, total)
      if (chosen.includes(e)) part = add(part, p[e]!)
    }
    const y = new Float32Array(m.width)
    for (const e of chosen) {
      const out = this.#dense(layer, e, h)
      const weight = div(p[e]!, part)
      for (let i = 0; i < y.length; i++) y[i] = fma(weight, out[i]!, y[i]!)
    }
    return y
  }
}

const rowOf = (w: Matrix, row: number): Uint8Array => w.bytes.subarray(row * w.rowBytes, (row + 1) * w.rowBytes)

function multiply(w: Matrix, first: number, rows: number, x: Float32Array, bias?: Float32Array): Float32Array {
  const out = new Float32Array(rows)
  const quants = isFloat(w.shape) ? undefined : quantizeActivations(x)
  for (let r = 0; r < rows; r++) {
    const row = rowOf(w, first + r)
    const v =
      quants === undefined
        ? floatProduct(w.shape, row, w.columns, x)
        : quantizedProduct(w.shape, row, w.columns, quants)
    out[r] = bias === undefined ? v : add(v, bias[r]!)
  }
  return out
}

function norm(x: Float32Array, weight: Float32Array, epsilon: number): Float32Array {
  const lanes = new Float32Array(64)
  for (let i = 0; i < x.length; i++) lanes[i % 64] = fma(x[i]!, x[i]!, lanes[i % 64]!)
  const r = div(1, sqrt(add(div(joinLanes(lanes), x.length), epsilon)))
  return x.map((v, i) => mul(mul(v, r), weight[i]!))
}

function rotate(head: Float32Array, table: Float32Array, halfSplit: boolean): void {
  const pairs = table.length / 2
  for (let i = 0; i < pairs; i++) {
    const first = halfSplit ? i : 2 * i
    const second = halfSplit ? i + pairs : 2 * i + 1
    const a = head[first]!
    const b = head[second]!
    const cosine = table[2 * i]!
    const sine = table[2 * i + 1]!
    head[first] = fma(a, cosine, -mul(b, sine))
    head[second] = fma(a, sine, mul(b, cosine))
  }
}

/** What the last query of a head sees, by blocks of keys that are joined in order. */
function attend(m: Model, window: number, cache: readonly Slot[], q: Float32Array, kvHead: number): Float32Array {
  const last = cache.length - 1
  const first = window !== 0 && last + 1 > window ? last + 1 - window : 0
  const at = kvHead * m.headSize
  const out = new Float32Array(m.headSize)
  let most = 0
  let total = 0
  let any = false
  for (let block = Math.floor(first / KEY_BLOCK); block * KEY_BLOCK <= last; block++) {
    const begin = Math.max(first, block * KEY_BLOCK)
    const end = Math.min(last, (block + 1) * KEY_BLOCK - 1)
    const p = new Float32Array(KEY_BLOCK)
    let blockMost = Number.NEGATIVE_INFINITY
    for (let t = begin; t <= end; t++) {
      const { k } = cache[t]!
      let s = 0
      for (let d = 0; d < m.headSize; d++) s = fma(q[d]!, k[at + d]!, s)
      s = mul(s, m.scoreScale)
      if (m.scoreCap !== 0) s = mul(m.scoreCap, tanh(div(s, m.scoreCap)))
      p[t % KEY_BLOCK] = s
      blockMost = larger(blockMost, s)
    }
    const lanes = new Float32Array(KEY_BLOCK)
    for (let t = begin; t <= end; t++) {
      p[t % KEY_BLOCK] = exp(add(p[t % KEY_BLOCK]!, -blockMost))
      lanes[t % KEY_BLOCK] = p[t % KEY_BLOCK]!
    }
    const blockTotal = joinLanes(lanes)
    let alpha = 0
    let beta = 0
    if (any) {
      const joined = larger(most, blockMost)
      alpha = exp(add(most, -joined))
      beta = exp(add(blockMost, -joined))
      total = fma(blockTotal, beta, mul(total, alpha))
      most = joined
    } else {
      total = blockTotal
      most = blockMost
    }
    for (let d = 0; d < m.headSize; d++) {
      let o = 0
      for (let t = begin; t <= end; t++) o = fma(p[t % KEY_BLOCK]!, cache[t]!.v[at + d]!, o)
      out[d] = any ? fma(o, beta, mul(out[d]!, alpha)) : o
    }
    any = true
  }
  return out.map(v => div(v, total))
}

function finite(values: Float32Array, layer: number): void {
  if (values.every(Number.isFinite)) return
  throw new ZgError('ERR_CORRUPT', `the model's values stop being finite in layer ${layer}`)
}
