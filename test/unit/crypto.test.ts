/**
 * Proves lib/crypto against independent programs: hashes, signatures, addresses and key files against ethers in both
 * directions, the development accounts by deriving them anew, and the refusals of key files (permissions, links, costs).
 */
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as ethers from 'ethers'
import fc from 'fast-check'
import t from 'tap'
import { fromHex, toHex } from '../../lib/base/hex.ts'
import { checksumAddress, create2Address, createAddress, parseAddress } from '../../lib/crypto/address.ts'
import { DEV_ACCOUNTS, DEV_MNEMONIC, isDevKey } from '../../lib/crypto/dev-accounts.ts'
import { Keccak, keccak256, sha256 } from '../../lib/crypto/hash.ts'
import { decryptKey, encryptKey, keystoreAddress } from '../../lib/crypto/keystore.ts'
import { readKeyFile, writeKeyFile, writeSecretFile } from '../../lib/crypto/keystore-file.ts'
import {
  addressOf,
  isPrivateKey,
  publicKey,
  recover,
  recoverAddress,
  SECP256K1_ORDER,
  sharedX,
  sign,
  verify
} from '../../lib/crypto/secp256k1.ts'
import { SEED } from '../harness/seed.ts'

const seed = SEED
const runs = { seed, numRuns: 60 }
const key32 = fc.uint8Array({ minLength: 32, maxLength: 32 }).filter(isPrivateKey)
const digest32 = fc.uint8Array({ minLength: 32, maxLength: 32 })

t.test('hashes equal those of ethers, in parts and as a stream', async t => {
  t.equal(toHex(keccak256()), '0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470')
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 4 }), parts => {
      const joined = ethers.concat(parts)
      const stream = new Keccak()
      for (const p of parts) stream.update(p)
      const want = ethers.keccak256(joined)
      return (
        toHex(keccak256(...parts)) === want &&
        toHex(stream.digest()) === want &&
        toHex(sha256(...parts)) === ethers.sha256(joined)
      )
    }),
    runs
  )
})

t.test('signatures equal those of ethers and lead back to the key', async t => {
  const law = fc.property(key32, digest32, (key, digest) => {
    const ours = sign(digest, key)
    const theirs = new ethers.SigningKey(key).sign(digest)
    const half = SECP256K1_ORDER / 2n
    return (
      ours.r === BigInt(theirs.r) &&
      ours.s === BigInt(theirs.s) &&
      ours.yParity === theirs.yParity &&
      ours.s <= half &&
      toHex(recover(digest, ours)) === `0x${ethers.SigningKey.recoverPublicKey(digest, theirs).slice(4)}` &&
      toHex(recoverAddress(digest, ours)) === toHex(addressOf(key)) &&
      verify(digest, ours, publicKey(key)) &&
      verify(digest, ours, publicKey(key, { compressed: true })) &&
      checksumAddress(addressOf(key)) === ethers.computeAddress(toHex(key))
    )
  })
  t.doesNotThrow(() => fc.assert(law, { seed, numRuns: 15 }))
})

t.test('signatures out of range, in the upper half or of another digest are refused', async t => {
  const key = fromHex(DEV_ACCOUNTS[0]!.privateKey)
  const digest = keccak256(Uint8Array.of(1))
  const sig = sign(digest, key)
  const high = { r: sig.r, s: SECP256K1_ORDER - sig.s, yParity: (1 - sig.yParity) as 0 | 1 }
  t.throws(() => recover(digest, high), { code: 'ERR_BAD_INPUT' }, 'high s')
  t.same(recover(digest, high, { allowHighS: true }), publicKey(key), 'high s when asked for')
  t.notOk(verify(digest, high, publicKey(key)))
  for (const bad of [0n, SECP256K1_ORDER, SECP256K1_ORDER + 1n]) {
    t.throws(() => recover(digest, { ...sig, r: bad }), { code: 'ERR_BAD_INPUT' }, `r = ${bad}`)
    t.throws(() => recover(digest, { ...sig, s: bad }), { code: 'ERR_BAD_INPUT' }, `s = ${bad}`)
  }
  t.throws(() => recover(digest, { ...sig, r: 5n }), { code: 'ERR_BAD_INPUT' }, 'no point has x = 5')
  t.notOk(verify(keccak256(Uint8Array.of(2)), sig, publicKey(key)))
  t.notOk(verify(digest, sig, new Uint8Array(64)), 'a key that is no point')
  t.throws(() => sign(digest.subarray(1), key), { code: 'ERR_BAD_INPUT' })
  t.throws(() => sign(digest, new Uint8Array(32)), { code: 'ERR_BAD_INPUT' })
  t.throws(() => addressOf(ethers.getBytes(`0x${SECP256K1_ORDER.toString(16)}`)), { code: 'ERR_BAD_INPUT' })
  const other = fromHex(DEV_ACCOUNTS[1]!.privateKey)
  t.same(sharedX(key, publicKey(other)), sharedX(other, publicKey(key, { compressed: true })), 'both sides share x')
  t.throws(() => sharedX(key, new Uint8Array(64)), { code: 'ERR_BAD_INPUT' })
})

