/**
 * DAEntrance in an EVM on the genesis of a network: a posted blob, a certificate by three of four signers, and the refusals of da.md 12 with
 * their texts.
 */

import { Interface } from 'ethers'
import t from 'tap'
import { fromHex } from '../../lib/base/hex.ts'
import { DA_SIGNERS_ABI } from '../../lib/contracts/da-signers-abi.ts'
import { dAEntranceAbi } from '../../lib/contracts/generated/abi.ts'
import * as bls from '../../lib/crypto/bn254.ts'
import { devSigners } from '../../lib/crypto/dev-signers.ts'
import { AT, stop, TestChain } from './contract-chain.ts'

const abi = new Interface(DA_SIGNERS_ABI)

t.teardown(stop)

t.test('a certificate by three of four signers is accepted, others are refused by name', async t => {
  const signers = devSigners()
  const chain = await TestChain.start({
    da: { daSigners: signers.map(s => ({ ...s, address: fromHex(s.address), votes: 768n })) }
  })
  const e = chain.contract(AT.daEntrance, dAEntranceAbi)
  const root = new Uint8Array(32).fill(0x11)
  let o = await e.send('submitOriginalData', [[root]])
  t.match(o, { ok: true, error: '' })
  t.equal(o.logs[0]!.topics[0], '0x57b8b1a6583dc6ce934dfba3d66f2a8e1591b6e171bb2e0921cc64640277087b')
  const q = [
    ...abi.decodeFunctionResult(
      'getQuorum',
      (await chain.call({ to: AT.daSigners, data: abi.encodeFunctionData('getQuorum', [1n, 0n]) })).data
    )[0]
  ]
  const cert = (list: typeof signers, change: object = {}) => {
    const bits = new Uint8Array(384)
    for (const [p, a] of q.entries()) if (list.some(s => s.address === a)) bits[p >> 3]! |= 1 << (p & 7)
    const d = bls.blobDigest(root, 1n, 0n, { x: 1n, y: 2n })
    const k = bls.g2PairingAbi(bls.sumG2(list.map(s => s.pkG2)))
    const s = bls.sumG1(list.map(s => bls.signBls(s.secretKey, d)))
    return [
      {
        dataRoot: root,
        epoch: 1n,
        quorumId: 0n,
        erasureCommitment: { X: 1n, Y: 2n },
        quorumBitmap: bits,
        aggPkG2: k,
        signature: bls.g1Abi(s),
        ...change
      }
    ]
  }
  o = await e.send('submitVerifiedCommitRoots', [cert(signers.slice(0, 2))])
  t.match(o, { ok: false, error: 'DARegistry: insufficient signed slices' }, 'two')
  o = await e.send('submitVerifiedCommitRoots', [
    cert(signers.slice(0, 3), { aggPkG2: bls.g2Abi(bls.sumG2(signers.slice(0, 3).map(s => s.pkG2))) })
  ])
  t.match(o, { ok: false, error: 'DARegistry: pairing precompile call failed' }, 'order')
  o = await e.send('submitVerifiedCommitRoots', [cert(signers.slice(0, 3), { quorumId: 1n })])
  t.match(o, { ok: false, error: 'quorum not found' }, 'quorum')
  o = await e.send('submitVerifiedCommitRoots', [
    cert(signers.slice(0, 3), { signature: bls.g1Abi(bls.hashToG1(root)) })
  ])
  t.match(o, { ok: false, error: 'DARegistry: signature is invalid' }, 'foreign')
  o = await e.send('submitVerifiedCommitRoots', [cert(signers.slice(0, 3))])
  t.match(o, { ok: true, error: '' })
  t.equal(o.logs[0]!.topics[0], '0x0f1b20d87bebd11dddaaab51f01cf2726880cb3f8073b636dbafa2aa8cacd256')
  t.equal((await e.read('commitmentExists', [root, 1n, 0n]))[0], true)
})
