/**
 * The compute contracts (compute.md 1, 3.5, 3.6, 5.4) as a genesis holds them: that their ABI is the one clients know, that they accept
 * what the published ones accept and produce the same bytes, that no bad input moves money, and that after every call a ledger's total
 * less what is available is the sum of its sub-accounts. The last part is a model that must agree with the contracts through hundreds of
 * random operations.
 */
import { readFileSync } from 'node:fs'
import { keccak_256 } from '@noble/hashes/sha3.js'
import { AbiCoder, Interface, type InterfaceAbi, id, type Result, SigningKey, TypedDataEncoder } from 'ethers'
import t from 'tap'
import { fromHex, type Hex, toHex } from '../../lib/base/hex.ts'
import { contractAddresses } from '../../lib/contracts/addresses.ts'
import { DEVNET_COMPUTE, SERVICE_NAMES } from '../../lib/contracts/compute-genesis.ts'
import { fineTuningServingAbi, inferenceServingAbi, ledgerManagerAbi } from '../../lib/contracts/generated/abi.ts'
import { buildAlloc } from '../../lib/contracts/genesis.ts'
import { ACCOUNTS, account, type Outcome, stop, TestChain, type TestContract } from './contract-chain.ts'

type Test = typeof t

const ROOT = new URL('../../', import.meta.url)
const V = JSON.parse(readFileSync(new URL('test/vectors/compute-vectors.json', ROOT), 'utf8'))
const _coder = AbiCoder.defaultAbiCoder()
const OG = 10n ** 18n
const LOCK = DEVNET_COMPUTE.lockSeconds
const OWNER = account(0)
const ABI: Record<string, readonly object[]> = {
  LedgerManager: ledgerManagerAbi,
  InferenceServing: inferenceServingAbi,
  FineTuningServing: fineTuningServingAbi
}
const INTERFACES = Object.values(ABI).map(abi => new Interface(abi as InterfaceAbi))

t.teardown(stop)

// Tools ----------------------------------------------------------------------------------------------------------------------------

/** An error of any of the three contracts, as a client would name it. */
function failure(outcome: Outcome): string {
  if (outcome.ok) return 'no error'
  if (!outcome.data.startsWith('0x') || outcome.data.length < 10) return outcome.error
  for (const abi of INTERFACES) {
    const parsed = abi.parseError(outcome.data)
    if (parsed !== null) return `${parsed.name}(${parsed.args.map(String).join(', ')})`
  }
  return outcome.error
}

const lower = (address: string) => address.toLowerCase() as Hex
const key = (seed: string) => new SigningKey(keccak_256(new TextEncoder().encode(seed)))
const addressOf = (k: SigningKey): Hex => toHex(keccak_256(fromHex(k.publicKey as Hex).slice(1)).slice(12))

const SETTLEMENT_TYPES = {
  TEESettlement: [
    { name: 'requestsHash', type: 'bytes32' },
    { name: 'nonce', type: 'uint256' },
    { name: 'provider', type: 'address' },
    { name: 'user', type: 'address' },
    { name: 'totalFee', type: 'uint256' }
  ]
}
const VERIFIER_TYPES = {
  VerifierMessage: [
    { name: 'id', type: 'string' },
    { name: 'encryptedSecret', type: 'bytes' },
    { name: 'modelRootHash', type: 'bytes' },
    { name: 'nonce', type: 'uint256' },
    { name: 'taskFee', type: 'uint256' },
    { name: 'user', type: 'address' }
  ]
}

interface Settlement {
  user: string
  provider: string
  totalFee: bigint
  requestsHash: string
  nonce: bigint
  signature: string
}

interface Task {
  id: string
  encryptedSecret: string
  modelRootHash: string
  nonce: bigint
  signature: string
  taskFee: bigint
  user: string
}

/** The three contracts on a chain, and what clients do with them. */
class World {
  readonly chain: TestChain
  readonly chainId: number
  readonly at: ReturnType<typeof contractAddresses>
  readonly ledger: TestContract
  readonly inference: TestContract
  readonly fineTuning: TestContract
  readonly signer = key('signer')

  constructor(chain: TestChain, chainId: number) {
    this.chain = chain
    this.chainId = chainId
    this.at = contractAddresses(chainId)
    this.ledger = chain.contract(this.at.ledgerManager, ledgerManagerAbi)
    this.inference = chain.contract(this.at.inferenceServing, inferenceServingAbi)
    this.fineTuning = chain.contract(this.at.fineTuningServing, fineTuningServingAbi)
  }

  static async start(chainId = 31337): Promise<World> {
    return new World(await TestChain.start({ chainId }), chainId)
  }

  /** A view as seen by `from`. */
  async view(contract: TestContract, name: string, args: unknown[], from: string): Promise<Result> {
    const data = contract.abi.encodeFunctionData(name, args)
    const outcome = await this.chain.call({ from, to: contract.address, data })
    if (!outcome.ok) throw new Error(failure(outcome))
    return contract.abi.decodeFunctionResult(name, outcome.data)
  }

