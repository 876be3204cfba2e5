// Writes docs/man/zg-X.1 from the built tools. Run after a build: node --import tsx scripts/man.ts
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'

const tools = readdirSync('bin').filter(name => name.startsWith('zg-'))
mkdirSync('docs/man', { recursive: true })
for (const name of tools) {
  const run = (...args: string[]): string =>
    execFileSync(process.execPath, [`bin/${name}`, ...args], { encoding: 'utf8' })
  writeFileSync(`docs/man/${name}.1`, run('help', '--man'))
}
process.stdout.write(`${tools.length} manual pages\n`)
