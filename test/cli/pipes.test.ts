/**
 * Proves the pipes of the design with a real shell: 50 MB of random bytes through `tee` into `put` and back through `get | cmp`, a
 * gibibyte from stdin with resident memory under 256 MiB, archives, a closed pipe, and the same root from every way in.
 */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startNetwork } from '../harness/network.ts'
import { packageRoot } from '../harness/tools.ts'

const network = await startNetwork('pipes')
t.teardown(() => network.stop())

interface ShellResult {
  code: number | null
  stdout: string
  stderr: string
}

/** A line of shell in which the tools are on the PATH and find the network. */
function sh(script: string, timeoutMs = 110_000): Promise<ShellResult> {
  return new Promise(resolve => {
    const env = { ...process.env, ...network.env, PATH: `${join(packageRoot, 'bin')}:${process.env.PATH}` }
    const child = spawn('/usr/bin/env', ['-u', 'NODE_OPTIONS', 'bash', '-o', 'pipefail', '-c', script], {
      cwd: network.box.dir,
      env
    })
    const out: Buffer[] = []
    const err: Buffer[] = []
    child.stdout.on('data', d => out.push(d))
    child.stderr.on('data', d => err.push(d))
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
    child.once('close', code => {
      clearTimeout(timer)
      resolve({ code, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() })
    })
  })
}

t.test('50 MB of random bytes go in through a pipe and come back the same', async t => {
  const put = await sh('head -c 50000000 /dev/urandom | tee f | zg-store put')
  t.equal(put.code, 0, put.stderr)
  t.match(put.stdout, /^0x[0-9a-f]{64}\n$/, 'stdout is the root and nothing else')
  const get = await sh(`zg-store get ${put.stdout.trim()} | cmp - f`)
  t.equal(get.code, 0, get.stderr + get.stdout)
  const root = await sh('zg-store root f && zg-store root < f')
  t.equal(root.stdout, put.stdout.repeat(2), 'the root needs no network and no file')
})

t.test('the same content again sends nothing', async t => {
  const again = await sh('zg-store put f')
  t.equal(again.code, 0)
  t.match(again.stderr, 'already stored, nothing sent')
})

t.test('1 GiB from stdin within 256 MiB of resident memory', { timeout: 400_000 }, async t => {
  // GNU time is not everywhere: VmHWM of the process itself, read until it ends.
  const put = await sh(
    'head -c 1073741824 /dev/urandom | { zg-store put <&0 & pid=$!; while kill -0 $pid 2>/dev/null; do grep VmHWM /proc/$pid/status > hwm 2>/dev/null && cp hwm peak; sleep 0.2; done; wait $pid; }',
    380_000
  )
  t.equal(put.code, 0, put.stderr)
  const kib = Number(/(\d+) kB/.exec(readFileSync(network.box.path('peak'), 'utf8'))?.[1])
  t.comment(`peak resident memory of put: ${Math.round(kib / 1024)} MiB`)
  t.ok(kib > 0 && kib < 256 * 1024, `${kib} KiB`)
  const size = await sh(`zg-store get ${put.stdout.trim()} | wc -c`, 380_000)
  t.equal(size.stdout.trim(), '1073741824')
})

t.test('an archive goes through tar both ways', async t => {
  const both = await sh(
    `mkdir -p a/b && echo one > a/x && echo two > a/b/y && mkdir out && tar c a | zg-store put -q | xargs zg-store get | tar x -C out && diff -r a out/a`
  )
  t.equal(both.code, 0, both.stderr + both.stdout)
})

t.test('a reader that goes away ends get quietly with 141', async t => {
  const { stderr, stdout } = await sh(
    'root=$(zg-store root -q f); zg-store get $root -q | head -c 10 > /dev/null; echo "${PIPESTATUS[0]}"'
  )
  t.equal(stdout.trim(), '141')
  t.equal(stderr, '')
})
