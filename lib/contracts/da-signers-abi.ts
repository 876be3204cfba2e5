/** The ABI of the DASigners precompile (chain.md 4.1), as `ethers/abi`'s Interface takes it. */
const G1 = '(uint256 X, uint256 Y)'
const G2 = '(uint256[2] X, uint256[2] Y)'
const DETAIL = `(address signer, string socket, ${G1} pkG1, ${G2} pkG2)`

export const DA_SIGNERS_ABI = [
  'function params() view returns ((uint256 tokensPerVote, uint256 maxVotesPerSigner, uint256 maxQuorums, uint256 epochBlocks, uint256 encodedSlices))',
  'function epochNumber() view returns (uint256)',
  'function quorumCount(uint256 epoch) view returns (uint256)',
  'function isSigner(address account) view returns (bool)',
  `function getSigner(address[] accounts) view returns (${DETAIL}[])`,
  'function getQuorum(uint256 epoch, uint256 quorumId) view returns (address[])',
  'function getQuorumRow(uint256 epoch, uint256 quorumId, uint32 row) view returns (address)',
  'function registeredEpoch(address account, uint256 epoch) view returns (bool)',
  `function getAggPkG1(uint256 epoch, uint256 quorumId, bytes bitmap) view returns (${G1} aggPkG1, uint256 total, uint256 hit)`,
  `function registerSigner(${DETAIL} signer, ${G1} signature)`,
  'function updateSocket(string socket)',
  `function registerNextEpoch(address signer, ${G1} signature, uint256 votes)`,
  'function makeEpoch()',
  `event NewSigner(address indexed signer, ${G1} pkG1, ${G2} pkG2)`,
  'event SocketUpdated(address indexed signer, string socket)'
] as const
