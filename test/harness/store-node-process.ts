/** A storage node as a process of its own, for tests that kill it: options as JSON in the first argument, one JSON line when ready. */
import { startStoreNode } from '../../cmd/zg-store/node/store-node.ts'
import { boundGarbage } from '../../cmd/zg-store/node/young-garbage.ts'
import { createLog } from '../../lib/ops/log.ts'

// As the tool does at its start.
boundGarbage()
const log = createLog({ level: 'warn', pretty: false, tool: 'zg-store' })
const node = await startStoreNode({
  ...JSON.parse(process.argv[2]!),
  log,
  onFatal: err => {
    process.stderr.write(`${String(err)}\n`)
    process.exit(70)
  }
})
process.stdout.write(`${JSON.stringify({ type: 'ready', url: node.url })}\n`)
process.once('SIGTERM', () => void node.close().then(() => process.exit(0)))
