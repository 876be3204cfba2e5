/**
 * The real and the simulated disk and key-value store pass the same suites; the lock keeps a second process out and lets go of a
 * killed one; clocks and generators do what their ports say.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { systemClock } from '../../lib/adapters/clock.ts'
import { diskError, systemDisk } from '../../lib/adapters/disk.ts'
import { openKv } from '../../lib/adapters/kv.ts'
import { lockDirectory } from '../../lib/adapters/lock.ts'
import { systemRandom } from '../../lib/adapters/random.ts'
import { ZgError } from '../../lib/base/errors.ts'
import { diskCompliance, kvCompliance } from '../../lib/ports/compliance.ts'
import { SimClock } from '../../lib/sim/clock.ts'
import { SimDisk } from '../../lib/sim/disk.ts'
import { openSimKv } from '../../lib/sim/kv.ts'
import { SeededRandom } from '../../lib/sim/random.ts'

const temp = mkdtempSync(join(tmpdir(), 'zg-ports-'))
t.teardown(() => rmSync(temp, { recursive: true, force: true }))
let fresh = 0
const newDir = (): string => {
  const dir = join(temp, String(fresh++))
  mkdirSync(dir)
  return dir
}

t.test('the real disk keeps the contract', t => diskCompliance(t, async () => ({ disk: systemDisk, dir: newDir() })))
t.test('the simulated disk keeps the contract', t =>
  diskCompliance(t, async () => {
    const disk = new SimDisk()
    await disk.mkdir('/d')
    return { disk, dir: '/d' }
  })
)
t.test('LevelDB keeps the contract', t =>
  kvCompliance(t, async () => {
    const dir = newDir()
    return () => openKv(dir)
  })
)
t.test('the simulated store keeps the contract, and so does it on the real disk', async t => {
  await kvCompliance(t, async () => {
    const disk = new SimDisk()
    return () => openSimKv(disk, '/kv')
  })
  await kvCompliance(t, async () => {
    const dir = newDir()
    return () => openSimKv(systemDisk, dir)
  })
})

t.test('system errors become one clear line with a code', async t => {
  const wanted = {
    ENOENT: 'ERR_NOT_FOUND',
    EEXIST: 'ERR_EXISTS',
    ENOSPC: 'ERR_DISK_FULL',
    EDQUOT: 'ERR_DISK_FULL',
    EFBIG: 'ERR_DISK_FULL',
    EACCES: 'ERR_PERMISSION',
    EROFS: 'ERR_PERMISSION',
    EIO: 'ERR_IO',
    EWHATEVER: 'ERR_IO'
  }
  for (const [system, code] of Object.entries(wanted)) {
    const err = diskError(Object.assign(new Error('x'), { code: system }), 'write', '/a b')
    t.equal(err.code, code, system)
    t.match(err.message, /^cannot write '\/a b': [a-z]/)
  }
  // A real full device, and a directory that cannot be made.
  const full = join(newDir(), 'full')
  symlinkSync('/dev/full', full)
  const file = await systemDisk.open(full, 'open')
  await t.rejects(file.write(0, new Uint8Array(10)), { code: 'ERR_DISK_FULL' })
  await file.close()
  await t.rejects(systemDisk.mkdir('/proc/zg-none/x'), { code: 'ERR_NOT_FOUND' })
  await t.rejects(openKv(join(newDir(), 'absent'), { create: false }), { code: 'ERR_NOT_FOUND' })
})

t.test('files are private to their owner', async t => {
  const dir = newDir()
  await systemDisk.mkdir(join(dir, 'a', 'b'))
  await (await systemDisk.open(join(dir, 'a', 'f'), 'create')).close()
  t.equal(statSync(join(dir, 'a')).mode & 0o777, 0o700)
  t.equal(statSync(join(dir, 'a', 'f')).mode & 0o777, 0o600)
})

t.test('a damaged LevelDB is refused as damaged, a held one as held', async t => {
  const dir = newDir()
  const kv = await openKv(dir)
  await t.rejects(openKv(dir), { code: 'ERR_LOCKED' })
  await kv.batch([{ put: Uint8Array.of(1), value: Uint8Array.of(2) }])
  t.same([...kv.getSync(Uint8Array.of(1))!], [2])
  await kv.close()
  writeFileSync(join(dir, 'CURRENT'), 'MANIFEST-999999\n')
  await t.rejects(openKv(dir), { code: 'ERR_CORRUPT' })
})

t.test('one process per data directory, whatever became of the last one', async t => {
  const dir = join(newDir(), 'data')
  const lock = await lockDirectory(dir)
  t.equal(statSync(dir).mode & 0o777, 0o700)
  const module = new URL('../../lib/adapters/lock.ts', import.meta.url).href
  const script = join(temp, 'hold.mts')
  writeFileSync(
    script,
    `import { lockDirectory } from ${JSON.stringify(module)}
     try { await lockDirectory(process.argv[2]); console.log('held'); setInterval(() => {}, 1000) }
     catch (err) { console.log(err.code + ' ' + err.message); process.exit(75) }`
  )
  const other = () => {
    const child = spawn('/usr/bin/env', ['-u', 'NODE_OPTIONS', process.execPath, '--import', 'tsx', script, dir], {
      stdio: ['ignore', 'pipe', 'inherit']
    })
    t.teardown(() => child.kill('SIGKILL'))
    return child
  }
  const refused = other()
  const [line] = await once(refused.stdout, 'data')
  t.equal(String(line).trim(), `ERR_LOCKED '${dir}' is in use by pid ${process.pid}`)
  await lock.release()
  await lock.release()

  const holder = other()
  t.equal(String((await once(holder.stdout, 'data'))[0]).trim(), 'held')
  await t.rejects(lockDirectory(dir), { code: 'ERR_LOCKED', message: `'${dir}' is in use by pid ${holder.pid}` })
  holder.kill('SIGKILL')
  await once(holder, 'exit')
  const mine = await lockDirectory(dir)
  t.equal(readFileSync(join(dir, 'lock', 'pid'), 'utf8').trim(), String(process.pid))
  await mine.release()

  writeFileSync(join(dir, 'lock', 'CURRENT'), 'nonsense')
  await (await lockDirectory(dir)).release()
  t.pass('damage to the empty lock store does not stop a node')
  if (process.getuid?.() !== 0) {
    chmodSync(dir, 0o500)
    await t.rejects(lockDirectory(join(dir, 'sub')), { code: 'ERR_PERMISSION' })
    chmodSync(dir, 0o700)
  }
})

t.test('sleeping ends early on a signal, in real and in virtual time', async t => {
  const reason = new ZgError('ERR_STOPPED', 'enough')
  const real = new AbortController()
  const sleeping = systemClock.sleep(60_000, real.signal)
  real.abort(reason)
  await t.rejects(sleeping, { code: 'ERR_STOPPED' })
  await t.rejects(systemClock.sleep(1, real.signal), { code: 'ERR_STOPPED' })
  await systemClock.sleep(1)
  const clock = new SimClock(1000)
  const virtual = new AbortController()
  const rejected = t.rejects(clock.sleep(50, virtual.signal), { code: 'ERR_STOPPED' })
  virtual.abort(reason)
  await rejected
  t.equal(clock.next(), undefined)
})

t.test('virtual time fires timers in order, each after the promises of the one before', async t => {
  const clock = new SimClock(1000)
  const seen: string[] = []
  clock.after(20, () => seen.push(`b@${clock.monotonic()}`))
  clock.after(10, () => {
    seen.push('a')
    void Promise.resolve()
      .then(() => clock.sleep(5))
      .then(() => seen.push(`nested@${clock.monotonic()}`))
  })
  clock.after(20, () => seen.push('c'))
  clock.after(15, () => seen.push('never'))()
  await clock.advance(100)
  t.same(seen, ['a', 'nested@15', 'b@20', 'c'])
  t.equal(clock.now(), 1100)
  clock.jump(-500)
  t.same([clock.now(), clock.monotonic()], [600, 100], 'wall time jumps, the monotonic clock does not')
  clock.after(30, () => seen.push('d'))
  t.equal(await clock.until(() => seen.includes('d'), 10), false)
  t.equal(await clock.until(() => seen.includes('d'), 30), true)
})

t.test('seeded randomness repeats, splits and is even; the real one keeps its bounds', async t => {
  const draw = (r: SeededRandom): number[] => Array.from({ length: 5 }, () => r.u32())
  t.same(draw(new SeededRandom(1)), draw(new SeededRandom('1')))
  t.notSame(draw(new SeededRandom(1)), draw(new SeededRandom(2)))
  t.notSame(draw(new SeededRandom(1).split('net')), draw(new SeededRandom(1).split('disk')))
  const counts = new Array(10).fill(0)
  const random = new SeededRandom('even')
  for (let i = 0; i < 20_000; i++) counts[random.below(10)]++
  // 2,000 expected, standard deviation 42: five of them.
  t.ok(Math.min(...counts) > 1790 && Math.max(...counts) < 2210, counts.join(' '))
  t.same(new SeededRandom(3).bytes(7).length, 7)
  for (const bound of [1, 2, 2 ** 32]) {
    const x = systemRandom.below(bound)
    t.ok(x >= 0 && x < bound)
  }
  t.notSame(systemRandom.bytes(32), systemRandom.bytes(32))
})
