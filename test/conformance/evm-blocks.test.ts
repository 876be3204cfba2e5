/**
 * The quick set of the public fixtures, second half: precompile, RLP, trie and transaction vectors, and the Cancun block tests, valid
 * and invalid blocks alike, on the native engine.
 */
import { join } from 'node:path'
import t from 'tap'
import { loadConformance } from '../../lib/native.ts'
import { fixturesDir, jsonFiles, type Outcome, runBlockFile } from '../harness/evm-fixtures.ts'
import { runVectors } from '../harness/evm-vectors.ts'

const dir = fixturesDir()
const skip = dir === undefined && 'the fixtures are not there'

async function all(files: string[], run: (file: string) => Outcome | Promise<Outcome>): Promise<Outcome> {
  const out: Outcome = { cases: 0, failures: [] }
  for (const file of files) {
    const one = await run(file)
    out.cases += one.cases
    out.failures.push(...one.failures)
  }
  return out
}

t.test('vectors of precompiles, RLP, tries, transactions, key stores, ABI and genesis hold', { skip }, async t => {
  const run = loadConformance()
  const got = await all(jsonFiles(join(dir!, 'vectors')), file => runVectors(run, file))
  t.same(got.failures.slice(0, 20), [])
  t.equal(got.cases, 3_320)
})

t.test('Cancun block tests end at the published head', { skip }, async t => {
  const run = loadConformance()
  const got = await all(jsonFiles(join(dir!, 'blockchain')), file => runBlockFile(run, file, ['Cancun']))
  t.same(got.failures.slice(0, 20), [])
  t.equal(got.cases, 762)
})
