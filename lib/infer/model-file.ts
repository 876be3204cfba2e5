/** Model files without running them: what one holds and would need, and the same model in another type. */
import { existsSync } from 'node:fs'
import { open, rename, rm, stat } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { dirname } from 'node:path'
import { messageOf, ZgError } from '../base/errors.ts'
import { DEFAULT_CONTEXT } from './engine.ts'
import { inferAddon } from './native.ts'

/** What native/napi/model_files_napi.cpp tells of a file. */
export interface FileDescription {
  version: number
  /** Of all parts. */
  fileBytes: number
  parameters: number
  tensors: number
  /** The file, or the parts of a model split over several, in order. */
  paths: string[]
  types: { type: string; tensors: number; bytes: number }[]
  name?: string
  architecture?: string
  /** `general.type`: `model`, `adapter`. */
  kind?: string
  license?: string
  tokenizer?: string
  preTokenizer?: string
  chatTemplate?: string
  /** Why the engine does not run it. */
  refused?: string
  shape?: ModelShape
  warnings?: string[]
}

export interface ModelShape {
  layers: number
  width: number
  feed: number
  heads: number
  kvHeads: number
  headSize: number
  vocabulary: number
  /** Positions it was trained for. */
  context: number
  experts: number
  expertsUsed: number
  /** 0: none. */
  window: number
  weightBytes: number
  embeddingBytes: number
  /** Keys and values of one position. */
  positionBytes: number
}

/** Bytes of memory that serving takes; buffers of a few MiB come on top. */
export interface MemoryNeed {
  weights: number
  /** Of the embedding, which stays in the file's pages and is read row by row. */
  mapped: number
  /** Keys and values of one sequence of so many positions. */
  cache: number
  positions: number
  total: number
}

/**
 * Reads a file's header, and checks whether the engine would run it.
 * @throws {ZgError} ERR_NO_INPUT, ERR_BAD_INPUT when it is no GGUF file or a part of a split model is missing or wrong.
 */
export async function describeModel(path: string): Promise<FileDescription> {
  if (!existsSync(path)) throw new ZgError('ERR_NO_INPUT', `model file '${path}' does not exist`)
  try {
    return await inferAddon().describe(path)
  } catch (err) {
    if (err instanceof ZgError) throw err
    throw new ZgError('ERR_BAD_INPUT', `'${path}' cannot be read as a model: ${messageOf(err)}`, { cause: err })
  }
}

/** @param context - positions of a sequence; default what the engine takes by itself. */
export function memoryNeed(shape: ModelShape, context?: number): MemoryNeed {
  const positions = Math.min(context ?? DEFAULT_CONTEXT, shape.context)
  const cache = Math.ceil(positions * shape.positionBytes)
  return {
    weights: shape.weightBytes,
    mapped: shape.embeddingBytes,
    cache,
    positions,
    total: shape.weightBytes + shape.embeddingBytes + cache
  }
}

/** Recipes that {@link quantizeModel} knows. @throws {ZgError} ERR_NATIVE. */
export function recipeNames(): string[] {
  return inferAddon().recipes()
}

export interface QuantizeOptions {
  threads?: number | undefined
  /** Replace an existing file. */
  force?: boolean
  signal?: AbortSignal
  onProgress?: (doneBytes: number, totalBytes: number) => void
}

/** How often progress is looked at. */
const PROGRESS_MS = 200

/**
 * Writes a model of F32, F16 or BF16 matrices with its matrices in other types. The file appears whole under its name or not at all; the
 * same model and recipe give the same bytes on every machine. A split model becomes one file.
 * @param recipe - a name of {@link recipeNames}, in any case.
 * @throws {ZgError} ERR_NO_INPUT, ERR_USAGE (no such recipe), ERR_EXISTS, ERR_BAD_INPUT (quantized already, a value the type cannot hold),
 *   ERR_STOPPED, ERR_IO.
 */
export async function quantizeModel(from: string, to: string, recipe: string, o: QuantizeOptions = {}): Promise<void> {
  const known = recipeNames()
  if (!known.some(name => name.toLowerCase() === recipe.toLowerCase())) {
    throw new ZgError('ERR_USAGE', `'${recipe.slice(0, 40)}' is no type to quantize to`, {
      hint: `known are ${known.join(', ')}`
    })
  }
  if (!existsSync(from)) throw new ZgError('ERR_NO_INPUT', `model file '${from}' does not exist`)
  const there = await stat(to).catch(() => undefined)
  if (there !== undefined && (o.force !== true || !there.isFile())) {
    throw new ZgError('ERR_EXISTS', `'${to}' exists`, { hint: "give '--force' to replace it" })
  }
  o.signal?.throwIfAborted()
  const temp = `${to}.${process.pid}.part`
  const threads = Math.min(64, o.threads ?? availableParallelism())
  const job = inferAddon().quantizeFile(from, temp, recipe, threads)
  const report = setInterval(() => o.onProgress?.(...job.progress()), PROGRESS_MS)
  o.signal?.addEventListener('abort', job.cancel, { once: true })
  try {
    await job.done
    o.signal?.throwIfAborted()
    o.onProgress?.(...job.progress())
    await rename(temp, to)
    const dir = await open(dirname(to) || '.', 'r')
    await dir.sync().finally(() => dir.close())
  } catch (err) {
    await rm(temp, { force: true })
    o.signal?.throwIfAborted()
    const why = messageOf(err)
    if (why.startsWith('output ')) throw new ZgError('ERR_IO', `'${to}' cannot be written: ${why}`, { cause: err })
    throw new ZgError('ERR_BAD_INPUT', `'${from}' cannot be quantized: ${why}`, { cause: err })
  } finally {
    clearInterval(report)
    o.signal?.removeEventListener('abort', job.cancel)
  }
}
