// Compiles the trainer: one executable without Node, for the plain baseline, wider code chosen when it runs.

import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
/** The engine's reader, so that model files are read by the same code as in the product. */
const ENGINE = [
  'convert.cpp',
  'gguf.cpp',
  'gguf_parts.cpp',
  'mapping.cpp',
  'pool.cpp',
  'quantize.cpp',
  'quantize_super.cpp',
  'tensor_type.cpp',
  join('cpu', 'workers.cpp'),
  join('det', 'blocks.cpp'),
  join('det', 'det_model.cpp'),
  join('det', 'forward_det.cpp'),
  join('det', 'rope_table.cpp')
].map(name => join(here, '..', name))
// -Wno-restrict: GCC 12 warns falsely on std::string. A NaN must stay visible, hence no -ffast-math.
const FLAGS = ['-std=c++20', '-Wall', '-Wextra', '-Werror', '-Wno-restrict', '-ffp-contract=fast', '-pthread']
const HOT = ['-O3', '-fno-math-errno', '-fno-trapping-math']
// GCC 12 warns of its own header of AVX-512.
const WIDE = ['-Wno-uninitialized', '-Wno-maybe-uninitialized']

/** Runs a command; rejects with its output when it fails. */
const runQuietly = (command, words) =>
  new Promise((resolve, reject) => {
    const child = spawn(command, words, { stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', piece => {
        output += piece
      })
    }
    child.on('error', reject)
    child.on('close', status =>
      status === 0 ? resolve(output) : reject(new Error(`${command} failed with ${status}:\n${output}`))
    )
  })

/** GCC's name for the false positive is unknown to clang. */
const flagsFor = async compiler =>
  /clang/i.test(await runQuietly(compiler, ['--version'])) ? [...FLAGS, '-Wno-unknown-warning-option'] : FLAGS

/**
 * Builds `zg-train`.
 * @param {string} folder where the executable goes
 * @param {{ compiler?: string, static?: boolean }} options
 * @returns {Promise<string>} its path
 */
export const buildTrainer = async (folder, options = {}) => {
  const compiler = options.compiler ?? process.env.CXX ?? 'c++'
  const flags = await flagsFor(compiler)
  mkdirSync(folder, { recursive: true })
  const objects = mkdtempSync(join(folder, '.objects-'))
  try {
    const own = readdirSync(here).filter(name => name.endsWith('.cpp'))
    const sources = [...own.map(name => join(here, name)), ...ENGINE]
    const made = []
    const queue = sources.map((source, i) => async () => {
      const object = join(objects, `${i}.o`)
      const hot = /kernels_|model\.cpp$|bench\.cpp$/.test(source) && !ENGINE.includes(source)
      const wide = /kernels_(avx512|bf16)\.cpp$/.test(source) ? WIDE : []
      await runQuietly(compiler, [...flags, ...(hot ? HOT : ['-O1']), ...wide, '-c', source, '-o', object])
      made.push(object)
    })
    const workers = Array.from({ length: Math.max(2, availableParallelism()) }, async () => {
      for (let job = queue.shift(); job !== undefined; job = queue.shift()) await job()
    })
    await Promise.all(workers)
    const program = join(folder, 'zg-train')
    await runQuietly(compiler, [
      ...(options.static ? ['-static'] : []),
      '-pthread',
      ...made.sort(),
      '-o',
      `${program}.part`
    ])
    renameSync(`${program}.part`, program)
    return program
  } finally {
    rmSync(objects, { recursive: true, force: true })
  }
}
