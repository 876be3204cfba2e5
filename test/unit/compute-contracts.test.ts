/**
 * The compute contracts (compute.md 1, 3.5, 3.6, 5.4) as a genesis holds them: that their ABI is the one clients know, that they accept
 * what the published ones accept and produce the same bytes, that no bad input moves money, and that after every call a ledger's total
 * less what is available is the sum of its sub-accounts.  compute-model.test.ts adds what nobody thought of.
 */
import { readFileSync } from 'node:fs'
import { keccak_256 } from '@noble/hashes/sha3.js'
import { Interface, type InterfaceAbi, id, type Result, SigningKey, TypedDataEncoder } from 'ethers'
import t from 'tap'
import { toHex } from '../../lib/base/hex.ts'
import { contractAddresses } from '../../lib/contracts/addresses.ts'
import { SERVICE_NAMES } from '../../lib/contracts/compute-genesis.ts'
import { buildAlloc } from '../../lib/contracts/genesis.ts'
import {
  ABI,
  addressOf,
  addressText,
  callsBack,
  failure,
  INTERFACES,
  key,
  LOCK,
  lower,
  OG,
  OWNER,
  params,
  SETTLEMENT_TYPES,
  type Settlement,
  type Task,
  VERIFIER_TYPES,
  World
} from './compute-world.ts'
import { ACCOUNTS, account, type Outcome, stop, type TestContract } from './contract-chain.ts'

const ROOT = new URL('../../', import.meta.url)
const V = JSON.parse(readFileSync(new URL('test/vectors/compute-vectors.json', ROOT), 'utf8'))
t.teardown(stop)
// Three thousand calls in an interpreted EVM.
t.setTimeout(120_000)

// ABI ------------------------------------------------------------------------------------------------------------------------------

/**
 * compute.md 1.5 names abandoning; the others are errors for which deployed contracts have texts or none: not the owner, called back
 * while paying, and the rule of 1.4 that a provider is not its own user, which holds for both services.
 */
const ADDITIONS: Record<string, string[]> = {
  LedgerManager: ['OwnableInvalidOwner(address)', 'OwnableUnauthorizedAccount(address)'],
  InferenceServing: [
    'OwnableInvalidOwner(address)',
    'OwnableUnauthorizedAccount(address)',
    'ReentrancyGuardReentrantCall()'
  ],
  FineTuningServing: [
    'abandonDeliverable(address,string)',
    'DeliverableAbandoned(address,address,string,uint256)',
    'CannotAbandonSettledDeliverable(string)',
    'OwnableInvalidOwner(address)',
    'OwnableUnauthorizedAccount(address)',
    'ProviderCannotBeUser()',
    'ReentrancyGuardReentrantCall()'
  ]
}

t.test('the ABI is that of the deployed contracts, and what we add is named', async t => {
  for (const [name, entries] of Object.entries(V.abi) as [
    string,
    { type: string; sig: string; selector?: string; topic0?: string; mutability?: string }[]
  ][]) {
    const abi = new Interface(ABI[name] as InterfaceAbi)
    const ours = new Set<string>()
    abi.forEachFunction(f => ours.add(`function ${f.format('sighash')} ${f.selector} ${f.stateMutability}`))
    abi.forEachError(e => ours.add(`error ${e.format('sighash')} ${e.selector}`))
    abi.forEachEvent(e => ours.add(`event ${e.format('sighash')} ${e.topicHash}`))
    const theirs = new Set(
      entries.map(
        e => `${e.type} ${e.sig} ${e.selector ?? e.topic0}${e.mutability === undefined ? '' : ` ${e.mutability}`}`
      )
    )
    t.equal(theirs.size, entries.length)
    t.same(
      [...theirs].filter(x => !ours.has(x)),
      [],
      `${name} has all of it`
    )
    const more = [...ours].filter(x => !theirs.has(x)).map(x => x.split(' ')[1])
    t.same(more.sort(), [...ADDITIONS[name]!].sort(), `${name} adds what is named`)
    t.equal(abi.receive, true, `${name} answers plain value itself`)
  }
})

t.test('interface ids, type hashes and addresses are those of the vectors', async t => {
  const serving = [
    'addAccount',
    'depositFund',
    'requestRefundAll',
    'processRefund',
    'deleteAccount',
    'accountExists',
    'getPendingRefund'
  ]
  const world = await World.start()
  for (const contract of [world.inference, world.fineTuning]) {
    const xor = serving.reduce((sum, name) => sum ^ BigInt(contract.abi.getFunction(name)!.selector), 0n)
    t.equal(`0x${xor.toString(16).padStart(8, '0')}`, V.erc165.IServing)
    for (const [id, expected] of [
      [V.erc165.IERC165, true],
      [V.erc165.IServing, true],
      ['0xffffffff', false],
      ['0x12345678', false]
    ]) {
      t.equal((await contract.read('supportsInterface', [id]))[0], expected, id)
    }
  }
  for (const [text, hash] of Object.entries(V.typehash)) t.equal(id(text), hash)
  const table = { testnet: [16602, 16600, 1, 4242], mainnet: [16661], hardhat: [31337] }
  for (const [name, chains] of Object.entries(table)) {
    for (const chain of chains) {
      const { ledgerManager, inferenceServing, fineTuningServing } = contractAddresses(chain)
      t.same({ ledger: ledgerManager, inference: inferenceServing, fineTuning: fineTuningServing }, V.addresses[name])
    }
  }
})

t.test('calls and answers have the bytes of the vectors', async t => {
  for (const { contract, function: signature, args, result, expect } of V.cases.abiEncoding) {
    const abi = new Interface(ABI[contract] as InterfaceAbi)
    const theirs = new Interface([`function ${signature}`])
    const fragment = abi.getFunction(theirs.fragments[0]!.format('sighash'))!
    t.equal(
      fragment.format('full').replace(/^function /, ''),
      theirs
        .getFunction(fragment.selector)!
        .format('full')
        .replace(/^function /, ''),
      'names too'
    )
    t.equal(abi.encodeFunctionData(fragment, args), expect.calldata, `${contract}.${fragment.name}`)
    t.equal(abi.encodeFunctionResult(fragment, result), expect.returndata)
    const plain = (value: unknown): unknown => (Array.isArray(value) ? [...value].map(plain) : String(value))
    t.same(plain(abi.decodeFunctionResult(fragment, expect.returndata)), plain(result))
  }
})

// What the published contracts accept -----------------------------------------------------------------------------------------------

/** The contracts of a vector: those of the genesis, or the same code at the vector's address, registered beside them. */
async function worldAt(chainId: number, verifyingContract: string, name: 'inference' | 'fineTuning') {
  const world = await World.start(chainId)
  const original = world[name]
  if (lower(original.address) === lower(verifyingContract)) return { world, service: SERVICE_NAMES[name] as string }
  const alloc = await buildAlloc({ chainId, timestamp: 1_700_000_000, kind: 'network', accounts: ACCOUNTS })
  const code = alloc.find(e => toHex(e.address) === lower(original.address))!.code
  await world.chain.setCode(lower(verifyingContract), toHex(code))
  const copy = world.chain.contract(
    verifyingContract,
    ABI[name === 'inference' ? 'InferenceServing' : 'FineTuningServing']!
  )
  const rest = name === 'inference' ? [] : [30]
  const first = await copy.send('initialize', [LOCK, world.at.ledgerManager, OWNER, ...rest])
  const registered = await world.ledger.send('registerService', ['other', 'v9', verifyingContract, ''])
  if (!first.ok || !registered.ok) throw new Error(`${failure(first)}, ${failure(registered)}`)
  Object.assign(world, { [name]: copy })
  return { world, service: 'other-v9' }
}

