/**
 * Times the CUDA engine (or, with --test, compares it with the reference bit for bit) on the first device.
 *
 *   npm run bench:cuda [-- PRESET…]     read bandwidth and int8 rate of the device, then a row for each random model:
 *                                       1b-q8 1b-q4 3b-q4km 8b-q4 8b-q8 8b-q4km
 *   npm run test:cuda                   every tensor type and fixture model against the reference
 *
 * Exit status: 0 done, 1 different or failed, 3 no device or built without CUDA.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { packageRoot } from '../lib/base/package-root.ts'

const program = join(packageRoot(), 'build', 'Release', 'infer_cuda_check')
const args = process.argv.slice(2)
const fixtures = ['..', '../..'].map(up => join(packageRoot(), up, 'shared', 'fixtures', 'models')).find(existsSync)

if (!existsSync(program)) {
  process.stdout.write('built without CUDA: install its toolkit (nvcc on PATH) and run npm run build:native\n')
  process.exitCode = 3
} else if (args[0] === '--test' && fixtures === undefined) {
  process.stdout.write('no model fixtures beside the repository\n')
  process.exitCode = 3
} else {
  const wanted =
    args[0] === '--test' ? ['test', fixtures!] : ['bench', ...(args.length > 0 ? args : ['1b-q8', '8b-q4', '8b-q8'])]
  process.exitCode = spawnSync(program, wanted, { stdio: 'inherit' }).status ?? 1
}
