/**
 * The quick set of the public fixtures, first half: every Prague and Osaka case of the state tests gives the published root and logs on
 * the native engine. A case with one digit of its root changed must be reported, or this test proves nothing.
 */
import { join } from 'node:path'
import t from 'tap'
import { decodeStateAnswer, encodeStateRequest } from '../../cmd/zg-chain/conformance/request.ts'
import { loadConformance } from '../../lib/native.ts'
import { fixturesDir, jsonFiles, runStateFile, stateCases } from '../harness/evm-fixtures.ts'

const FORKS = ['Prague', 'Osaka']
/** As the fixtures' README counts them. */
const CASES = 14_868

const dir = fixturesDir()

t.test(
  'every Prague and Osaka state test passes',
  { skip: dir === undefined && 'the fixtures are not there' },
  async t => {
    const run = loadConformance()
    const failures: string[] = []
    let cases = 0
    for (const file of jsonFiles(join(dir!, 'state'))) {
      const outcome = runStateFile(run, file, FORKS)
      cases += outcome.cases
      failures.push(...outcome.failures)
    }
    t.same(failures.slice(0, 20), [])
    t.equal(cases, CASES)
  }
)

t.test('a wrong balance changes the root', { skip: dir === undefined && 'the fixtures are not there' }, async t => {
  const run = loadConformance()
  const file = jsonFiles(join(dir!, 'state', 'eest-v5.4.0')).find(f => [...stateCases(f, FORKS)].length > 0)!
  const [first] = [...stateCases(file, FORKS)]
  const { request, want } = first!
  t.equal(decodeStateAnswer(run('state', encodeStateRequest(request))).stateRoot, want.hash)
  const pre = { ...(request.pre as Record<string, object>), [`0x${'77'.repeat(20)}`]: { balance: '0x1' } }
  t.not(decodeStateAnswer(run('state', encodeStateRequest({ ...request, pre }))).stateRoot, want.hash)
})