for (const [i, v] of V.cases.inferenceSettlement.entries()) {
  t.test(`the settlement of vector ${i} is accepted: ${v.requests.length} requests, nonce ${v.nonce}`, async t => {
    const { world, service } = await worldAt(v.chainId, v.verifyingContract, 'inference')
    const { user, provider, expect } = v
    const preimage = v.requests
      .map((r: Record<string, string>) => `${r.requestHash}${user}${r.fee}${r.inputFee}${r.outputFee}`)
      .join('')
    t.equal(preimage, expect.requestsPreimage)
    t.equal(id(preimage), expect.requestsHash)
    const message = { requestsHash: expect.requestsHash, nonce: v.nonce, provider, user, totalFee: expect.totalFee }
    const domain = {
      name: '0G Inference Serving',
      version: '1',
      chainId: v.chainId,
      verifyingContract: v.verifyingContract
    }
    t.equal(TypedDataEncoder.hashDomain(domain), expect.domainSeparator)
    t.equal(TypedDataEncoder.hashStruct('TEESettlement', SETTLEMENT_TYPES, message), expect.structHash)
    t.equal(TypedDataEncoder.hash(domain, SETTLEMENT_TYPES, message), expect.digest)
    t.equal(new SigningKey(v.teeKey).sign(expect.digest).serialized, expect.signature)

    for (const address of [user, provider]) await world.chain.setBalance(lower(address), 1000n * OG)
    await world.deposit(user, 10n * OG)
    t.ok((await world.transfer(user, provider, 2n * OG, service)).ok)
    await world.serve(provider, { signer: v.teeSigner })
    const batch = world.inference.abi.decodeFunctionData('settleFeesWithTEE', expect.calldata)
    const preview = await world.view(
      world.inference,
      'previewSettlementResults',
      [...batch.map(b => [...b].map(e => [...e]))],
      provider
    )
    t.same(
      preview.map(list => [...list]),
      [[], [], [], []],
      'nothing to object to'
    )
    const before = await world.chain.balance(lower(provider))
    const done = await world.chain.send({ from: provider, to: v.verifyingContract, data: expect.calldata })
    t.ok(done.ok, failure(done))
    t.same(world.statuses(done), [0])
    const fee = BigInt(expect.totalFee)
    t.equal((await world.chain.balance(lower(provider))) - before, fee, 'the provider has the fee')
    const account = await world.account(user, provider)
    t.same([account.nonce, account.balance], [BigInt(v.nonce), 2n * OG - fee])
    t.same(await world.ledgerOf(user), { available: 8n * OG, total: 10n * OG - fee })
    const again = await world.chain.send({ from: provider, to: v.verifyingContract, data: expect.calldata })
    t.same(world.statuses(again), [4], 'once')
  })
}

for (const [i, v] of V.cases.fineTuningSettlement.entries()) {
  t.test(`the task of vector ${i} is settled`, async t => {
    const { world, service } = await worldAt(v.chainId, v.verifyingContract, 'fineTuning')
    const { message, expect } = v
    const { user, id: task } = message
    const provider = account(5)
    const domain = {
      name: '0G Fine-Tuning Serving',
      version: '1',
      chainId: v.chainId,
      verifyingContract: v.verifyingContract
    }
    t.equal(TypedDataEncoder.hashDomain(domain), expect.domainSeparator)
    t.equal(TypedDataEncoder.hashStruct('VerifierMessage', VERIFIER_TYPES, message), expect.structHash)
    t.equal(TypedDataEncoder.hash(domain, VERIFIER_TYPES, message), expect.digest)
    t.equal(new SigningKey(v.teeKey).sign(expect.digest).serialized, expect.signature)

    await world.chain.setBalance(lower(user), 1000n * OG)
    await world.deposit(user, 10n * OG)
    await world.transfer(user, provider, 2n * OG, service)
    Object.assign(world, { signer: new SigningKey(v.teeKey) })
    await world.serveTuning(provider)
    t.ok((await world.fineTuning.send('addDeliverable', [user, task, message.modelRootHash], { from: provider })).ok)
    const acknowledged = message.encryptedSecret !== '0x'
    if (acknowledged) await world.fineTuning.send('acknowledgeDeliverable', [provider, task], { from: user })
    const before = await world.chain.balance(provider)
    const done = await world.chain.send({ from: provider, to: v.verifyingContract, data: expect.calldata })
    t.ok(done.ok, failure(done))
    t.equal((await world.chain.balance(provider)) - before, BigInt(message.taskFee))
    const [d] = await world.fineTuning.read('getDeliverable', [user, provider, task])
    t.same([d.encryptedSecret, d.acknowledged, d.settled], [message.encryptedSecret, acknowledged, true])
    t.equal((await world.ledgerOf(user)).total, 10n * OG - BigInt(message.taskFee))
    const again = await world.chain.send({ from: provider, to: v.verifyingContract, data: expect.calldata })
    t.equal(failure(again), `DeliverableAlreadySettled(${task})`)
  })
}

t.test('errors have the bytes that clients decode, each from the call that makes it', async t => {
  const USER = '0xc6b047905dd142CBC0D717235c441aEb925418E6'
  const PROVIDER = '0x96a6eBe8AfFF433Ae8193476504c292E54087e59'
  const world = await World.start()
  const { chain, ledger, inference, fineTuning } = world
  for (const address of [USER, PROVIDER]) await chain.setBalance(lower(address), 1000n * OG)
  const got: Record<string, Outcome> = {}
  got['LedgerNotExists(address)'] = await chain.call({
    to: ledger.address,
    data: ledger.abi.encodeFunctionData('getLedger', [USER])
  })
  got['ServiceNotExist(address)'] = await chain.call({
    to: inference.address,
    data: inference.abi.encodeFunctionData('getService', [PROVIDER])
  })
  got['AccountNotExists(address,address)'] = await chain.call({
    to: inference.address,
    data: inference.abi.encodeFunctionData('getAccount', [USER, PROVIDER])
  })
  got['LimitTooLarge(uint256,uint256)'] = await chain.call({
    to: inference.address,
    data: inference.abi.encodeFunctionData('getAllServices', [0, 51])
  })
  got['DirectDepositsDisabled()'] = await chain.send({ to: ledger.address, value: 1n })
  got['MinimumDepositRequired(uint256,uint256)'] = await ledger.send('addLedger', [''], { from: USER, value: 1n })
  await ledger.send('addLedger', [''], { from: USER, value: 4n * OG + 1n })
  got['LedgerExists(address)'] = await ledger.send('addLedger', [''], { from: USER, value: 3n * OG })
  got['ProviderCannotBeUser()'] = await world.transfer(USER, USER, OG)
  await world.transfer(USER, PROVIDER, 4n * OG)
  got['InsufficientAvailableBalance(uint256,uint256)'] = await world.transfer(USER, PROVIDER, 2n)
  got['InsufficientStake(uint256,uint256)'] = await inference.send('addOrUpdateService', [params()], { from: PROVIDER })
  await world.serve(PROVIDER)
  got['CannotAddStakeWhenUpdating()'] = await inference.send('addOrUpdateService', [params()], {
    from: PROVIDER,
    value: 1n
  })
  await world.settle(PROVIDER, [world.settlement(USER, PROVIDER, 4n * OG - 5n, 1n)])
  got['CannotRevokeWithNonZeroBalance(address,address,uint256)'] = await inference.send(
    'acknowledgeTEESigner',
    [PROVIDER, false],
    { from: USER }
  )

  await world.deposit(USER, 10n * OG)
  await world.transfer(USER, PROVIDER, OG, SERVICE_NAMES.fineTuning)
  await world.serveTuning(PROVIDER)
  await fineTuning.send('addDeliverable', [USER, 't1', '0x01'], { from: PROVIDER })
  got['PreviousDeliverableNotAcknowledged(string)'] = await fineTuning.send('addDeliverable', [USER, 't2', '0x01'], {
    from: PROVIDER
  })
  await fineTuning.send('acknowledgeDeliverable', [PROVIDER, 't1'], { from: USER })
  const dear = world.task({
    id: 't1',
    encryptedSecret: '0x01',
    modelRootHash: '0x01',
    nonce: 1n,
    taskFee: OG + 1n,
    user: USER
  })
  got['InvalidVerifierInput(string)'] = await fineTuning.send('settleFees', [dear], { from: PROVIDER })

  // A service that has no account and fails without a word when it is paid.
  await chain.setCode(inference.address, '0x34600b575f5f5260205ff35b5f5ffd')
  got['CallFailed()'] = await world.transfer(USER, account(7), OG)

  for (const { signature, args, expect } of V.cases.customError) {
    const outcome = got[signature]
    t.ok(outcome !== undefined && !outcome.ok, `${signature} is produced`)
    t.equal(outcome?.data, expect.data, signature)
    const abi = INTERFACES.find(abi => abi.getError(signature) !== null)!
    t.equal(abi.encodeErrorResult(signature, args), expect.data)
  }
})

// Ledgers ---------------------------------------------------------------------------------------------------------------------------