  /** A service of `provider`, vouched for by the owner. */
  async serve(provider: string, opts: { signer?: string; vouch?: boolean } = {}): Promise<void> {
    const done = await this.inference.send(
      'addOrUpdateService',
      [params({ signer: opts.signer ?? addressOf(this.signer) })],
      {
        from: provider,
        value: 100n * OG
      }
    )
    if (!done.ok) throw new Error(failure(done))
    if (opts.vouch !== false) await this.inference.send('acknowledgeTEESignerByOwner', [provider])
  }

  async serveTuning(provider: string): Promise<void> {
    const args = ['http://a', [1, 2, 3, 4, 'H100'], 7, false, ['m'], addressOf(this.signer)]
    const done = await this.fineTuning.send('addOrUpdateService', args, { from: provider, value: 100n * OG })
    if (!done.ok) throw new Error(failure(done))
    await this.fineTuning.send('acknowledgeTEESignerByOwner', [provider])
  }

  deposit(user: string, value: bigint): Promise<Outcome> {
    return this.ledger.send('depositFund', [], { from: user, value })
  }

  transfer(
    user: string,
    provider: string,
    amount: bigint,
    service: string = SERVICE_NAMES.inference
  ): Promise<Outcome> {
    return this.ledger.send('transferFund', [provider, service, amount], { from: user })
  }

  retrieve(user: string, providers: string[], service: string = SERVICE_NAMES.inference): Promise<Outcome> {
    return this.ledger.send('retrieveFund', [providers, service], { from: user })
  }

  async ledgerOf(user: string): Promise<{ available: bigint; total: bigint }> {
    const [ledger] = await this.ledger.read('getLedger', [user])
    return { available: ledger.availableBalance, total: ledger.totalBalance }
  }

  async account(user: string, provider: string): Promise<Result> {
    return (await this.inference.read('getAccount', [user, provider]))[0]
  }

  settlement(user: string, provider: string, totalFee: bigint, nonce: bigint, signer = this.signer): Settlement {
    const message = { requestsHash: id(`${user}${nonce}`), nonce, provider, user, totalFee }
    const domain = {
      name: '0G Inference Serving',
      version: '1',
      chainId: this.chainId,
      verifyingContract: lower(this.inference.address)
    }
    const digest = TypedDataEncoder.hash(domain, SETTLEMENT_TYPES, message)
    return { ...message, signature: signer.sign(digest).serialized }
  }

  settle(provider: string, batch: Settlement[]): Promise<Outcome> {
    return this.inference.send('settleFeesWithTEE', [batch], { from: provider })
  }

  task(fields: Omit<Task, 'signature'>, signer = this.signer): Task {
    const domain = {
      name: '0G Fine-Tuning Serving',
      version: '1',
      chainId: this.chainId,
      verifyingContract: lower(this.fineTuning.address)
    }
    return { ...fields, signature: signer.sign(TypedDataEncoder.hash(domain, VERIFIER_TYPES, fields)).serialized }
  }

  statuses(outcome: Outcome): number[] {
    return [...this.inference.abi.decodeFunctionResult('settleFeesWithTEE', outcome.data)[0]].map(Number)
  }

  /** name and arguments of the logs of one contract. */
  logs(outcome: Outcome, contract: TestContract): [string, ...string[]][] {
    return outcome.logs
      .filter(l => lower(l.address) === lower(contract.address))
      .map(l => contract.abi.parseLog(l)!)
      .map(l => [l.name, ...l.args.map(a => String(a).toLowerCase())])
  }

  /** What the books say must be what the contracts hold, to the neuron. */
  async checkBooks(t: Test, users: string[], stakes: { inference: bigint; fineTuning: bigint }): Promise<void> {
    let available = 0n
    const held = [0n, 0n]
    for (const user of users) {
      let sum = 0n
      for (const [i, service] of [this.inference, this.fineTuning].entries()) {
        const [accounts] = await service.read('getAccountsByUser', [user, 0, 50])
        for (const a of accounts) {
          sum += a.balance
          held[i]! += a.balance
        }
      }
      const ledger = await this.ledgerOf(user).catch(() => ({ available: 0n, total: 0n }))
      available += ledger.available
      if (ledger.total - ledger.available !== sum)
        t.fail(`${user}: ${ledger.total} - ${ledger.available} is not ${sum}`)
    }
    t.equal(await this.chain.balance(this.ledger.address), available, 'the ledger holds what is available')
    t.equal(
      await this.chain.balance(this.inference.address),
      held[0]! + stakes.inference,
      'inference holds its accounts'
    )
    t.equal(await this.chain.balance(this.fineTuning.address), held[1]! + stakes.fineTuning, 'fine-tuning holds its')
  }
}

function params(changes: { signer?: string; url?: string; model?: string; info?: string; price?: number } = {}) {
  const { signer = account(9), url = 'http://127.0.0.1:9000', model = 'org/model', info = '{}', price = 10 } = changes
  return ['chatbot', url, model, 'TeeML', price, 20, info, signer]
}

// ABI ------------------------------------------------------------------------------------------------------------------------------

/** compute.md names the first three; the others are the errors that deployed contracts have as strings, or not at all. */
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
