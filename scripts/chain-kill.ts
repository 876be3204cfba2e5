/**
 * kill -9 at random moments under load (test/harness/chain-kill.ts).
 *
 *   npm run test:chain-kill -- [--kills N] [--seed S]
 *
 * Exit: 0 nothing lost, 1 something was.
 */
import { parseArgs } from 'node:util'
import { killNode } from '../test/harness/chain-kill.ts'

const { values } = parseArgs({
  options: { kills: { type: 'string', default: '200' }, seed: { type: 'string', default: `${Date.now() % 1_000_000}` } }
})
const report = await killNode({
  kills: Number(values.kills),
  seed: Number(values.seed),
  progress: r => {
    if (r.kills % 10 === 0) process.stderr.write(`kills: ${r.kills}, block ${r.height}, ${r.acknowledged} accepted\n`)
  }
})
for (const fault of report.faults) process.stdout.write(`${fault}\n`)
process.stdout.write(
  `kills: ${report.kills} (${report.underLoad} with transactions on their way, ${report.starting} while it started), ${report.height} blocks, ${report.acknowledged} accepted, ${report.faults.length} faults, seed ${values.seed}\n`
)
process.exit(report.faults.length === 0 ? 0 : 1)