t.test('a ledger takes money in, and gives it out to the last neuron', async t => {
  const world = await World.start()
  const { chain, ledger, inference } = world
  const [user, friend, provider] = [account(1), account(2), account(5)]
  const refuse = async (sent: Promise<Outcome>, error: string) => t.equal(failure(await sent), error)

  await refuse(
    ledger.send('addLedger', [''], { from: user, value: 3n * OG - 1n }),
    `MinimumDepositRequired(${3n * OG - 1n}, ${3n * OG})`
  )
  await refuse(world.deposit(user, 3n * OG - 1n), `MinimumDepositRequired(${3n * OG - 1n}, ${3n * OG})`)
  await refuse(world.deposit(user, 0n), 'ZeroAmountNotAllowed()')
  await refuse(
    ledger.send('addLedger', ['x'.repeat(4097)], { from: user, value: 3n * OG }),
    'AdditionalInfoTooLong(4097, 4096)'
  )
  await refuse(
    ledger.send('depositFundFor', [`0x${'0'.repeat(40)}`], { from: user, value: 3n * OG }),
    'ZeroAddressNotAllowed()'
  )
  const absent = `LedgerNotExists(${addressText(user)})`
  for (const [name, args] of [
    ['refund', [1]],
    ['deleteLedger', []],
    ['updateAdditionalInfo', ['']],
    ['transferFund', [provider, SERVICE_NAMES.inference, OG]],
    ['retrieveFund', [[provider], SERVICE_NAMES.inference]]
  ] as [string, unknown[]][]) {
    await refuse(ledger.send(name, args, { from: user }), absent)
  }
  t.equal(await chain.balance(ledger.address), 0n, 'nothing stays of what was refused')

  const added = await ledger.send('addLedger', ['i'.repeat(4096)], { from: user, value: 3n * OG })
  t.same([...ledger.abi.decodeFunctionResult('addLedger', added.data)], [3n * OG, 0n])
  t.ok((await ledger.send('depositFundFor', [user], { from: friend, value: 1n })).ok)
  t.same(await world.ledgerOf(user), { available: 3n * OG + 1n, total: 3n * OG + 1n })
  t.ok((await ledger.send('depositFundFor', [friend], { from: user, value: 3n * OG })).ok, 'makes one for a friend')
  await refuse(
    ledger.send('updateAdditionalInfo', ['x'.repeat(4097)], { from: user }),
    'AdditionalInfoTooLong(4097, 4096)'
  )
  const told = await ledger.send('updateAdditionalInfo', ['new'], { from: user })
  t.same(world.logs(told, ledger), [['LedgerInfoUpdated', user, 'new']])
  t.equal((await ledger.read('getLedger', [user]))[0].additionalInfo, 'new')

  const [page, total] = await ledger.read('getAllLedgers', [1, 0])
  t.same([page.map((l: Result) => lower(l.user)), total], [[friend], 2n])
  t.same([...(await ledger.read('getAllLedgers', [2, 50]))], [[], 2n], 'nothing behind the end')
  t.equal((await ledger.read('getAllLedgers', [0, 1000]))[0].length, 2)

  await refuse(world.transfer(user, provider, OG, 'inference'), `ServiceNotFound(0x${'0'.repeat(40)})`)
  await refuse(world.transfer(user, provider, OG - 1n), `MinimumDepositRequired(${OG - 1n}, ${OG})`)
  await refuse(world.transfer(user, `0x${'0'.repeat(40)}`, OG), 'ZeroAddressNotAllowed()')
  await refuse(
    world.transfer(user, provider, 3n * OG + 2n),
    `InsufficientAvailableBalance(${3n * OG + 1n}, ${3n * OG + 2n})`
  )
  for (const service of Object.values(SERVICE_NAMES))
    await refuse(world.transfer(user, user, OG, service), 'ProviderCannotBeUser()')
  t.same(
    [...(await ledger.read('getLedgerProviders', [user, SERVICE_NAMES.inference]))[0]],
    [],
    'a refused one is not remembered'
  )
  const moved = await world.transfer(user, provider, OG)
  t.same(world.logs(moved, inference), [['BalanceUpdated', user, provider, `${OG}`, '0']])
  t.same(await world.ledgerOf(user), { available: 2n * OG + 1n, total: 3n * OG + 1n })
  t.same([...(await ledger.read('getLedgerProviders', [user, SERVICE_NAMES.inference]))[0]].map(lower), [provider])
  t.ok((await world.transfer(user, provider, 1n)).ok, 'an account that exists takes any amount')

  await refuse(ledger.send('refund', [2n * OG + 1n], { from: user }), `InsufficientBalance(${addressText(user)})`)
  await refuse(ledger.send('refund', [1], { from: user }), `MinimumDepositRequired(${2n * OG - 1n}, ${3n * OG})`)
  await refuse(ledger.send('deleteLedger', [], { from: user }), `MustWithdrawAllFundsFirst(${3n * OG + 1n})`)
  t.ok((await ledger.send('refund', [2n * OG], { from: user })).ok, 'all that is available')
  t.ok((await inference.read('accountExists', [user, provider]))[0], 'the account has money yet')
  t.same(await world.ledgerOf(user), { available: 0n, total: OG + 1n })

  await refuse(chain.send({ from: user, to: ledger.address, value: 1n }), 'DirectDepositsDisabled()')
  for (const service of [inference, world.fineTuning])
    await refuse(chain.send({ from: user, to: service.address, value: 1n }), 'DirectDepositsDisabled()')
  await refuse(ledger.send('spendFund', [user, 1], { from: user }), `CallerNotRegisteredService(${addressText(user)})`)
  await refuse(
    ledger.send('spendFund', [user, OG + 2n], { from: inference.address }),
    `InsufficientBalance(${addressText(user)})`
  )
  t.same(await world.discrepancies([user, friend], { inference: 0n, fineTuning: 0n }), [])
})

t.test('money on its way back waits its time, turns round newest first, and comes home', async t => {
  const world = await World.start()
  const { chain, ledger, inference } = world
  const [user, provider] = [account(1), account(5)]
  const refunds = async () => {
    const a = await world.account(user, provider)
    t.equal(
      a.pendingRefund,
      a.refunds.slice(0, Number(a.validRefundsLength)).reduce((sum: bigint, r: Result) => sum + r.amount, 0n)
    )
    t.same(
      a.refunds.map((r: Result) => Number(r.index)),
      a.refunds.map((_: Result, i: number) => i)
    )
    return {
      live: a.refunds.slice(0, Number(a.validRefundsLength)).map((r: Result) => r.amount),
      slots: a.refunds.length,
      balance: a.balance
    }
  }
  await world.deposit(user, 200n * OG)
  await world.transfer(user, provider, 100n * OG)
  const first = await world.retrieve(user, [provider, provider, account(8)])
  t.same(
    world.logs(first, inference),
    [['RefundRequested', user, provider, '0', `${chain.timestamp}`]],
    'once; a stranger is passed over'
  )
  t.same(await refunds(), { live: [100n * OG], slots: 1, balance: 100n * OG })

  // Each turn takes a part of the newest entry back and sends it off anew.
  for (const back of [50n, 20n, 10n, 5n]) {
    await chain.skip({ seconds: 10 })
    t.ok((await world.transfer(user, provider, back * OG)).ok)
    t.same((await world.ledgerOf(user)).available, 100n * OG, 'nothing new had to leave the ledger')
    await world.retrieve(user, [provider])
  }
  t.same(
    (await refunds()).live,
    [50n, 30n, 10n, 5n, 5n].map(x => x * OG)
  )
  await world.transfer(user, provider, OG)
  t.equal(
    failure(await world.retrieve(user, [provider])),
    `TooManyRefunds(${addressText(user)}, ${addressText(provider)})`,
    'no sixth'
  )
  t.same(
    (await refunds()).live,
    [50n, 30n, 10n, 5n, 4n].map(x => x * OG)
  )
  t.ok((await world.transfer(user, provider, 12n * OG)).ok)
  t.same(
    await refunds(),
    { live: [50n, 30n, 7n].map(x => x * OG), slots: 5, balance: 100n * OG },
    'the array does not shrink'
  )
  const all = await world.transfer(user, provider, 90n * OG)
  t.ok(all.ok)
  t.same(await refunds(), { live: [], slots: 5, balance: 103n * OG }, 'what waited first, then from the ledger')
  t.same(await world.ledgerOf(user), { available: 97n * OG, total: 200n * OG })

  await world.retrieve(user, [provider])
  const start = chain.timestamp
  await chain.skip({ seconds: 100 })
  await world.transfer(user, provider, 3n * OG)
  await world.retrieve(user, [provider])
  t.same((await refunds()).live, [100n * OG, 3n * OG])
  await chain.skip({ seconds: start + LOCK - 1 - chain.timestamp })
  await world.retrieve(user, [provider])
  t.same((await refunds()).live, [100n * OG, 3n * OG], 'a second too early')
  await chain.skip({ seconds: 1 })
  const paid = await world.retrieve(user, [provider])
  t.same(world.logs(paid, inference), [['BalanceUpdated', user, provider, `${3n * OG}`, `${3n * OG}`]])
  t.same(await refunds(), { live: [3n * OG], slots: 5, balance: 3n * OG }, 'the younger one moved to the front')
  t.equal((await world.account(user, provider)).refunds[0].createdAt, BigInt(start + 100))
  t.same(await world.ledgerOf(user), { available: 197n * OG, total: 200n * OG })
  await chain.skip({ seconds: 100 })
  await world.retrieve(user, [provider])
  t.same(await world.ledgerOf(user), { available: 200n * OG, total: 200n * OG })
  t.same(await refunds(), { live: [], slots: 5, balance: 0n })

  const held = await chain.balance(user)
  const gone = await ledger.send('refund', [200n * OG], { from: user })
  t.ok(gone.ok)
  t.equal((await chain.balance(user)) - held, 200n * OG)
  t.same(world.logs(gone, inference), [['AccountDeleted', user, provider, '0']])
  t.notOk((await inference.read('accountExists', [user, provider]))[0])
  await t.rejects(world.ledgerOf(user), /LedgerNotExists/)
  await t.rejects(world.account(user, provider), /AccountNotExists/)
  t.same([...(await ledger.read('getAllLedgers', [0, 0]))], [[], 0n])
  t.same(await world.discrepancies([user], { inference: 0n, fineTuning: 0n }), [])

  const many = Array.from({ length: 21 }, (_, i) => toHex(keccak_256(Uint8Array.of(1, i)).slice(12)))
  await world.deposit(user, 3n * OG)
  t.equal(failure(await world.retrieve(user, many)), 'TooManyProviders(21, 20)')
  t.ok((await world.retrieve(user, many.slice(1))).ok)
})

