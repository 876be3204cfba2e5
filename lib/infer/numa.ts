/**
 * Memory nodes (NUMA): which cores are near which memory, and where an engine's threads and weights go. The system tells it in files
 * (Documentation/ABI/stable/sysfs-devices-node); the native part then asks for memory (native/infer/placement.h).
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ZgError } from '../base/errors.ts'

/** `interleave`: threads in turns over the nodes, memory spread over all of them; `local`: all on one node. */
export type Numa = 'interleave' | 'local'

export interface Placement {
  /** Cores for the threads, in this order; undefined: any. */
  cpus: number[] | undefined
  /** Nodes for the memory; empty: wherever the system likes. */
  nodes: number[]
  /** What the operator should know. */
  note: string | undefined
}

interface Node {
  id: number
  cpus: number[]
}

/**
 * @param cpus - cores that threads must keep to; undefined: those the process may use.
 * @param root - where the system's files are.
 * @throws {ZgError} ERR_UNAVAILABLE where the system tells of no nodes, ERR_USAGE when `local` is asked for with cores of several.
 */
export function placementOf(numa: Numa, cpus: readonly number[] | undefined, root = '/'): Placement {
  const nodes = nodesOf(root)
  const usable = new Set(cpus ?? allowed(root))
  const own = nodes.map(n => ({ id: n.id, cpus: n.cpus.filter(c => usable.has(c)) })).filter(n => n.cpus.length > 0)
  if (own.length === 0) throw new ZgError('ERR_UNAVAILABLE', 'no memory node has a core that this process may use')
  if (nodes.length === 1) {
    const note = `--numa ${numa} changes nothing: this machine has one memory node`
    return { cpus: cpus === undefined ? undefined : [...cpus], nodes: [], note }
  }
  if (numa === 'interleave') return { cpus: inTurns(own), nodes: own.map(n => n.id), note: undefined }
  if (cpus !== undefined && own.length > 1) {
    const named = own.map(n => n.id).join(', ')
    throw new ZgError('ERR_USAGE', `'--cpus' names cores of the memory nodes ${named}, '--numa local' keeps to one`)
  }
  // The one with most cores; of equal ones the first.
  const chosen = own.reduce((best, n) => (n.cpus.length > best.cpus.length ? n : best))
  return { cpus: chosen.cpus, nodes: [chosen.id], note: undefined }
}

/** Nodes that have memory and cores, in order. */
function nodesOf(root: string): Node[] {
  const dir = join(root, 'sys', 'devices', 'system', 'node')
  try {
    const withMemory = new Set(numbers(readFileSync(join(dir, 'has_memory'), 'utf8')))
    const ids = readdirSync(dir).flatMap(name => (/^node\d{1,4}$/.test(name) ? [Number(name.slice(4))] : []))
    const all = ids.map(id => ({ id, cpus: numbers(readFileSync(join(dir, `node${id}`, 'cpulist'), 'utf8')) }))
    const nodes = all.filter(n => n.cpus.length > 0 && withMemory.has(n.id)).sort((a, b) => a.id - b.id)
    if (nodes.length > 0) return nodes
  } catch (err) {
    throw new ZgError('ERR_UNAVAILABLE', "'--numa' needs a system that tells of its memory nodes", {
      cause: err,
      hint: 'leave it out: this kernel has none'
    })
  }
  throw new ZgError('ERR_UNAVAILABLE', "'--numa' needs a memory node with cores, and the system names none")
}

/** Cores that the process may use. */
function allowed(root: string): number[] {
  const status = readFileSync(join(root, 'proc', 'self', 'status'), 'utf8')
  return numbers(/^Cpus_allowed_list:\s*(.*)$/m.exec(status)?.[1] ?? '')
}

/** The kernel's lists: `0-3,8`. */
function numbers(list: string): number[] {
  const out: number[] = []
  for (const part of list.trim().split(',')) {
    const [, first, last = first] = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part) ?? []
    if (first !== undefined) for (let n = Number(first); n <= Number(last); n++) out.push(n)
  }
  return out
}

/** The first core of each node, then the second of each, and so on. */
function inTurns(nodes: readonly Node[]): number[] {
  const most = Math.max(...nodes.map(n => n.cpus.length))
  return Array.from({ length: most }, (_, i) => nodes.flatMap(n => n.cpus.slice(i, i + 1))).flat()
}
