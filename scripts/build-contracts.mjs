/**
 * Compiles the .sol files of lib/contracts and the directories beside it that SOURCE_DIRS names into lib/contracts/generated/: abi.ts
 * (typed ABIs) and artifacts.ts (creation bytecode). They are TypeScript so that tsc carries them into dist/ and both places import them
 * alike.
 *
 * Plain JavaScript on node: modules and solc alone: it runs right after the install, before anything is compiled.
 * The compiler takes seconds, so its work is kept by a hash over everything that goes into it: own sources, this file, the versions
 * of the compiler and of OpenZeppelin. A second run reads a few files and leaves.
 *
 * usage: node scripts/build-contracts.mjs [--force]
 * Exit: 0 built or up to date, 1 the sources do not compile.
 */
import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const SETTINGS = {
  evmVersion: 'prague',
  optimizer: { enabled: true, runs: 200 },
  // No metadata hash at the end of the code: the same bytes on every machine.
  metadata: { bytecodeHash: 'none', appendCBOR: false },
  outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object', 'evm.deployedBytecode.object'] } }
}
/** Their names in the output are those of their files, so no two may share one. */
const SOURCE_DIRS = ['lib/contracts', 'lib/contracts/compute', 'lib/contracts/demo']
/** Warnings that are known and stay: 6335, `at` becomes a keyword in some later compiler; deployed flows have a function of that name. */
const KNOWN_WARNINGS = new Set(['6335'])
/** EIP-170: a larger contract cannot exist on a chain. */
const CODE_BYTES_MAX = 24_576

const script = fileURLToPath(import.meta.url)
const root = dirname(dirname(script))
const require = createRequire(import.meta.url)
const outDir = join(root, 'lib/contracts/generated')

function main() {
  const started = performance.now()
  const sources = ownSources()
  const stamp = inputHash(sources)
  if (!process.argv.includes('--force') && isCurrent(stamp)) {
    note(`up to date, ${Object.keys(sources).length} sources`)
    return
  }
  const contracts = pick(compile(sources), sources)
  mkdirSync(outDir, { recursive: true })
  write('abi.ts', stamp, abiModule(contracts))
  // Last, because it is the one whose presence counts.
  write('artifacts.ts', stamp, artifactsModule(contracts))
  note(`${contracts.length} compiled in ${((performance.now() - started) / 1000).toFixed(1)} s`)
}

/** Our sources by their names in the compiler, in a fixed order. */
function ownSources() {
  const sources = {}
  for (const dir of SOURCE_DIRS) {
    for (const file of readdirSync(join(root, dir)).sort()) {
      if (file.endsWith('.sol')) sources[`${dir}/${file}`] = readFileSync(join(root, dir, file), 'utf8')
    }
  }
  return sources
}

function inputHash(sources) {
  const hash = createHash('sha256')
  hash.update(readFileSync(script))
  for (const name of ['solc', '@openzeppelin/contracts']) {
    const { version } = packageOf(name)
    hash.update(`\0${name}@${version}`)
  }
  for (const [name, content] of Object.entries(sources)) hash.update(`\0${name}\0${content}`)
  return hash.digest('hex')
}

function packageOf(name) {
  try {
    return JSON.parse(readFileSync(require.resolve(`${name}/package.json`), 'utf8'))
  } catch (err) {
    if (err.code === 'MODULE_NOT_FOUND') fail(`${name} is not installed: run 'npm ci'`)
    throw err
  }
}

function isCurrent(stamp) {
  try {
    return ['abi.ts', 'artifacts.ts'].every(file =>
      readFileSync(join(outDir, file), 'utf8').includes(`inputs ${stamp}\n`)
    )
  } catch (err) {
    if (err.code === 'ENOENT') return false
    throw err
  }
}

/** Runs the compiler; warnings are shown for our own sources only, since nobody here can change OpenZeppelin's. */
function compile(sources) {
  const solc = require('solc')
  const input = {
    language: 'Solidity',
    sources: Object.fromEntries(Object.entries(sources).map(([name, content]) => [name, { content }])),
    settings: SETTINGS
  }
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: readImport }))
  const messages = output.errors ?? []
  for (const m of messages) {
    const ours = m.sourceLocation?.file in sources && !KNOWN_WARNINGS.has(m.errorCode)
    if (m.severity === 'error' || ours) process.stderr.write(`${m.formattedMessage.trim()}\n`)
  }
  // A contract with an error has no code at all, so this comes before anything is read.
  const errors = messages.filter(m => m.severity === 'error').length
  if (errors > 0) fail(`${errors} ${errors === 1 ? 'error' : 'errors'} in lib/contracts`)
  return output.contracts
}

function readImport(path) {
  try {
    return { contents: readFileSync(require.resolve(path), 'utf8') }
  } catch {
    return { error: `cannot find '${path}'` }
  }
}

/** The contracts that can be deployed, by name. */
function pick(compiled, sources) {
  const contracts = []
  for (const file of Object.keys(sources)) {
    const name = basename(file, '.sol')
    const contract = compiled[file]?.[name]
    if (contract === undefined || contract.abi.length === 0 || contract.evm.bytecode.object === '') continue
    const size = contract.evm.deployedBytecode.object.length / 2
    if (size > CODE_BYTES_MAX) fail(`${name} has ${size} bytes of code, ${CODE_BYTES_MAX} are allowed (EIP-170)`)
    contracts.push({ name, abi: contract.abi, bytecode: `0x${contract.evm.bytecode.object}` })
  }
  return contracts
}

function abiModule(contracts) {
  const consts = contracts.map(c => {
    const entries = c.abi.map(entry => `  ${JSON.stringify(entry)}`)
    return `export const ${constName(c.name)} = [\n${entries.join(',\n')}\n] as const\n`
  })
  return `/** ABIs of lib/contracts, typed literally. */\n${consts.join('\n')}`
}

function artifactsModule(contracts) {
  const entries = contracts.map(c => `  ${c.name}: '${c.bytecode}'`)
  return `/** Creation bytecode of lib/contracts, without constructor arguments. */
export const CREATION_CODE = {
${entries.join(',\n')}
} as const

export type ContractName = keyof typeof CREATION_CODE
`
}

/** WrappedZG -> wrappedZGAbi. */
function constName(name) {
  return `${name[0].toLowerCase()}${name.slice(1)}Abi`
}

/** Whole or not at all: a reader never sees half a file. */
function write(file, stamp, text) {
  const target = join(outDir, file)
  const part = `${target}.${process.pid}.part`
  writeFileSync(part, `// Written by scripts/build-contracts.mjs; inputs ${stamp}\n${text}`)
  renameSync(part, target)
}

function note(text) {
  process.stderr.write(`contracts: ${text}\n`)
}

function fail(text) {
  process.stderr.write(`contracts: ${text}\n`)
  process.exit(1)
}

main()