t.test('a deleted account comes back without its past, but what was signed for it stays used', async t => {
  const world = await World.start()
  const { chain, ledger, inference, fineTuning } = world
  const [user, provider] = [account(1), account(5)]
  await world.serve(provider)
  await world.serveTuning(provider)
  await world.deposit(user, 10n * OG)
  for (const service of Object.values(SERVICE_NAMES)) await world.transfer(user, provider, 5n * OG, service)
  await inference.send('revokeTokens', [provider, [3, 255]], { from: user })
  await inference.send('revokeAllTokens', [provider], { from: user })
  await inference.send('revokeToken', [provider, 7], { from: user })
  await fineTuning.send('addDeliverable', [user, 'a', '0x01'], { from: provider })
  const old = world.settlement(user, provider, 2n * OG, 100n)
  t.same(world.statuses(await world.settle(provider, [old])), [0])
  const task = world.task({ id: 'a', encryptedSecret: '0x', modelRootHash: '0x01', nonce: 50n, taskFee: OG, user })
  t.ok((await fineTuning.send('settleFees', [task], { from: provider })).ok)
  for (const wait of [0, LOCK]) {
    await chain.skip({ seconds: wait })
    for (const service of Object.values(SERVICE_NAMES)) await world.retrieve(user, [provider], service)
  }
  const { available } = await world.ledgerOf(user)
  t.equal(available, 8n * OG - (OG * 30n) / 100n)
  t.ok((await ledger.send('refund', [available], { from: user })).ok)
  t.same([...(await inference.read('getAllAccounts', [0, 0]))], [[], 0n])

  await world.deposit(user, 10n * OG)
  for (const service of Object.values(SERVICE_NAMES)) await world.transfer(user, provider, 5n * OG, service)
  const a = await world.account(user, provider)
  t.same(
    [
      a.nonce,
      a.generation,
      a.revokedBitmap,
      a.balance,
      a.pendingRefund,
      a.refunds.length,
      a.validRefundsLength,
      a.acknowledged
    ],
    [100n, 1n, 0n, 5n * OG, 0n, 0, 0n, true]
  )
  t.same(world.statuses(await world.settle(provider, [old])), [4], 'an old settlement does not count again')
  const [f] = await fineTuning.read('getAccount', [user, provider])
  t.same([f.nonce, f.deliverables.length, f.deliverablesCount, f.deliverablesHead], [50n, 0, 0n, 0n])
  await t.rejects(fineTuning.read('getDeliverable', [user, provider, 'a']), /DeliverableNotExists\(a\)/)
  await fineTuning.send('addDeliverable', [user, 'a', '0x01'], { from: provider })
  t.equal(
    failure(await fineTuning.send('settleFees', [task], { from: provider })),
    'InvalidVerifierInput(nonce should larger than the current nonce)'
  )
})

// Services --------------------------------------------------------------------------------------------------------------------------

t.test('the ledger knows its services from the genesis on, and takes more from its owner', async t => {
  const world = await World.start()
  const { chain, ledger, at } = world
  const info = async (address: string) => [...(await ledger.read('getServiceInfo', [address]))[0]].map(String)
  t.same(await info(at.inferenceServing), [
    at.inferenceServing,
    at.inferenceServing,
    'inference',
    'v1.0',
    'inference-v1.0',
    'Inference',
    'true',
    '1700000000'
  ])
  t.same((await info(at.fineTuningServing)).slice(2, 5), ['fine-tuning', 'v1.0', 'fine-tuning-v1.0'])
  const nobody = `0x${'0'.repeat(40)}`
  t.same(await info(account(7)), [nobody, nobody, '', '', '', '', 'false', '0'], 'the zero struct for a stranger')
  t.same([...(await ledger.read('getRecommendedService', ['inference']))], ['v1.0', at.inferenceServing])
  await t.rejects(ledger.read('getRecommendedService', ['other']), /NoRecommendedService\(other\)/)
  t.equal((await ledger.read('getServiceAddressByName', ['fine-tuning-v1.0']))[0], at.fineTuningServing)
  await t.rejects(ledger.read('getServiceAddressByName', ['fine-tuning']), /ServiceNotFound/)
  t.equal((await ledger.read('getAllActiveServices'))[0].length, 2)

  for (const [contract, lock] of [
    [world.inference, LOCK],
    [world.fineTuning, LOCK]
  ] as const) {
    t.equal((await contract.read('lockTime'))[0], BigInt(lock))
    t.equal((await contract.read('ledgerAddress'))[0], at.ledgerManager)
    t.equal((await contract.read('MIN_LOCKTIME'))[0], 3600n)
    t.equal((await contract.read('MAX_LOCKTIME'))[0], 604_800n)
    t.equal((await contract.read('MIN_PROVIDER_STAKE'))[0], 100n * OG)
  }
  for (const contract of [ledger, world.inference, world.fineTuning]) {
    t.equal(lower((await contract.read('owner'))[0]), OWNER)
    t.equal((await contract.read('initialized'))[0], true)
    const args =
      contract === ledger ? [OWNER] : contract === world.inference ? [LOCK, OWNER, OWNER] : [LOCK, OWNER, OWNER, 1]
    t.equal(failure(await contract.send('initialize', args)), 'AlreadyInitialized()')
  }
  t.equal((await world.fineTuning.read('penaltyPercentage'))[0], 30n)
  const constants = [3n * OG, OG, 20n, 50n, 500n, 4096n]
  for (const [i, name] of [
    'MIN_ACCOUNT_BALANCE',
    'MIN_TRANSFER_AMOUNT',
    'MAX_PROVIDERS_PER_BATCH',
    'MAX_PROVIDERS_PER_USER_PER_SERVICE',
    'MAX_SERVICES',
    'MAX_ADDITIONAL_INFO_LENGTH'
  ].entries()) {
    t.equal((await ledger.read(name))[0], constants[i])
  }

  // Says yes to every interface but the one that none has.
  const yes = '0x60043560e01c63ffffffff14155f5260205ff3'
  const service = (i: number) => toHex(keccak_256(Uint8Array.of(2, i >> 8, i & 255)).slice(12))
  await chain.setCode(service(0), yes)
  const register = (type: string, version: string, address: string, from = OWNER) =>
    ledger.send('registerService', [type, version, address, 'd'], { from })
  for (const [sent, error] of [
    [register('a', 'v1', service(0), account(1)), `OwnableUnauthorizedAccount(${addressText(account(1))})`],
    [register('', 'v1', service(0)), 'ServiceTypeRequired()'],
    [register('a', '', service(0)), 'VersionRequired()'],
    [register('a', 'v1', nobody), `InvalidServiceAddress(${nobody})`],
    [register('a', 'v1', account(3)), `ServiceMustImplementIServing(${addressText(account(3))})`],
    [register('a', 'v1', at.flow), `ServiceMustImplementIServing(${at.flow})`],
    [register('a', 'v1', at.inferenceServing), `ServiceAlreadyRegistered(${at.inferenceServing})`],
    [register('inference', 'v1.0', service(0)), 'ServiceNameExists(inference-v1.0)'],
    [ledger.send('setRecommendedService', ['a', 'v1']), 'InvalidServiceType(a)'],
    [ledger.send('setRecommendedService', ['inference', 'v2']), `ServiceNotFound(${nobody})`],
    [
      ledger.send('setRecommendedService', ['inference', 'v1.0'], { from: account(1) }),
      `OwnableUnauthorizedAccount(${addressText(account(1))})`
    ]
  ] as [Promise<Outcome>, string][]) {
    t.equal(failure(await sent), error)
  }
  const done = await register('inference', 'v2', service(0))
  t.same(world.logs(done, ledger), [['ServiceRegistered', service(0), 'inference-v2']])
  t.notOk((await ledger.read('isRecommendedVersion', ['inference', 'v2']))[0], 'not before the owner says so')
  t.ok((await ledger.send('setRecommendedService', ['inference', 'v2'])).ok)
  const [versions, addresses, flags] = await ledger.read('getAllVersions', ['inference'])
  t.same(
    [[...versions], [...addresses].map(lower), [...flags]],
    [
      ['v1.0', 'v2'],
      [lower(at.inferenceServing), service(0)],
      [false, true]
    ]
  )
  t.same(
    [
      (await ledger.read('isRecommendedVersion', ['inference', 'v2']))[0],
      (await ledger.read('isRecommendedVersion', ['inference', 'v9']))[0]
    ],
    [true, false]
  )
  t.equal((await info(at.inferenceServing))[6], 'false')
  for (let i = 3; i < 500; i++) {
    await chain.setCode(service(i), yes)
    const { ok } = await register('many', `v${i}`, service(i))
    if (!ok) t.fail(`service ${i} is refused`)
  }
  await chain.setCode(service(500), yes)
  t.equal(failure(await register('many', 'v500', service(500))), 'ServiceRegistryLimitReached(500)')
})

