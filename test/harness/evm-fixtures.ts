/**
 * The public fixtures of EVM behaviour: where they lie, and how each kind is run on the native engine. Used by the quick set in
 * test/conformance and by scripts/test-evm.ts, which runs all of them.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import {
  decodeBlockAnswer,
  decodeStateAnswer,
  encodeBlockRequest,
  encodeStateRequest,
  type Json
} from '../../cmd/zg-chain/conformance/request.ts'
import type { Conformance } from '../../lib/native.ts'
import { packageRoot } from './tools.ts'

export interface Outcome {
  cases: number
  /** Name of the case and what was wrong. */
  failures: string[]
}

/** The unpacked fixtures, or undefined when the archive is not there. ZG_EVM_FIXTURES names another directory. */
export function fixturesDir(): string | undefined {
  if (process.env.ZG_EVM_FIXTURES) return process.env.ZG_EVM_FIXTURES
  const target = join(packageRoot, 'build', 'fixtures')
  const done = join(target, 'evm')
  if (existsSync(done)) return done
  const archive = ['..', '../..', '../../..']
    .map(up => join(packageRoot, up, 'shared', 'fixtures', 'evm', 'evm-fixtures.tar.xz'))
    .find(existsSync)
  if (archive === undefined) return undefined
  // Unpacked beside and renamed: another process may be doing the same.
  const temp = join(target, `evm.${process.pid}`)
  mkdirSync(temp, { recursive: true })
  execFileSync('tar', ['-xJf', archive, '-C', temp])
  try {
    renameSync(temp, done)
  } catch {
    rmSync(temp, { recursive: true, force: true })
  }
  return done
}

/** A part of them, such as `vectors/precompiles`. */
export function evmFixtures(part: string): string | undefined {
  const dir = fixturesDir()
  return dir === undefined ? undefined : join(dir, part)
}

/** All JSON files below a directory, sorted. */
export function jsonFiles(dir: string): string[] {
  return readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter(e => e.isFile() && e.name.endsWith('.json'))
    .map(e => join(e.parentPath, e.name))
    .sort()
}

export function readJson(file: string): Json {
  return JSON.parse(readFileSync(file, 'utf8')) as Json
}

/** Forks that a file of state tests has cases of. */
export function stateForks(file: string): string[] {
  return [...new Set(Object.values(readJson(file)).flatMap(test => Object.keys((test as StateTest).post)))]
}

/** Requests of a file of state tests, in the runner's form, and what must come out. */
export function* stateCases(
  file: string,
  forks?: readonly string[]
): Generator<{ name: string; request: Json; want: { hash: string; logs: string; refused: boolean } }> {
  for (const [name, value] of Object.entries(readJson(file))) {
    const test = value as StateTest
    for (const [fork, posts] of Object.entries(test.post)) {
      if (forks !== undefined && !forks.includes(fork)) continue
      for (const [i, post] of posts.entries()) {
        const t = test.transaction
        const { data, gasLimit, value, accessLists, ...rest } = t
        const list = accessLists?.[post.indexes.data]
        const tx: Record<string, unknown> = {
          ...rest,
          data: data[post.indexes.data],
          gasLimit: gasLimit[post.indexes.gas],
          value: value[post.indexes.value]
        }
        if (list !== undefined && list !== null) tx.accessList = list
        yield {
          name: `${name} ${fork} ${i}`,
          request: {
            fork,
            chainId: test.config?.chainid ?? '0x1',
            blobSchedule: test.config?.blobSchedule ?? null,
            env: test.env,
            pre: test.pre,
            tx
          },
          want: { hash: post.hash, logs: post.logs, refused: post.expectException !== undefined }
        }
      }
    }
  }
}

interface StateTest {
  env: Json
  pre: Json
  config?: { chainid?: string; blobSchedule?: Json }
  transaction: {
    data: string[]
    gasLimit: string[]
    value: string[]
    accessLists?: (unknown[] | null)[]
    [key: string]: unknown
  }
  post: Record<
    string,
    { hash: string; logs: string; indexes: { data: number; gas: number; value: number }; expectException?: string }[]
  >
}

export function runStateFile(run: Conformance, file: string, forks?: readonly string[]): Outcome {
  const out: Outcome = { cases: 0, failures: [] }
  for (const { name, request, want } of stateCases(file, forks)) {
    out.cases++
    try {
      const got = decodeStateAnswer(run('state', encodeStateRequest(request)))
      if (want.refused !== (got.error !== undefined))
        out.failures.push(`${name}: ${got.error === undefined ? 'was accepted' : `refused: ${got.error}`}`)
      else if (got.stateRoot !== want.hash)
        out.failures.push(`${name}: root ${got.stateRoot}, ${want.hash} wanted (gas ${got.gasUsed})`)
      else if (got.logsHash !== want.logs) out.failures.push(`${name}: logs ${got.logsHash}, ${want.logs} wanted`)
    } catch (err) {
      out.failures.push(`${name}: ${(err as Error).message}`)
    }
  }
  return out
}

interface BlockTest extends Json {
  network: string
  lastblockhash: string
  blocks: { rlp: string; expectException?: string }[]
}

export function runBlockFile(run: Conformance, file: string, networks?: readonly string[]): Outcome {
  const out: Outcome = { cases: 0, failures: [] }
  for (const [name, value] of Object.entries(readJson(file))) {
    const test = value as BlockTest
    if (networks !== undefined && !networks.includes(test.network)) continue
    out.cases++
    try {
      const got = decodeBlockAnswer(run('block', encodeBlockRequest(test)))
      const bad = got.errors.findIndex((e, i) => (e !== null) !== (test.blocks[i]!.expectException !== undefined))
      if (got.error !== undefined) out.failures.push(`${name}: ${got.error}`)
      else if (bad >= 0) {
        const wanted = test.blocks[bad]!.expectException
        out.failures.push(`${name}: block ${bad}: ${got.errors[bad] ?? `accepted, ${wanted} wanted`}`)
      } else if (got.lastblockhash !== test.lastblockhash) out.failures.push(`${name}: another head`)
    } catch (err) {
      out.failures.push(`${name}: ${(err as Error).message}`)
    }
  }
  return out
}