t.test('contract addresses and checksums equal those of ethers', async t => {
  const address = fc.uint8Array({ minLength: 20, maxLength: 20 })
  fc.assert(
    fc.property(address, fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), digest32, digest32, (from, nonce, salt, hash) => {
      return (
        checksumAddress(from) === ethers.getAddress(toHex(from)) &&
        toHex(createAddress(from, nonce)) === ethers.getCreateAddress({ from: toHex(from), nonce }).toLowerCase() &&
        toHex(create2Address(from, salt, hash)) === ethers.getCreate2Address(toHex(from), salt, hash).toLowerCase()
      )
    }),
    runs
  )
  for (const nonce of [0n, 1n, 127n, 128n, 255n, 256n, 2n ** 64n - 1n]) {
    const from = DEV_ACCOUNTS[0]!.address
    t.equal(
      checksumAddress(createAddress(fromHex(from), nonce)),
      ethers.getCreateAddress({ from, nonce }),
      `nonce ${nonce}`
    )
  }
  const right = DEV_ACCOUNTS[0]!.address
  t.same(parseAddress(right), fromHex(right))
  t.same(parseAddress(right.toLowerCase()), fromHex(right))
  t.throws(() => parseAddress(right.replace('F', 'f')), { code: 'ERR_BAD_INPUT', message: /checksum/ })
  t.throws(() => createAddress(fromHex(right), -1), { code: 'ERR_BAD_INPUT' })
})

t.test('the development accounts are those of the mnemonic', async t => {
  t.equal(DEV_ACCOUNTS.length, 10)
  for (let i = 0; i < 10; i++) {
    const want = ethers.HDNodeWallet.fromPhrase(DEV_MNEMONIC, '', `m/44'/60'/0'/0/${i}`)
    t.same(DEV_ACCOUNTS[i], { address: want.address, privateKey: want.privateKey })
  }
  t.ok(isDevKey(fromHex(DEV_ACCOUNTS[3]!.privateKey)))
  t.notOk(isDevKey(keccak256()))
})

t.test('key files go both ways between zg and ethers', async t => {
  const key = keccak256(Uint8Array.of(7))
  const password = 'pass wörd ﬁ' // the ligature needs NFKC
  const ours = JSON.stringify(await encryptKey(key, password, { scrypt: { N: 1024, r: 8, p: 1 } }))
  t.equal((await ethers.decryptKeystoreJson(ours, password)).privateKey, toHex(key), 'ethers reads ours')
  t.same(keystoreAddress(ours), addressOf(key))
  const account = { address: ethers.computeAddress(toHex(key)), privateKey: toHex(key) }
  const theirs = await ethers.encryptKeystoreJson(account, password, { scrypt: { N: 1024, r: 8, p: 1 } })
  t.same(await decryptKey(theirs, password), key, 'we read theirs')
  await t.rejects(decryptKey(theirs, 'wrong'), { code: 'ERR_PASSWORD' })
})

t.test('the standard PBKDF2 file is read and the default cost is the standard one', async t => {
  // Test vector of the Web3 Secret Storage definition (public domain).
  const json = JSON.stringify({
    crypto: {
      cipher: 'aes-128-ctr',
      cipherparams: { iv: '6087dab2f9fdbbfaddc31a909735c1e6' },
      ciphertext: '5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46',
      kdf: 'pbkdf2',
      kdfparams: {
        c: 262144,
        dklen: 32,
        prf: 'hmac-sha256',
        salt: 'ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd'
      },
      mac: '517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2'
    },
    id: '3198bc9c-6672-5ab3-d995-4942343ae5b6',
    version: 3
  })
  t.equal(
    toHex(await decryptKey(json, 'testpassword')),
    '0x7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d'
  )
  const made = await encryptKey(keccak256(), 'x')
  t.match(made.crypto.kdfparams, { n: 262144, r: 8, p: 1, dklen: 32 })
})