t.test('a provider stakes once, and the owner vouches for what it then offers', async t => {
  const world = await World.start()
  const { chain, inference, fineTuning } = world
  const provider = account(5)
  const update = (changes: Parameters<typeof params>[0], value = 0n) =>
    inference.send('addOrUpdateService', [params(changes)], { from: provider, value })
  t.equal(failure(await update({}, 100n * OG - 1n)), `InsufficientStake(${100n * OG - 1n}, ${100n * OG})`)
  t.equal(failure(await update({ info: 'x'.repeat(4097) }, 100n * OG)), 'AdditionalInfoTooLong()')
  t.equal(
    failure(await inference.send('removeService', [], { from: provider })),
    `ServiceNotExist(${addressText(provider)})`
  )
  t.equal(
    failure(await inference.send('acknowledgeTEESignerByOwner', [provider])),
    `ServiceNotExist(${addressText(provider)})`
  )
  t.equal((await inference.read('serviceExists', [provider]))[0], false)

  const added = await update({ info: 'x'.repeat(4096) }, 101n * OG)
  t.same(world.logs(added, inference), [
    ['ProviderStaked', provider, `${101n * OG}`],
    [
      'ServiceUpdated',
      provider,
      'chatbot',
      'http://127.0.0.1:9000',
      '10',
      '20',
      `${chain.timestamp}`,
      'org/model',
      'teeml'
    ]
  ])
  await update({})
  const vouched = await inference.send('acknowledgeTEESignerByOwner', [provider])
  t.same(world.logs(vouched, inference), [['ProviderTEESignerAcknowledged', provider, account(9), 'true']])
  const flag = async () => (await inference.read('getService', [provider]))[0].teeSignerAcknowledged
  for (const [changes, keeps] of [
    [{ url: 'http://b' }, true],
    [{ price: 11 }, true],
    [{ model: 'm' }, false],
    [{ info: '{"a":1}' }, false],
    [{ signer: account(8) }, false]
  ] as [Parameters<typeof params>[0], boolean][]) {
    await update({})
    await inference.send('acknowledgeTEESignerByOwner', [provider])
    await chain.skip({ seconds: 1 })
    t.ok((await update(changes)).ok)
    t.equal(await flag(), keeps, `${Object.keys(changes!)}`)
    const [s] = await inference.read('getService', [provider])
    const expected = params(changes)
    t.same(
      [
        s.serviceType,
        s.url,
        s.model,
        s.verifiability,
        Number(s.inputPrice),
        Number(s.outputPrice),
        s.additionalInfo,
        lower(s.teeSignerAddress),
        s.updatedAt
      ],
      [...expected, BigInt(chain.timestamp)]
    )
  }
  await inference.send('acknowledgeTEESignerByOwner', [provider])
  await inference.send('revokeTEESignerAcknowledgement', [provider])
  t.equal(await flag(), false)
  for (const [contract, name, args] of [
    [inference, 'acknowledgeTEESignerByOwner', [provider]],
    [inference, 'revokeTEESignerAcknowledgement', [provider]],
    [inference, 'updateLockTime', [3600]],
    [fineTuning, 'updatePenaltyPercentage', [1]],
    [inference, 'transferOwnership', [provider]]
  ] as [TestContract, string, unknown[]][]) {
    t.equal(
      failure(await contract.send(name, args, { from: provider })),
      `OwnableUnauthorizedAccount(${addressText(provider)})`,
      name
    )
  }

  for (const value of [3599, 604_801]) {
    t.equal(failure(await inference.send('updateLockTime', [value])), `LockTimeOutOfRange(${value}, 3600, 604800)`)
    t.equal(
      (await fineTuning.send('updateLockTime', [value])).data,
      fineTuning.abi.encodeErrorResult('LockTimeOutOfRange', [value])
    )
  }
  t.same(world.logs(await inference.send('updateLockTime', [3600]), inference), [
    ['LockTimeUpdated', `${LOCK}`, '3600']
  ])
  t.equal(failure(await fineTuning.send('updatePenaltyPercentage', [101])), 'PenaltyPercentageTooHigh(101)')
  t.ok((await fineTuning.send('updatePenaltyPercentage', [100])).ok)

  for (const i of [6, 7]) await world.serve(account(i))
  const [services, total] = await inference.read('getAllServices', [1, 1])
  t.same([services.map((s: Result) => lower(s.provider)), total], [[account(6)], 3n])
  t.same([...(await inference.read('getAllServices', [3, 50]))], [[], 3n])
  const held = await chain.balance(provider)
  const removed = await inference.send('removeService', [], { from: provider })
  t.same(world.logs(removed, inference), [
    ['ServiceRemoved', provider],
    ['ProviderStakeReturned', provider, `${101n * OG}`]
  ])
  t.equal((await chain.balance(provider)) - held, 101n * OG)
  await t.rejects(inference.read('getService', [provider]), /ServiceNotExist/)
  t.equal(
    failure(await inference.send('removeService', [], { from: provider })),
    `ServiceNotExist(${addressText(provider)})`,
    'the stake comes once'
  )
  await update({}, 100n * OG)
  t.equal(await flag(), false, 'the word for the old service is not for the new one')

  await world.serveTuning(provider)
  const tuning = (signer: string, url: string) =>
    fineTuning.send('addOrUpdateService', [url, [1, 2, 3, 4, 'H200'], 8, true, ['a', 'b'], signer], { from: provider })
  await tuning(addressOf(world.signer), 'http://c')
  const [s] = (await fineTuning.read('getAllServices'))[0]
  t.same(
    [
      lower(s.provider),
      s.url,
      [...s.quota].map(String),
      s.pricePerToken,
      s.occupied,
      [...s.models],
      s.teeSignerAcknowledged
    ],
    [provider, 'http://c', ['1', '2', '3', '4', 'H200'], 8n, true, ['a', 'b'], true]
  )
  await tuning(account(9), 'http://c')
  t.equal((await fineTuning.read('getService', [provider]))[0].teeSignerAcknowledged, false, 'a new signer')
  t.equal((await fineTuning.send('removeService', [], { from: provider })).ok, true)
  t.same([...(await fineTuning.read('getAllServices'))[0]], [])
  t.same(await world.discrepancies([], { inference: 300n * OG, fineTuning: 0n }), [])
})

t.test('only the ledger opens, fills, empties and closes accounts', async t => {
  const world = await World.start()
  for (const [contract, error] of [
    [world.inference, `CallerNotLedger(${addressText(OWNER)})`],
    [world.fineTuning, 'CallerNotLedger()']
  ] as const) {
    for (const [name, args] of [
      ['addAccount', [account(1), account(5), '']],
      ['depositFund', [account(1), account(5), 0]],
      ['requestRefundAll', [account(1), account(5)]],
      ['processRefund', [account(1), account(5)]],
      ['deleteAccount', [account(1), account(5)]]
    ] as [string, unknown[]][]) {
      t.equal(failure(await contract.send(name, args)), error, name)
    }
    const from = world.ledger.address
    const add = (info: string) => contract.send('addAccount', [account(1), account(5), info], { from })
    t.equal(failure(await add('x'.repeat(4097))), 'AdditionalInfoTooLong()')
    t.ok((await add('x'.repeat(4096))).ok)
    t.equal(failure(await add('')), `AccountExists(${addressText(account(1))}, ${addressText(account(5))})`)
  }
})

