/**
 * Runs the native execution client against @ethereumjs on random programs (test/oracle/differential.ts).
 *
 *   npm run fuzz:evm -- [--count N] [--seed S]
 *
 * Exit: 0 no difference, 1 one was found: it is printed with its seed. ZG_EVM_CANARY=1 makes one gas constant of the other side wrong.
 */
import { parseArgs } from 'node:util'
import { differential } from '../test/oracle/differential.ts'

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '200000' },
    seed: { type: 'string', default: `${Date.now() % 1_000_000}` }
  }
})
const [count, seed] = [Number(values.count), Number(values.seed)]
if (!Number.isSafeInteger(count) || count < 1 || !Number.isSafeInteger(seed) || seed < 0) {
  process.stderr.write('fuzz: --count and --seed are whole numbers\n')
  process.exit(64)
}
const started = performance.now()
let told = 0
const result = await differential({
  seed,
  executions: count,
  ...(process.env.ZG_EVM_CANARY === undefined ? {} : { wrongParams: { 1: { mulGas: 6 } } }),
  progress(d) {
    if (performance.now() - told < 10_000) return
    told = performance.now()
    process.stderr.write(`fuzz: ${d.executions} of ${count}\n`)
  }
})
const seconds = ((performance.now() - started) / 1000).toFixed(1)
for (const text of result.found) process.stdout.write(`${text}\n`)
process.stdout.write(
  `fuzz: ${result.executions} executions in ${result.blocks} blocks, seed ${seed}, ${result.found.length} differences, ${seconds} s\n`
)
process.exit(result.found.length === 0 ? 0 : 1)
