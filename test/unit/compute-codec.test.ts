/**
 * Proves that the compute protocol is written as the network's own client and contracts read it: every section of
 * compute-vectors.json that concerns tokens, response signatures, fees, service records, quotes and settlements, byte for byte; and
 * that a session token is refused after a change of any one byte, with the status and the order of the specification.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { utf8 } from '../../lib/base/bytes.ts'
import { fromHex, type Hex, toHex } from '../../lib/base/hex.ts'
import {
  decodeAccount,
  decodeRevert,
  decodeSettlements,
  encodeSettlements,
  inferenceAbi,
  ledgerAbi
} from '../../lib/codec/compute/abi.ts'
import { chatFee, clientFeeEstimate, ogToNeuron } from '../../lib/codec/compute/fee.ts'
import { personalHash, recoverDigest } from '../../lib/codec/compute/personal-sign.ts'
import { buildQuote, checkQuote } from '../../lib/codec/compute/quote.ts'
import {
  planVerification,
  responseText,
  signatureRecord,
  signedBy,
  signResponse,
  verifyResponse
} from '../../lib/codec/compute/response-signature.ts'
import { readServiceInfo, writeServiceInfo } from '../../lib/codec/compute/service-info.ts'
import {
  checkAccount,
  checkSessionToken,
  EPHEMERAL_ID,
  planSessionToken,
  readSessionToken,
  type SessionToken,
  signSessionToken,
  TokenRefusal
} from '../../lib/codec/compute/session-token.ts'
import {
  DOMAIN_TYPEHASH,
  domainSeparator,
  requestsHash,
  requestsPreimage,
  SETTLEMENT_TYPEHASH,
  settlementDigest,
  settlementStatus,
  settlementStructHash,
  signSettlement,
  statusCode
} from '../../lib/codec/compute/settlement.ts'
import { sha256 } from '../../lib/crypto/hash.ts'
import { addressOf } from '../../lib/crypto/secp256k1.ts'
import { packageRoot } from '../harness/tools.ts'

const vectors = JSON.parse(readFileSync(join(packageRoot, 'test/vectors/compute-vectors.json'), 'utf8'))
const cases = vectors.cases

t.test('session tokens are signed as the SDK signs them', async t => {
  for (const c of cases.sessionToken) {
    const account = { generation: BigInt(c.account.generation), revokedBitmap: BigInt(c.account.revokedBitmap) }
    const plan = planSessionToken(c.options, {
      user: fromHex(c.user),
      provider: fromHex(c.provider),
      account,
      nowMs: c.dateNowMs,
      random: c.mathRandom
    })
    const signed = signSessionToken(plan, fromHex(c.userKey))
    t.equal(signed.rawMessage, c.expect.rawMessage)
    t.equal(toHex(signed.hash), c.expect.messageKeccak256)
    t.equal(signed.signature, c.expect.signature)
    t.equal(signed.authorization, c.expect.authorization)
    const received = readSessionToken(c.expect.authorization)
    const user = checkSessionToken(received, { provider: fromHex(c.provider), nowMs: c.dateNowMs })
    t.equal(toHex(user), c.user.toLowerCase())
    checkAccount(received.token, { ...account, acknowledged: true })
    const unpadded = c.expect.authorization.replace(/=+$/, '')
    t.same(readSessionToken(unpadded), received, 'padding may be missing')
  }
  for (const c of cases.sessionTokenRefusedByClient) {
    const plan = (): SessionToken =>
      planSessionToken(c.options, {
        user: new Uint8Array(20),
        provider: new Uint8Array(20),
        account: { generation: 0n, revokedBitmap: BigInt(c.revokedBitmap) },
        nowMs: 1,
        random: 0.5
      })
    t.throws(plan, { message: c.message }, c.name)
  }
})

t.test('a token changed in any one byte is refused', async t => {
  const c = cases.sessionToken[3]
  const head = 'Bearer app-sk-'
  const bytes = Buffer.from(c.expect.authorization.slice(head.length), 'base64')
  const accepts = (authorization: string): boolean => {
    try {
      checkSessionToken(readSessionToken(authorization), { provider: fromHex(c.provider), nowMs: c.dateNowMs })
      return true
    } catch (err) {
      if (!(err instanceof TokenRefusal)) throw err
      return false
    }
  }
  t.ok(accepts(c.expect.authorization))
  const taken: string[] = []
  // Bit 5 turns the case of letters, which hex would read alike.
  for (const bit of [0x01, 0x20]) {
    for (let i = 0; i < bytes.length; i++) {
      const changed = Buffer.from(bytes)
      changed[i]! ^= bit
      if (accepts(head + changed.toString('base64'))) taken.push(`byte ${i} ^ ${bit}`)
    }
  }
  // Recovery takes 1.6 ms, so of the header's own characters a sample.
  for (let i = 0; i < c.expect.authorization.length; i += 7) {
    const text: string = c.expect.authorization
    const other = text[i] === 'A' ? 'B' : 'A'
    if (accepts(text.slice(0, i) + other + text.slice(i + 1))) taken.push(`character ${i}`)
  }
  t.same(taken, [])
  // This one ends in '=='; half its padding is neither form.
  const whole: string = c.expect.authorization
  for (const text of [`${whole}A`, `${whole}AAAA`, `${whole} `, `${whole}=`, whole.slice(0, -1)]) {
    t.notOk(accepts(text), JSON.stringify(text.slice(-6)))
  }
})

t.test('tokens are refused in the order and with the status of the specification', async t => {
  const key = fromHex(cases.sessionToken[0].userKey)
  const user = addressOf(key)
  const provider = fromHex('0x96a6eBe8AfFF433Ae8193476504c292E54087e59')
  const nowMs = 1_770_000_000_000
  const account = { generation: 2n, revokedBitmap: 0b100n, acknowledged: true }
  const good: SessionToken = {
    address: toHex(user),
    provider: toHex(provider),
    timestamp: nowMs,
    expiresAt: nowMs + 3_600_000,
    nonce: 'n',
    generation: 2,
    tokenId: EPHEMERAL_ID
  }
  const verdict = (
    token: Partial<SessionToken> | string | undefined,
    o: { key?: Uint8Array; account?: typeof account | null } = {}
  ): string => {
    const header =
      typeof token === 'object' ? signSessionToken({ ...good, ...token }, o.key ?? key).authorization : token
    try {
      const received = readSessionToken(header)
      checkSessionToken(received, { provider, nowMs })
      checkAccount(received.token, o.account === null ? undefined : (o.account ?? account))
      return 'ok'
    } catch (err) {
      if (!(err instanceof TokenRefusal)) throw err
      return `${err.status} ${err.reason}`
    }
  }
  const other = fromHex(cases.sessionToken[2].userKey)
  const b64 = (text: string): string => `Bearer app-sk-${Buffer.from(text).toString('base64')}`
  const table: [what: string, found: string, wanted: string][] = [
    ['a good one', verdict({}), 'ok'],
    ['no header', verdict(undefined), '401 missing_token'],
    ['another scheme', verdict('Basic abc'), '401 malformed_token'],
    ['another key form', verdict('Bearer sk-abc'), '401 malformed_token'],
    ['AAAA', verdict('Bearer app-sk-AAAA'), '401 malformed_token'],
    ['not base64', verdict('Bearer app-sk-%%%'), '401 malformed_token'],
    ['no separator', verdict(b64('{}')), '401 malformed_token'],
    ['no JSON', verdict(b64('{|0x')), '401 malformed_token'],
    ['a list', verdict(b64(`[]|0x${'0'.repeat(128)}1b`)), '401 malformed_token'],
    ['a short signature', verdict(b64(`${JSON.stringify(good)}|0x${'1'.repeat(128)}`)), '401 malformed_token'],
    ['zeros for a signature', verdict(b64(`${JSON.stringify(good)}|0x${'0'.repeat(128)}1b`)), '401 wrong_signer'],
    ['tokenId 256', verdict({ tokenId: 256 }), '401 malformed_token'],
    ['tokenId as text', verdict(b64(`${JSON.stringify({ ...good, tokenId: '1' })}|0x`)), '401 malformed_token'],
    ['a negative generation', verdict({ generation: -1 }), '401 malformed_token'],
    ['another provider', verdict({ provider: toHex(user), expiresAt: 0 }), '403 other_provider'],
    ['ephemeral without end', verdict({ expiresAt: 0 }), '401 malformed_token'],
    ['ephemeral above 24 h', verdict({ expiresAt: nowMs + 86_400_001 }), '401 malformed_token'],
    ['ephemeral of 24 h', verdict({ expiresAt: nowMs + 86_400_000 }), 'ok'],
    ['expired', verdict({ timestamp: nowMs - 10, expiresAt: nowMs - 1 }), '401 expired_token'],
    ['an hour ahead', verdict({ timestamp: nowMs + 3_600_000, expiresAt: nowMs + 3_600_001 }), 'ok'],
    ['further ahead', verdict({ timestamp: nowMs + 3_600_001, expiresAt: nowMs + 3_600_002 }), '401 future_token'],
    ['another signer', verdict({}, { key: other }), '401 wrong_signer'],
    [
      'expired and another signer',
      verdict({ expiresAt: nowMs - 1, timestamp: 1 }, { key: other }),
      '401 malformed_token'
    ],
    ['no account', verdict({}, { account: null }), '402 account_not_exist'],
    ['an old generation', verdict({ generation: 1 }), '401 revoked_token'],
    ['a generation to come', verdict({ generation: 3 }), '401 invalid_generation'],
    ['a key', verdict({ tokenId: 1, expiresAt: 0 }), 'ok'],
    ['a revoked key', verdict({ tokenId: 2, expiresAt: 0 }), '401 revoked_token'],
    ['not acknowledged', verdict({}, { account: { ...account, acknowledged: false } }), '403 not_acknowledged'],
    ['bit 255 of the bitmap', verdict({}, { account: { ...account, revokedBitmap: 1n << 255n } }), 'ok']
  ]
  for (const [what, found, wanted] of table) t.equal(found, wanted, what)
  // ECDSA's other half: the same signature with s mirrored.
  const signed = signSessionToken(good, key)
  const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n
  const s = order - BigInt(`0x${signed.signature.slice(66, 130)}`)
  const v = signed.signature.endsWith('1b') ? '1c' : '1b'
  const mirrored = `${signed.signature.slice(0, 66)}${s.toString(16).padStart(64, '0')}${v}`
  t.equal(verdict(b64(`${signed.rawMessage}|${mirrored}`)), '401 wrong_signer', 's in the upper half')
})

t.test('response signatures', async t => {
  for (const c of cases.responseSignature) {
    const key = fromHex(c.teeKey)
    const [requestHash, responseHash] = [sha256(utf8(c.request)), sha256(utf8(c.response))]
    const routing =
      c.tlsCertFingerprint === undefined
        ? undefined
        : {
            providerType: 'centralized',
            providerIdentity: 'openai',
            tlsCertFingerprint: c.tlsCertFingerprint
          }
    const text = responseText(requestHash, responseHash, routing)
    t.equal(text, c.expect.text, c.name)
    t.equal(toHex(personalHash(utf8(text))), c.expect.eip191Hash)
    const signature = signResponse(text, key)
    t.equal(toHex(signature), c.expect.signature)
    const record = signatureRecord(text, signature, addressOf(key), routing)
    t.equal(record.signing_address, c.teeSigner)
    t.ok(signedBy(record, fromHex(c.teeSigner)))
    const held = { signer: fromHex(c.teeSigner), requestHash, responseHash }
    t.same(verifyResponse(record, held), { ok: true })
    t.notOk(verifyResponse(record, { ...held, responseHash: sha256(utf8('x')) }).ok, 'another response')
    t.notOk(verifyResponse(record, { ...held, requestHash: sha256(utf8('x')) }).ok, 'another request')
    t.notOk(verifyResponse(record, { ...held, signer: new Uint8Array(20) }).ok, 'another signer')
    t.notOk(verifyResponse({ ...record, signature: `0x${'11'.repeat(65)}` }, held).ok, 'no signature')
  }
})

t.test('what the client does with a response', async t => {
  const key = (seed: number): Uint8Array => sha256(Uint8Array.of(seed))
  for (const c of cases.processResponse) {
    if (c.expect.result === 'throws') {
      t.throws(() => planVerification(c.service, c.chatID), { message: c.expect.message }, c.name)
      continue
    }
    const plan = planVerification(c.service, c.chatID)
    if ('result' in plan) {
      t.equal(plan.result, c.expect.result, c.name)
      t.equal(c.expect.httpPath, null)
      continue
    }
    t.equal(plan.path, c.expect.httpPath, c.name)
    const { TargetTeeAddress } = JSON.parse(c.service.additionalInfo)
    // The vectors name who signed; which address is compared decides the result.
    const names: Record<string, string> = {
      'teeSigner key': c.service.teeSignerAddress,
      'TargetTeeAddress key': TargetTeeAddress,
      'unrelated key': toHex(addressOf(key(1)))
    }
    t.equal(names[c.signatureServedBy] === plan.signer, c.expect.result, `${c.name}: compared with the right one`)
  }
})

t.test('fees', async t => {
  for (const c of cases.clientFeeEstimate) {
    const prices = { inputPrice: BigInt(c.inputPrice), outputPrice: BigInt(c.outputPrice) }
    t.equal(clientFeeEstimate(c.serviceType, c.content, prices), BigInt(c.expect.fee), c.content)
  }
  for (const c of cases.ogToNeuron) t.equal(ogToNeuron(c.og), BigInt(c.expect), c.jsExpression)
  const prices = { inputPrice: 7n, outputPrice: 11n }
  t.same(chatFee({ promptTokens: 3, completionTokens: 2 }, prices), { inputFee: 21n, outputFee: 22n, fee: 43n })
  t.equal(chatFee({ promptTokens: 10, completionTokens: 0, cachedTokens: 4 }, prices).fee, 70n, 'no cache rule')
  const cached = chatFee({ promptTokens: 10, completionTokens: 0, cachedTokens: 5 }, prices, { cacheDivisor: 2n })
  t.equal(cached.fee, 17n + 35n, 'rounded down')
  const clamped = chatFee({ promptTokens: 4, completionTokens: 0, cachedTokens: 9 }, prices, { cacheDivisor: 4n })
  t.equal(clamped.fee, 7n, 'not more cached than there was')
  const { tiers } = readServiceInfo(cases.additionalInfoParsing[0].additionalInfo)
  const at = (promptTokens: number): bigint =>
    chatFee({ promptTokens, completionTokens: 1 }, prices, { tiers: tiers! }).fee
  t.equal(at(32_000), 32_000n * 7n + 11n)
  t.equal(at(32_001), 32_001n * 10n + 22n, '7 × 3 / 2 rounded down')
})

t.test('service records', async t => {
  for (const c of cases.additionalInfoParsing) {
    const info = readServiceInfo(c.additionalInfo)
    const number = (f: { num: bigint; den: bigint }): number => Number(f.num) / Number(f.den)
    const tiers = info.tiers?.map(x => ({
      maxInputTokens: x.maxInputTokens,
      inputMultiplier: number(x.input),
      outputMultiplier: number(x.output)
    }))
    t.same(tiers === undefined ? null : { tiers }, c.expect.tiered, c.additionalInfo)
    t.same(info.cacheDivisor === undefined ? null : { divisor: Number(info.cacheDivisor) }, c.expect.cache)
    t.equal(info.multiModel, c.expect.multi.multiModel)
  }
  for (const bad of ['', 'null', '[]', '{"tieredPricing":{"tiers":[{}]}}', '{"tieredPricing":7}']) {
    t.equal(readServiceInfo(bad).tiers, undefined, bad)
  }
  const written = writeServiceInfo({ imageName: 'zg', imageDigest: '00' })
  t.equal(written, writeServiceInfo({ imageName: 'zg', imageDigest: '00' }), 'one form')
  t.same(readServiceInfo(written), { targetSeparated: false, teeVerifier: 'dstack', multiModel: false })
  t.throws(() => writeServiceInfo({ imageName: 'x'.repeat(4096), imageDigest: '' }), { code: 'ERR_CONFIG' })
})

t.test('quotes', async t => {
  for (const c of cases.verifyService) {
    const { TEEVerifier } = JSON.parse(c.additionalInfo)
    const found = checkQuote(c.quoteResponse, { signer: c.teeSignerAddress, teeVerifier: TEEVerifier })
    const { signerAllMatch, reportAddresses, composePassed } = c.expect
    t.same(found, { signerAllMatch, reportAddresses, composePassed }, c.name)
  }
  const signer = fromHex('0x020a6Be72995DeBC11E99950aEa63a8D3A349FE0')
  const ours = buildQuote(signer, { version: '1', commit: 'x' })
  const o = { signer: toHex(signer), teeVerifier: 'dstack' }
  const found = checkQuote(JSON.stringify(ours), o)
  t.ok(found.signerAllMatch && found.composePassed, 'ours')
  t.equal(ours.report_data, JSON.parse(cases.verifyService[0].quoteResponse).report_data)
  for (const bad of ['', '{', 'null', '{"tcb_info":"{","report_data":1,"event_log":{}}']) {
    t.same(checkQuote(bad, o), { signerAllMatch: false, reportAddresses: [], composePassed: false }, bad)
  }
})

t.test('settlements', async t => {
  t.equal(toHex(DOMAIN_TYPEHASH), vectors.typehash[Object.keys(vectors.typehash)[0]!])
  t.equal(toHex(SETTLEMENT_TYPEHASH), vectors.typehash[Object.keys(vectors.typehash)[1]!])
  for (const c of cases.inferenceSettlement) {
    const user = fromHex(c.user)
    const requests = c.requests.map((r: { requestHash: string; fee: string; inputFee: string; outputFee: string }) => ({
      id: r.requestHash,
      fee: BigInt(r.fee),
      inputFee: BigInt(r.inputFee),
      outputFee: BigInt(r.outputFee)
    }))
    t.equal(requestsPreimage(user, requests), c.expect.requestsPreimage)
    const domain = { chainId: BigInt(c.chainId), contract: fromHex(c.verifyingContract) }
    const message = {
      requestsHash: requestsHash(user, requests),
      nonce: BigInt(c.nonce),
      provider: fromHex(c.provider),
      user,
      totalFee: requests.reduce((sum: bigint, r: { fee: bigint }) => sum + r.fee, 0n)
    }
    t.equal(toHex(message.requestsHash), c.expect.requestsHash)
    t.equal(message.totalFee, BigInt(c.expect.totalFee))
    t.equal(toHex(domainSeparator(domain)), c.expect.domainSeparator)
    t.equal(toHex(settlementStructHash(message)), c.expect.structHash)
    t.equal(toHex(settlementDigest(domain, message)), c.expect.digest)
    const signature = signSettlement(domain, message, fromHex(c.teeKey))
    t.equal(toHex(signature), c.expect.signature)
    t.equal(toHex(recoverDigest(settlementDigest(domain, message), signature)), c.teeSigner.toLowerCase())
    const calldata = encodeSettlements([{ ...message, signature }])
    t.equal(toHex(calldata), c.expect.calldata)
    t.same(decodeSettlements(toHex(calldata)), [{ ...message, signature }])
  }
  t.equal(decodeSettlements('0x12345678'), undefined)
  for (let code = 0; code < 6; code++) t.equal(statusCode(settlementStatus(code)!), code)
  t.equal(settlementStatus(6), undefined)
})

t.test("the contracts' ABI", async t => {
  for (const [name, abi] of [
    ['InferenceServing', inferenceAbi()],
    ['LedgerManager', ledgerAbi()]
  ] as const) {
    const known = new Map<string, string>(
      vectors.abi[name].map((e: { type: string; sig: string; selector?: string; topic0?: string }) => [
        `${e.type} ${e.sig}`,
        e.selector ?? e.topic0
      ])
    )
    abi.forEachFunction(f => t.equal(known.get(`function ${f.format('sighash')}`), f.selector, f.name))
    abi.forEachEvent(e => t.equal(known.get(`event ${e.format('sighash')}`), e.topicHash, e.name))
    abi.forEachError(e => t.equal(known.get(`error ${e.format('sighash')}`), e.selector, e.name))
  }
  let compared = 0
  for (const c of cases.abiEncoding) {
    const abi =
      c.contract === 'LedgerManager' ? ledgerAbi() : c.contract === 'InferenceServing' ? inferenceAbi() : undefined
    const f = abi?.getFunction(c.function.split('(')[0])
    if (abi === undefined || f === null || f === undefined) continue
    compared++
    t.equal(abi.encodeFunctionData(f, c.args), c.expect.calldata, c.function)
    t.equal(abi.encodeFunctionResult(f, c.result), c.expect.returndata)
    if (f.name === 'getAccount') t.equal(typeof decodeAccount(c.expect.returndata as Hex).balance, 'bigint')
  }
  t.ok(compared >= 8, `${compared} functions compared`)
  for (const c of cases.customError) {
    const found = decodeRevert(c.expect.data)
    if (found !== undefined) t.equal(found.name, c.signature.split('(')[0])
  }
  t.equal(decodeRevert('0x'), undefined)
})