t.test(
  'users find their accounts, providers theirs, in pages; tokens are revoked one by one or all at once',
  async t => {
    const world = await World.start()
    const { inference, fineTuning } = world
    const users = [account(1), account(2), account(3)]
    for (const user of users) {
      await world.deposit(user, 30n * OG)
      for (const p of [5, 6]) {
        for (const service of Object.values(SERVICE_NAMES))
          await world.transfer(user, account(p), BigInt(p) * OG, service)
      }
    }
    const names = (list: Result) => [...list].map(a => [lower(a.user), lower(a.provider)])
    for (const contract of [inference, fineTuning]) {
      const limit = contract === inference ? 'LimitTooLarge(51, 50)' : 'LimitTooLarge(51)'
      for (const [name, args, expected, total] of [
        [
          'getAccountsByUser',
          [users[1]],
          [
            [users[1], account(5)],
            [users[1], account(6)]
          ],
          2n
        ],
        ['getAccountsByProvider', [account(6)], users.map(user => [user, account(6)]), 3n],
        [
          'getAllAccounts',
          [],
          users.flatMap(user => [
            [user, account(5)],
            [user, account(6)]
          ]),
          6n
        ]
      ] as [string, unknown[], string[][], bigint][]) {
        const all = await contract.read(name, [...args, 0, 0])
        t.same([names(all.accounts), all.total], [expected, total], name)
        const one = await contract.read(name, [...args, 1, 1])
        t.same([names(one.accounts), one.total], [[expected[1]], total])
        t.same([...(await contract.read(name, [...args, total, 50]))], [[], total])
        await t.rejects(contract.read(name, [...args, 0, 51]), { message: limit })
      }
      const [batch] = await world.view(
        contract,
        'getBatchAccountsByUsers',
        [[users[2], account(9), users[0]]],
        account(5)
      )
      t.same(names(batch), [
        [users[2], account(5)],
        [`0x${'0'.repeat(40)}`, `0x${'0'.repeat(40)}`],
        [users[0], account(5)]
      ])
      t.equal(batch[0].balance, 5n * OG)
      await t.rejects(contract.read('getBatchAccountsByUsers', [Array(501).fill(users[0])]), {
        message: 'BatchSizeTooLarge(501, 500)'
      })
    }

    const [user] = users
    const revoked = async (token: number) => (await inference.read('isTokenRevoked', [user, account(5), token]))[0]
    const send = (name: string, args: unknown[]) => inference.send(name, args, { from: user! })
    t.same(world.logs(await send('revokeToken', [account(5), 255]), inference), [
      ['TokenRevoked', user, account(5), '255']
    ])
    t.same(world.logs(await send('revokeTokens', [account(5), [0, 9, 9]]), inference), [
      ['TokensRevoked', user, account(5), '0,9,9']
    ])
    t.same([await revoked(0), await revoked(1), await revoked(9), await revoked(255)], [true, false, true, true])
    t.equal((await world.account(user!, account(5))).revokedBitmap, (1n << 255n) | (1n << 9n) | 1n)
    t.same(world.logs(await send('revokeAllTokens', [account(5)]), inference), [
      ['AllTokensRevoked', user, account(5), '1']
    ])
    const a = await world.account(user!, account(5))
    t.same([a.generation, a.revokedBitmap, await revoked(0)], [1n, 0n, false])
    for (const [name, args] of [
      ['revokeToken', [account(8), 1]],
      ['revokeTokens', [account(8), [1]]],
      ['revokeAllTokens', [account(8)]],
      ['acknowledgeTEESigner', [account(8), true]]
    ] as [string, unknown[]][]) {
      t.equal(failure(await send(name, args)), `AccountNotExists(${addressText(user!)}, ${addressText(account(8))})`)
    }
  }
)

// Settlement ------------------------------------------------------------------------------------------------------------------------

t.test('each settlement of a batch gets what it deserves, and nothing more', async t => {
  const world = await World.start()
  const { chain, ledger, inference } = world
  const [ann, ben, provider, other] = [account(1), account(2), account(5), account(6)]
  await world.serve(provider)
  await world.serve(other)
  for (const user of [ann, ben]) {
    await world.deposit(user, 20n * OG)
    await world.transfer(user, provider, 4n * OG)
  }
  const s = (changes: Partial<Settlement> = {}, signer = world.signer) => {
    const { user = ann, totalFee = OG, nonce = 10n } = changes
    return { ...world.settlement(user, changes.provider ?? provider, totalFee, nonce, signer), ...changes }
  }
  const preview = async (batch: Settlement[]) => {
    const [users, reasons, partial, amounts] = await world.view(
      inference,
      'previewSettlementResults',
      [batch],
      provider
    )
    return {
      failed: users.map((u: string, i: number) => [lower(u), Number(reasons[i])]),
      partial: partial.map((u: string, i: number) => [lower(u), amounts[i]])
    }
  }
  t.equal(failure(await world.settle(provider, [])), 'NoSettlementsProvided()')
  t.equal(failure(await world.settle(provider, Array(51).fill(s()))), 'TooManySettlements(51, 50)')
  await t.rejects(preview([]), /NoSettlementsProvided/)
  await t.rejects(preview(Array(51).fill(s())), /TooManySettlements/)

  // Forms of one good signature that must not count.
  const good = s()
  const [r, low, v] = [
    good.signature.slice(2, 66),
    BigInt(`0x${good.signature.slice(66, 130)}`),
    Number(`0x${good.signature.slice(130)}`)
  ]
  const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n
  const word = (n: bigint) => n.toString(16).padStart(64, '0')
  const byte = (n: number) => n.toString(16).padStart(2, '0')
  t.ok(low <= order / 2n)
  const bad: [string, number, Settlement][] = [
    ['a high s', 5, s({ signature: `0x${r}${word(order - low)}${byte(v === 27 ? 28 : 27)}` })],
    ['v of 0 or 1', 5, s({ signature: `0x${r}${word(low)}${byte(v - 27)}` })],
    ['v of 29', 5, s({ signature: `0x${r}${word(low)}1d` })],
    ['64 bytes', 5, s({ signature: `0x${r}${word(low)}` })],
    ['66 bytes', 5, s({ signature: `${good.signature}00` })],
    ['no bytes', 5, s({ signature: '0x' })],
    ['zeros', 5, s({ signature: `0x${'00'.repeat(64)}1b` })],
    ['another signer', 5, s({}, key('another'))],
    ['another fee', 5, s({ totalFee: 2n * OG, signature: good.signature })],
    ['another hash', 5, s({ requestsHash: id('x') })],
    ['no account', 5, s({ user: account(3) })],
    ['another provider', 2, s({ provider: other })],
    ['a nonce of 0', 4, s({ nonce: 0n })]
  ]
  for (const [name, status, entry] of bad) {
    t.same((await preview([entry])).failed, [[entry.user, status]], `${name}: preview`)
    const done = await world.settle(provider, [entry])
    t.same(world.statuses(done), [status], name)
    t.same(world.logs(done, inference), [['TEESettlementResult', entry.user, `${status}`, `${entry.totalFee}`]])
  }
  const untouched = await world.account(ann, provider)
  t.same([untouched.nonce, untouched.balance], [0n, 4n * OG])
  t.same(world.statuses(await world.settle(other, [good])), [2], 'and it is of no use to another provider')

  // One batch: duplicates of a user are judged in order, each on what the one before left.
  const batch = [
    good,
    s(),
    s({ nonce: 9n }),
    s({ nonce: 11n, totalFee: 5n * OG }),
    s({ nonce: 12n, totalFee: 7n }),
    s({ user: ben, nonce: 2n ** 256n - 1n, totalFee: 0n }),
    bad[0]![2],
    s({ user: ben, nonce: 5n, totalFee: OG })
  ]
  t.same(
    await preview(batch),
    { failed: [[ann, 5]], partial: [[ann, 4n * OG]] },
    'the preview judges each on the state as it is'
  )
  const before = await chain.balance(provider)
  const done = await world.settle(provider, batch)
  t.same(world.statuses(done), [0, 4, 4, 1, 1, 0, 4, 4])
  t.same(
    world
      .logs(done, inference)
      .filter(([name]) => name === 'TEESettlementResult')
      .map(l => l.slice(1)),
    [
      [ann, '0', '0'],
      [ann, '4', `${OG}`],
      [ann, '4', `${OG}`],
      [ann, '1', `${2n * OG}`],
      [ann, '1', '7'],
      [ben, '0', '0'],
      [ann, '4', `${OG}`],
      [ben, '4', `${OG}`]
    ]
  )
  t.same(world.logs(done, ledger), [
    ['FundSpent', ann, lower(inference.address), `${OG}`],
    ['FundSpent', ann, lower(inference.address), `${3n * OG}`]
  ])
  t.equal((await chain.balance(provider)) - before, 4n * OG)
  t.same(await world.ledgerOf(ann), { available: 16n * OG, total: 16n * OG }, 'available does not change')
  t.same((await world.account(ann, provider)).nonce, 12n, 'a partial one uses its nonce')

  // What waits to be refunded pays too, the newest first.
  await world.transfer(ann, provider, 6n * OG)
  await world.retrieve(ann, [provider])
  await world.transfer(ann, provider, 2n * OG)
  await world.retrieve(ann, [provider])
  await world.transfer(ann, provider, 1n * OG)
  t.same(world.statuses(await world.settle(provider, [s({ nonce: 13n, totalFee: 3n * OG })])), [0])
  const a = await world.account(ann, provider)
  t.same([a.balance, a.pendingRefund, a.validRefundsLength, a.refunds[0].amount], [3n * OG, 3n * OG, 1n, 3n * OG])
  t.same(await world.discrepancies([ann, ben], { inference: 200n * OG, fineTuning: 0n }), [])

  // Words taken back.
  await inference.send('revokeTEESignerAcknowledgement', [provider])
  t.same(world.statuses(await world.settle(provider, [s({ nonce: 14n })])), [3], 'the owner no longer vouches')
  await inference.send('acknowledgeTEESignerByOwner', [provider])
  t.same(world.statuses(await world.settle(provider, [s({ nonce: 14n, totalFee: 3n * OG })])), [0])
  t.ok(
    (await inference.send('acknowledgeTEESigner', [provider, false], { from: ann })).ok,
    'with nothing left the user may go too'
  )
  t.same(world.statuses(await world.settle(provider, [s({ nonce: 15n })])), [3])
  await world.transfer(ann, provider, OG)
  t.equal((await world.account(ann, provider)).acknowledged, true, 'a deposit is trust')
  await inference.send('removeService', [], { from: provider })
  t.same(world.statuses(await world.settle(provider, [s({ nonce: 15n })])), [2], 'no service any more')
  t.same((await preview([s({ nonce: 15n })])).failed, [[ann, 2]])
  await inference.send('addOrUpdateService', [params({ signer: `0x${'0'.repeat(40)}` })], {
    from: provider,
    value: 100n * OG
  })
  await inference.send('acknowledgeTEESignerByOwner', [provider])
  t.same(
    world.statuses(await world.settle(provider, [s({ nonce: 15n, signature: `0x${'00'.repeat(64)}1b` })])),
    [3],
    'nobody is no signer'
  )
})

