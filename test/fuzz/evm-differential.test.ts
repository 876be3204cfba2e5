/**
 * Proves the native interpreter against a second implementation: five thousand random executions on random states, in blocks and as calls,
 * agree on status, gas, output, logs and state root; and one changed gas constant on the other side is found, or the test would prove
 * nothing. `npm run fuzz:evm -- --count N --seed S` runs more.
 */
import t from 'tap'
import { SEED } from '../harness/seed.ts'
import { differential } from '../oracle/differential.ts'

t.setTimeout(550_000)

t.test('random programs on random states: the native client and @ethereumjs agree', async t => {
  const result = await differential({ seed: SEED, executions: 5_000 })
  t.same(result.found, [], `${result.executions} executions in ${result.blocks} blocks`)
  t.ok(result.executions >= 5_000)
})

t.test('canary: a wrong price of MUL is found', async t => {
  const result = await differential({ seed: SEED, executions: 5_000, wrongParams: { 1: { mulGas: 6 } } })
  t.equal(result.found.length, 1, `after ${result.executions} executions`)
})