t.test('key files that ask for too much or are malformed are refused before any derivation', async t => {
  const good = await encryptKey(keccak256(), 'x', { scrypt: { N: 1024, r: 8, p: 1 } })
  const change = (
    params: Record<string, unknown>,
    crypto: Record<string, unknown> = {},
    top: Record<string, unknown> = {}
  ) =>
    JSON.stringify({
      ...good,
      ...top,
      crypto: { ...good.crypto, ...crypto, kdfparams: { ...good.crypto.kdfparams, ...params } }
    })
  const bad: Record<string, string> = {
    '2 GiB of scrypt': change({ n: 2 ** 21 }),
    'N of no power of two': change({ n: 1000 }),
    'N of zero': change({ n: 0 }),
    'huge r': change({ r: 2 ** 30 }),
    'huge p': change({ p: 2 ** 30 }),
    'fractional p': change({ p: 1.5 }),
    'p as text': change({ p: '1' }),
    'dklen 16': change({ dklen: 16 }),
    'pbkdf2 of hours': change({ c: 2 ** 31, prf: 'hmac-sha256' }, { kdf: 'pbkdf2' }),
    'pbkdf2 with sha1': change({ c: 1000, prf: 'hmac-sha1' }, { kdf: 'pbkdf2' }),
    'unknown kdf': change({}, { kdf: 'argon2' }),
    'unknown cipher': change({}, { cipher: 'aes-128-cbc' }),
    'short mac': change({}, { mac: 'aa' }),
    'short ciphertext': change({}, { ciphertext: 'aa' }),
    'version 1': change({}, {}, { version: 1 }),
    'no crypto': JSON.stringify({ version: 3 }),
    'no JSON': '{',
    'too long': `${' '.repeat(70_000)}{}`
  }
  for (const [what, json] of Object.entries(bad)) {
    await t.rejects(decryptKey(json, 'x'), { code: 'ERR_CORRUPT' }, what)
  }
  await t.rejects(
    decryptKey(change({}, {}, { address: '00'.repeat(20) }), 'x'),
    { code: 'ERR_CORRUPT' },
    'foreign address'
  )
})

t.test('key files on disk are closed to others and never overwritten by accident', async t => {
  const dir = await mkdtemp(join(tmpdir(), 'zg-keys-'))
  t.teardown(() => rm(dir, { recursive: true }))
  const path = join(dir, 'keys', 'a.json')
  const key = keccak256(Uint8Array.of(9))
  const opts = { scrypt: { N: 1024, r: 8, p: 1 } }
  await writeKeyFile(path, key, 'pw', opts)
  t.equal((await stat(join(dir, 'keys'))).mode & 0o777, 0o700)
  t.equal((await stat(path)).mode & 0o777, 0o600)
  t.same(await readKeyFile(path, 'pw'), key)
  await t.rejects(readKeyFile(path, 'pW'), { code: 'ERR_PASSWORD' })
  await t.rejects(writeKeyFile(path, key, 'pw', opts), { code: 'ERR_EXISTS' })
  await t.rejects(writeSecretFile(path, key), { code: 'ERR_EXISTS' }, 'also when two write at once')
  const before = await readFile(path, 'utf8')
  await writeKeyFile(path, key, 'other', { ...opts, replace: true })
  t.not(await readFile(path, 'utf8'), before)
  t.same(await readdir(join(dir, 'keys')), ['a.json'], 'no temporary file stays')

  await chmod(path, 0o644)
  await t.rejects(readKeyFile(path, 'other'), { code: 'ERR_PERMISSION', hint: /chmod 600/ })
  await chmod(path, 0o600)
  const link = join(dir, 'keys', 'link.json')
  await symlink(path, link)
  await t.rejects(readKeyFile(link, 'other'), { code: 'ERR_PERMISSION', message: /symbolic link/ })
  await t.rejects(writeKeyFile(link, key, 'pw', opts), { code: 'ERR_EXISTS' }, 'a link is not followed')
  await t.rejects(readKeyFile(join(dir, 'keys', 'none'), 'x'), { code: 'ERR_NO_INPUT' })
  await mkdir(join(dir, 'open'))
  await chmod(join(dir, 'open'), 0o755)
  await t.rejects(writeKeyFile(join(dir, 'open', 'k'), key, 'pw', opts), { code: 'ERR_PERMISSION', hint: /chmod 700/ })
  await t.rejects(readKeyFile(join(dir, 'keys'), 'x'), { code: 'ERR_PERMISSION' }, 'a directory is no key file')
  await writeFile(join(dir, 'keys', 'big'), Buffer.alloc(70_000), { mode: 0o600 })
  await t.rejects(readKeyFile(join(dir, 'keys', 'big'), 'x'), { code: 'ERR_CORRUPT' })
})