t.test('a provider that reenters or takes no money changes nobody\u2019s books', async t => {
  const world = await World.start()
  const { chain, inference, fineTuning, ledger } = world
  const [user, provider] = [account(1), account(5)]
  await world.serve(provider)
  await world.serveTuning(provider)
  await world.deposit(user, 20n * OG)
  for (const service of Object.values(SERVICE_NAMES)) await world.transfer(user, provider, 5n * OG, service)
  await fineTuning.send('addDeliverable', [user, 'a', '0x01'], { from: provider })
  const task = world.task({ id: 'a', encryptedSecret: '0x', modelRootHash: '0x01', nonce: 5n, taskFee: OG, user })
  const stakes = { inference: 100n * OG, fineTuning: 100n * OG }

  await chain.setCode(provider, '0x5f5ffd')
  t.equal(failure(await world.settle(provider, [world.settlement(user, provider, OG, 1n)])), 'TransferFailed()')
  t.equal(failure(await inference.send('removeService', [], { from: provider })), 'TransferFailed()')
  t.equal(failure(await fineTuning.send('settleFees', [task], { from: provider })), 'ETHTransferFailed()')
  t.equal(failure(await fineTuning.send('removeService', [], { from: provider })), 'ETHTransferFailed()')
  t.equal((await world.account(user, provider)).nonce, 0n)
  t.equal((await inference.read('serviceExists', [provider]))[0], true)
  t.same(await world.ledgerOf(user), { available: 10n * OG, total: 20n * OG })
  t.same(await world.discrepancies([user], stakes), [])
  t.same(
    world.statuses(await world.settle(provider, [world.settlement(user, provider, 0n, 1n)])),
    [0],
    'nothing due, nothing sent'
  )

  // On being paid it calls back, and takes the money whatever comes of it; its log says what came.
  for (const [name, target, data, outer] of [
    [
      'the same settlement',
      inference,
      inference.abi.encodeFunctionData('settleFeesWithTEE', [[world.settlement(user, provider, OG, 2n)]]),
      2n
    ],
    [
      'the next settlement',
      inference,
      inference.abi.encodeFunctionData('settleFeesWithTEE', [[world.settlement(user, provider, OG, 4n)]]),
      3n
    ],
    ['its stake', inference, inference.abi.encodeFunctionData('removeService'), 5n]
  ] as [string, TestContract, string, bigint][]) {
    await chain.setCode(provider, callsBack(target.address, data))
    const before = await chain.balance(provider)
    const done = await world.settle(provider, [world.settlement(user, provider, OG, outer)])
    t.same(world.statuses(done), [0], name)
    const own = done.logs.find(l => lower(l.address) === provider)
    t.equal(BigInt(own!.data), 0n, 'the call back failed')
    t.equal((await chain.balance(provider)) - before, OG)
  }
  const before = await chain.balance(provider)
  t.ok((await inference.send('removeService', [], { from: provider })).ok)
  t.equal((await chain.balance(provider)) - before, 100n * OG, 'the stake comes once')
  await chain.setCode(provider, callsBack(fineTuning.address, fineTuning.abi.encodeFunctionData('removeService')))
  t.ok((await fineTuning.send('settleFees', [task], { from: provider })).ok)
  t.same(await world.discrepancies([user], { inference: 0n, fineTuning: 100n * OG }), [])

  // A user that is a contract finds its ledger locked while it is being paid.
  for (const [name, args] of [
    ['refund', [OG]],
    ['depositFund', []],
    ['deleteLedger', []],
    ['transferFund', [account(7), SERVICE_NAMES.inference, OG]],
    ['retrieveFund', [[provider], SERVICE_NAMES.inference]]
  ] as [string, unknown[]][]) {
    await chain.setCode(user, callsBack(ledger.address, ledger.abi.encodeFunctionData(name, args)))
    const done = await ledger.send('refund', [OG], { from: user })
    t.ok(done.ok, name)
    t.equal(BigInt(done.logs.find(l => lower(l.address) === user)!.data), 0n)
  }
  await chain.setCode(user, '0x5f5ffd')
  const held = await world.ledgerOf(user)
  t.equal(failure(await ledger.send('refund', [OG], { from: user })), 'TransferFailed()')
  t.same(await world.ledgerOf(user), held)
  t.same(await world.discrepancies([user], { inference: 0n, fineTuning: 100n * OG }), [])
})

// Fine-tuning -----------------------------------------------------------------------------------------------------------------------

