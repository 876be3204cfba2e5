/**
 * The storage layer as the other tools call it: `put` stores a hashed source on several nodes, `RemoteFile` reads one back
 * verified, `statFile` says who holds what. `NodePool` is the way in: an indexer, or nodes by URL.
 */
export { download, saveStream } from './store/download.ts'
export { RemoteFile, readAll } from './store/get.ts'
export { KvClient, type KvEntry, type KvValue } from './store/kv.ts'
export { type FileInfo, type NodeStatus, StoreNode } from './store/node.ts'
export { type Member, NodePool, type Where } from './store/nodes.ts'
export { hashSource, type PutOptions, type PutPhase, type PutResult, put, quote } from './store/put.ts'
export { decrypting, encryptedSource, encrypting, readEncryptionKey } from './store/secret.ts'
export { memorySource, openSource, type Source, slice, spool } from './store/source.ts'
export { type ListedFile, listNewest, type NodeView, statFile } from './store/stat.ts'
export { FlowClient, type SubmitReceipt } from './store/submit.ts'
