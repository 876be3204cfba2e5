/** The grammar of zg-da. Verbs load when they run. */
import { tool } from '../../lib/cli/tool.ts'
import {
  DISPERSER_OPTIONS,
  GET_OPTIONS,
  NODE_OPTIONS,
  PUT_OPTIONS,
  RETRIEVER_OPTIONS,
  VERIFY_OPTIONS
} from './options.ts'

await tool({
  name: 'zg-da',
  summary: "0G's data availability: signers, disperser, retriever, and their client",
  verbs: [
    {
      name: 'put',
      args: '[file]',
      summary: 'make a file or stdin available, certified on chain, and print its root',
      examples: ['zg-da put batch.bin', 'tar c dir | zg-da put', 'zg-da put --json < batch.bin | jq -r .dataRoot'],
      options: PUT_OPTIONS,
      exits: { 65: 'empty or too large', 69: 'no disperser', 75: 'not certified in time', 76: 'not certified' },
      load: async () => (await import('./verbs/put.ts')).put
    },
    {
      name: 'get',
      args: '<root>',
      summary: 'read a certified blob back, checked, to stdout or into a file',
      examples: ['zg-da get $ROOT > batch.bin', 'zg-da get $ROOT -o batch.bin', 'zg-da get $ROOT | tar x'],
      options: GET_OPTIONS,
      exits: {
        65: 'its encoding is faulty: it has no value',
        69: 'not certified, or too few rows',
        73: 'output exists'
      },
      load: async () => (await import('./verbs/get.ts')).get
    },
    {
      name: 'verify',
      args: '<root>',
      summary: 'check the certificate of a blob, and by samples that it is there',
      examples: ['zg-da verify $ROOT', 'zg-da verify $ROOT --samples 64 --json'],
      options: VERIFY_OPTIONS,
      exits: { 1: 'certified, but the samples do not show that it is there', 69: 'not certified' },
      load: async () => (await import('./verbs/verify.ts')).verify
    },
    {
      name: 'node',
      summary: 'run a signer: checks, stores and signs its rows of every blob',
      examples: ['zg-da node --dev-signer 0', 'zg-da node --account signer --bls-key-file bls.key --dir /srv/da'],
      options: NODE_OPTIONS,
      daemon: true,
      load: async () => (await import('./node/node.ts')).node
    },
    {
      name: 'disperser',
      summary: 'run a disperser: takes blobs and has them certified',
      examples: ['zg-da disperser', 'zg-da disperser --dir /srv/da --account disperser'],
      options: DISPERSER_OPTIONS,
      daemon: true,
      load: async () => (await import('./disperser/disperser.ts')).disperser
    },
    {
      name: 'retriever',
      summary: "run a retriever: rebuilds blobs from their signers' rows",
      examples: ['zg-da retriever', 'zg-da retriever --port 34005 --rpc-url http://127.0.0.1:8545'],
      options: RETRIEVER_OPTIONS,
      daemon: true,
      load: async () => (await import('./retriever/retriever.ts')).retriever
    }
  ],
  notes: `Files: signers and disperser keep their data in $XDG_DATA_HOME/zg/NETWORK/da-*. A blob has 1 to 32505852 bytes; larger
things are cut into several. gRPC services: disperser.Disperser, retriever.Retriever, signer.Signer; their .proto
files are in share/proto/zg-da.`
})