t.test('deliverables follow one another, twenty are kept, and each is paid for once', async t => {
  const world = await World.start()
  const { chain, fineTuning } = world
  const [user, provider] = [account(1), account(5)]
  await world.serveTuning(provider)
  await world.deposit(user, 100n * OG)
  const add = (id: string, root = '0x01') => fineTuning.send('addDeliverable', [user, id, root], { from: provider })
  const ack = (id: string) => fineTuning.send('acknowledgeDeliverable', [provider, id], { from: user })
  const abandon = (id: string) => fineTuning.send('abandonDeliverable', [user, id], { from: provider })
  let nonce = 0n
  const pay = (id: string, changes: Partial<Task> = {}, signer = world.signer) => {
    const fields = { id, encryptedSecret: '0x', modelRootHash: '0x01', nonce: ++nonce, taskFee: OG, user, ...changes }
    return fineTuning.send('settleFees', [{ ...world.task(fields, signer), ...changes }], { from: provider })
  }
  const refuse = async (sent: Promise<Outcome>, error: string) => t.equal(failure(await sent), error)
  const absent = `AccountNotExists(${addressText(user)}, ${addressText(provider)})`
  await refuse(add('a'), absent)
  await refuse(pay('a'), absent)
  await world.transfer(user, provider, 50n * OG, SERVICE_NAMES.fineTuning)
  await refuse(add(''), 'DeliverableIdInvalidLength(0)')
  await refuse(add('x'.repeat(257)), 'DeliverableIdInvalidLength(257)')
  await refuse(ack('a'), 'DeliverableNotExists(a)')
  await refuse(pay('a'), 'DeliverableNotExists(a)')
  await refuse(abandon('a'), 'DeliverableNotExists(a)')

  const long = 'x'.repeat(256)
  const root = toHex(keccak_256(Uint8Array.of(1)))
  const added = await add(long, root)
  t.same(world.logs(added, fineTuning), [['DeliverableAdded', user, provider, long, root, `${chain.timestamp}`]])
  await refuse(add(long), `DeliverableAlreadyExists(${long})`)
  await refuse(add('b'), `PreviousDeliverableNotAcknowledged(${long})`)
  t.same(world.logs(await ack(long), fineTuning), [
    ['DeliverableAcknowledged', user, provider, long, `${chain.timestamp}`]
  ])
  const invalid = (reason: string) => `InvalidVerifierInput(${reason})`
  await refuse(pay(long), invalid('model root hash mismatch'))
  const whole = { modelRootHash: root, encryptedSecret: '0xabcd' }
  await refuse(pay(long, { modelRootHash: root }), 'SecretShouldNotBeEmpty()')
  await refuse(pay(long, { ...whole, nonce: 0n }), invalid('nonce should larger than the current nonce'))
  await refuse(pay(long, { ...whole, taskFee: 50n * OG + 1n }), invalid('insufficient balance'))
  await refuse(pay(long, whole, key('another')), invalid('TEE settlement validation failed'))
  await refuse(pay(long, { ...whole, signature: `0x${'00'.repeat(65)}` }), invalid('TEE settlement validation failed'))
  await fineTuning.send('revokeTEESignerAcknowledgement', [provider])
  await refuse(pay(long, whole), invalid('TEE signer not acknowledged'))
  await fineTuning.send('acknowledgeTEESignerByOwner', [provider])

  await world.retrieve(user, [provider], SERVICE_NAMES.fineTuning)
  const before = await chain.balance(provider)
  const paid = await pay(long, whole)
  t.same(world.logs(paid, fineTuning), [
    ['BalanceUpdated', user, provider, `${49n * OG}`, `${49n * OG}`],
    ['FeesSettled', user, provider, long, `${OG}`, 'true', `${nonce}`]
  ])
  t.equal((await chain.balance(provider)) - before, OG, 'also out of what waits to be refunded')
  await refuse(pay(long, whole), `DeliverableAlreadySettled(${long})`)
  await refuse(ack(long), `CannotAcknowledgeSettledDeliverable(${long})`)
  await refuse(abandon(long), `CannotAbandonSettledDeliverable(${long})`)
  const [d] = await fineTuning.read('getDeliverable', [user, provider, long])
  t.same(
    [d.id, d.modelRootHash, d.encryptedSecret, d.acknowledged, d.timestamp, d.settled],
    [long, root, '0xabcd', true, BigInt(chain.timestamp), true]
  )

  // Never acknowledged: a part of the fee, rounded down, and no secret.
  await add('b')
  await refuse(pay('b', { encryptedSecret: '0x01' }), 'SecretShouldBeEmpty()')
  const part = await pay('b', { taskFee: 10n * OG + 99n })
  t.same(world.logs(part, fineTuning).at(-1), [
    'FeesSettled',
    user,
    provider,
    'b',
    `${3n * OG + 29n}`,
    'false',
    `${nonce}`
  ])
  // Lost: given up by its provider.
  t.ok((await add('c')).ok, 'one that was settled without is no obstacle')
  t.same(world.logs(await abandon('c'), fineTuning), [
    ['DeliverableAbandoned', user, provider, 'c', `${chain.timestamp}`]
  ])
  await refuse(pay('c'), 'DeliverableAlreadySettled(c)')

  // 17 more fill the ring; the fourth of these stays unpaid.
  const ids = [long, 'b', 'c', ...Array.from({ length: 17 }, (_, i) => `t${i}`)]
  for (const id of ids.slice(3)) {
    t.ok((await add(id)).ok)
    await ack(id)
    if (id !== 't3') t.ok((await pay(id, { encryptedSecret: '0x02' })).ok)
  }
  const names = async () => [...(await fineTuning.read('getDeliverables', [user, provider]))[0]].map(d => d.id)
  t.same(await names(), ids)
  const evicted = await add('u0')
  t.same(world.logs(evicted, fineTuning)[0], ['DeliverableEvicted', provider, user, long, 'u0', `${chain.timestamp}`])
  t.same(await names(), [...ids.slice(1), 'u0'], 'oldest first')
  await refuse(
    fineTuning
      .read('getDeliverable', [user, provider, long])
      .catch(err => ({ ok: false, error: err.message, data: '' }) as unknown as Outcome) as Promise<Outcome>,
    `DeliverableNotExists(${long})`
  )
  for (let i = 1; i < 6; i++) {
    await ack(`u${i - 1}`)
    t.ok((await add(`u${i}`)).ok)
  }
  await ack('u5')
  await refuse(add('u6'), 'CannotEvictUnsettledDeliverable(t3)')
  const [a] = await fineTuning.read('getAccount', [user, provider])
  t.same([a.deliverablesHead, a.deliverablesCount, a.deliverables.length, a.nonce], [6n, 20n, 20, nonce])
  t.same(
    a.deliverables.map((d: Result) => d.id),
    await names()
  )
  t.ok((await pay('t3', { encryptedSecret: '0x02' })).ok)
  t.ok((await add('u6')).ok)
  t.ok(
    (await fineTuning.read('getDeliverable', [user, provider, 'u0']))[0].acknowledged,
    'places of others are still right'
  )
  const [summary] = (await fineTuning.read('getAccountsByUser', [user, 0, 0])).accounts
  t.same([summary.deliverablesCount, summary.nonce, summary.balance], [20n, nonce, a.balance - OG])
  t.same(await world.discrepancies([user], { inference: 0n, fineTuning: 100n * OG }), [])

  await fineTuning.send('removeService', [], { from: provider })
  await refuse(pay('u0', { encryptedSecret: '0x01' }), `ServiceNotExist(${addressText(provider)})`)
})

// Limits ----------------------------------------------------------------------------------------------------------------------------

t.test('full batches and full ledgers fit into a block', async t => {
  const world = await World.start()
  const { chain, ledger, inference } = world
  const provider = account(5)
  await world.serve(provider)
  const users = Array.from({ length: 50 }, (_, i) => toHex(keccak_256(Uint8Array.of(3, i)).slice(12)))
  for (const user of users) {
    await chain.setBalance(user, 100n * OG)
    await world.deposit(user, 10n * OG)
    await world.transfer(user, provider, 2n * OG)
  }
  const batch = (nonce: bigint) => users.map(user => world.settlement(user, provider, 1n, nonce))
  const first = await world.settle(provider, batch(1n))
  t.same(world.statuses(first), Array(50).fill(0))
  const later = await world.settle(provider, batch(2n))
  const one = await world.settle(provider, batch(3n).slice(0, 1))
  t.comment(`settleFeesWithTEE: ${one.gas} gas for 1, ${later.gas} for 50, ${first.gas} when it is their first`)
  t.ok(one.gas < 120_000n && later.gas < 2_500_000n && first.gas < 3_500_000n, 'gas stays within what was measured')

  const user = account(1)
  await world.deposit(user, 1000n * OG)
  for (const u of users) if (!(await world.transfer(user, u, OG)).ok) t.fail(`no account with ${u}`)
  t.equal(failure(await world.transfer(user, provider, OG)), 'TooManyProvidersForService(50, 50)')
  t.ok((await world.transfer(user, users[49]!, 1n)).ok, 'the old ones can be filled')
  t.ok((await world.transfer(user, provider, OG, SERVICE_NAMES.fineTuning)).ok, 'each service has its own fifty')
  for (const wait of [0, LOCK]) {
    await chain.skip({ seconds: wait })
    for (let i = 0; i < 50; i += 20) await world.retrieve(user, users.slice(i, i + 20))
    await world.retrieve(user, [provider], SERVICE_NAMES.fineTuning)
  }
  const out = await ledger.send('refund', [1000n * OG], { from: user, gas: 16_777_216n })
  t.ok(out.ok, failure(out))
  t.comment(`refund with 51 sub-accounts: ${out.gas} gas`)
  t.equal((await inference.read('getAccountsByUser', [user, 0, 0])).total, 0n)
  t.same(await world.discrepancies([...users, user], { inference: 100n * OG, fineTuning: 0n }), [])
})

t.test('a genesis takes lock time and penalty within the contracts\u2019 ranges', async t => {
  const options = { chainId: 31337, timestamp: 1_700_000_000, kind: 'network', accounts: ACCOUNTS } as const
  const word = (n: number) => n.toString(16).padStart(64, '0')
  const alloc = await buildAlloc({ ...options, compute: { lockSeconds: 3600, penaltyPercent: 7 } })
  const values = (address: string) =>
    alloc.find(e => toHex(e.address) === lower(address))!.storage.map(([, value]) => toHex(value).slice(2))
  const at = contractAddresses(31337)
  t.ok(values(at.inferenceServing).includes(word(3600)))
  t.ok(values(at.fineTuningServing).includes(word(3600)) && values(at.fineTuningServing).includes(word(7)))
  for (const [compute, message] of [
    [{ lockSeconds: 3599 }, /lockSeconds/],
    [{ lockSeconds: 604_801 }, /lockSeconds/],
    [{ penaltyPercent: 101 }, /penaltyPercent/],
    [{ penaltyPercent: 0.5 }, /penaltyPercent/]
  ] as const) {
    await t.rejects(buildAlloc({ ...options, compute }), { code: 'ERR_CONFIG', message })
  }
})
