/**
 * The storage layer as the other tools call it: `put` stores a hashed source on several nodes, `RemoteFile` reads one back
 * verified, `statFile` says who holds what. `NodePool` is the way in: an indexer, or nodes by URL.
 */
export { type Change, type Difference, diffFolders } from './store/diff.ts'
export { download, saveStream } from './store/download.ts'
export { entryAt, readFolder, restoreFolder, walkFolder } from './store/folder.ts'
export { RemoteFile, readAll } from './store/get.ts'
export { KvClient, type KvEntry, type KvValue } from './store/kv.ts'
export { type FileInfo, type NodeStatus, StoreNode } from './store/node.ts'
export { type Member, NodePool, type Where } from './store/nodes.ts'
export {
  hashSource,
  type PutItem,
  type PutOptions,
  type PutPhase,
  type PutResult,
  put,
  putMany,
  quote
} from './store/put.ts'
export {
  decrypting,
  encryptedSource,
  encrypting,
  type Lock,
  makeEncryptionKey,
  parsePublicKey,
  readEncryptionKey
} from './store/secret.ts'
export { memorySource, openSource, type Source, slice, spool } from './store/source.ts'
export { type ListedFile, listNewest, type NodeView, statFile } from './store/stat.ts'
export { type Downloadable, RemoteStream } from './store/stream.ts'
export { FlowClient, type SubmitReceipt } from './store/submit.ts'
export {
  hashTree,
  hashTreeFile,
  isDirectory,
  type LocalTree,
  scanTree,
  type TreeFile,
  treeRootOf
} from './store/tree.ts'
