/**
 * Proves that kill -9 loses nothing that was promised: twenty times at random moments under load, after each the head is a block that was
 * reported or a later one, its state root recomputes from every account and slot, reported blocks are the same, and every transaction
 * whose hash was answered is in a block or waits. `npm run test:chain-kill` does it two hundred times.
 */
import t from 'tap'
import { killNode } from '../harness/chain-kill.ts'
import { SEED } from '../harness/seed.ts'

t.setTimeout(500_000)

t.test('a node that is killed twenty times under load keeps every block and every accepted transaction', async t => {
  const report = await killNode({ kills: 20, seed: SEED })
  t.same(report.faults, [])
  t.equal(report.kills, 20)
  t.ok(report.acknowledged > 20, `${report.acknowledged} transactions accepted, ${report.height} blocks`)
  t.ok(report.underLoad > 0, `${report.underLoad} kills with transactions on their way`)
})
