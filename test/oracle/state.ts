/** The state manager of the trie library, made to fail loudly and to say which accounts it wrote; and readers of a root. */
import type { Common } from '@ethereumjs/common'
import { createMerkleProof, MerklePatriciaTrie } from '@ethereumjs/mpt'
import { RLP } from '@ethereumjs/rlp'
import { Caches, MerkleStateManager } from '@ethereumjs/statemanager'
import { Address, createAccountFromRLP, type Account as EthAccount } from '@ethereumjs/util'
import { EMPTY_CODE_HASH, EMPTY_TRIE_ROOT } from '../../cmd/zg-chain/core/hash.ts'
import type { StateProof, StateReader } from '../../cmd/zg-chain/core/types.ts'
import { bytesToBig, equalBytes, padLeft } from '../../lib/base/bytes.ts'
import type { Overlay } from './nodes.ts'

const DELEGATION = Uint8Array.of(0xef, 0x01, 0x00)

/** A mutable state on top of a root; what it writes stays in the overlay. */
export class State extends MerkleStateManager {
  /** Addresses (0x hex) written since the start, reverted writes included. */
  readonly touched = new Set<string>()
  #asSender: string | undefined

  constructor(common: Common, overlay: Overlay, root: Uint8Array) {
    super({ common, trie: trieAt(common, overlay, root), caches: new Caches() })
  }

  /**
   * The next look at this account's code answers a delegation. The transaction runner refuses senders with code (EIP-3607), which
   * eth_call and impersonated accounts are free of, and this look is its only question. Only for accounts with code: the
   * look does not happen for others.
   */
  allowSender(address: Address | undefined): void {
    this.#asSender = address?.toString()
  }

  override async getCode(address: Address): Promise<Uint8Array> {
    if (this.#asSender !== undefined && this.#asSender === address.toString()) {
      this.#asSender = undefined
      return DELEGATION
    }
    return super.getCode(address)
  }

  override async putAccount(address: Address, account: EthAccount | undefined): Promise<void> {
    this.touched.add(address.toString())
    return super.putAccount(address, account)
  }

  override async deleteAccount(address: Address): Promise<void> {
    this.touched.add(address.toString())
    return super.deleteAccount(address)
  }

  // In an empty trie the library looks for the node of the empty root and takes the error that there is none for an answer.
  override async getStorage(address: Address, key: Uint8Array): Promise<Uint8Array> {
    if (this._caches?.storage?.get(address, key) === undefined) {
      const account = await this.getAccount(address)
      if (account === undefined || equalBytes(account.storageRoot, EMPTY_TRIE_ROOT)) return new Uint8Array(0)
    }
    return super.getStorage(address, key)
  }

  // The library's own runs inside `new Promise(async …)`: an error there would never reach the caller.
  override async _writeContractStorage(
    address: Address,
    account: EthAccount,
    key: Uint8Array,
    value: Uint8Array
  ): Promise<void> {
    const trie = this._getStorageTrie(address, account)
    if (value.length === 0 && equalBytes(trie.root(), EMPTY_TRIE_ROOT)) return
    if (value.length > 0) await trie.put(key, RLP.encode(value))
    else await trie.del(key)
    account.storageRoot = trie.root()
    await super.putAccount(address, account)
  }
}

/** The secure trie of a root. */
function trieAt(common: Common, overlay: Overlay, root: Uint8Array): MerklePatriciaTrie {
  return new MerklePatriciaTrie({ db: overlay, root, useKeyHashing: true, common, valueEncoding: 'view' })
}

export type OracleState = Omit<StateReader, 'now' | 'account'> & {
  account(address: Uint8Array): Promise<StateProof['account'] | undefined>
}

/** Reads of one root, without caches of their own. */
export function readerAt(common: Common, overlay: Overlay, root: Uint8Array): OracleState {
  const trie = trieAt(common, overlay, root)

  async function account(address: Uint8Array): Promise<StateProof['account'] | undefined> {
    const encoded = await trie.get(address)
    if (encoded === null) return undefined
    const a = createAccountFromRLP(encoded)
    return { nonce: a.nonce, balance: a.balance, codeHash: a.codeHash, storageRoot: a.storageRoot }
  }

  const slotOf = async (t: MerklePatriciaTrie, slot: Uint8Array): Promise<Uint8Array> => {
    const encoded = await t.get(slot)
    return encoded === null ? new Uint8Array(0) : (RLP.decode(encoded) as Uint8Array)
  }

  return {
    account,
    async code(address) {
      const a = await account(address)
      if (a === undefined || Buffer.compare(a.codeHash, EMPTY_CODE_HASH) === 0) return new Uint8Array(0)
      return (await overlay.get(`63${Buffer.from(a.codeHash).toString('hex')}`))!
    },
    async storage(address, slot) {
      const a = await account(address)
      return padLeft(
        a === undefined ? new Uint8Array(0) : await slotOf(trieAt(common, overlay, a.storageRoot), slot),
        32
      )
    },
    async proof(address, slots): Promise<StateProof> {
      const a = (await account(address)) ?? {
        nonce: 0n,
        balance: 0n,
        codeHash: EMPTY_CODE_HASH,
        storageRoot: EMPTY_TRIE_ROOT
      }
      const storageTrie = trieAt(common, overlay, a.storageRoot)
      const storage: StateProof['storage'] = []
      for (const key of slots) {
        const value = bytesToBig(await slotOf(storageTrie, key))
        storage.push({ key, value, proof: await createMerkleProof(storageTrie, key) })
      }
      return { account: a, accountProof: await createMerkleProof(trie, address), storage }
    }
  }
}

/** The library's address object of 20 bytes. */
export function addressOf(bytes: Uint8Array): Address {
  return new Address(bytes)
}
