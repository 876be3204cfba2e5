// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// Names and shapes of data availability as upstream's contracts have them: they decide selectors and topics.
struct G1Point {
    uint256 X;
    uint256 Y;
}

/// Order of the parts of a coordinate: [c0, c1] in SignerDetail, [c1, c0] where it goes to the pairing precompile.
struct G2Point {
    uint256[2] X;
    uint256[2] Y;
}

struct SignerDetail {
    address signer;
    string socket;
    G1Point pkG1;
    G2Point pkG2;
}

struct CommitRootSubmission {
    bytes32 dataRoot;
    uint256 epoch;
    uint256 quorumId;
    G1Point erasureCommitment;
    bytes quorumBitmap;
    G2Point aggPkG2;
    G1Point signature;
}

struct SampleResponse {
    bytes32 sampleSeed;
    uint64 epoch;
    uint64 quorumId;
    uint32 lineIndex;
    uint32 sublineIndex;
    uint256 quality;
    bytes32 dataRoot;
    bytes32[3] blobRoots;
    bytes32[] proof;
    bytes data;
}

struct SampleTask {
    bytes32 sampleHash;
    uint256 podasTarget;
    uint64 restSubmissions;
}

/// Both ends can be answered.
struct SampleRange {
    uint64 startEpoch;
    uint64 endEpoch;
}

/// The precompile at 0x…1000.
interface IDASigners {
    struct Params {
        uint256 tokensPerVote;
        uint256 maxVotesPerSigner;
        uint256 maxQuorums;
        uint256 epochBlocks;
        uint256 encodedSlices;
    }

    event NewSigner(address indexed signer, G1Point pkG1, G2Point pkG2);
    event SocketUpdated(address indexed signer, string socket);

    function params() external view returns (Params memory);
    function epochNumber() external view returns (uint256);
    function quorumCount(uint256 epoch) external view returns (uint256);
    function isSigner(address account) external view returns (bool);
    function getSigner(address[] calldata accounts) external view returns (SignerDetail[] memory);
    function getQuorum(uint256 epoch, uint256 quorumId) external view returns (address[] memory);
    function getQuorumRow(uint256 epoch, uint256 quorumId, uint32 rowIndex) external view returns (address);
    function registeredEpoch(address account, uint256 epoch) external view returns (bool);
    function getAggPkG1(uint256 epoch, uint256 quorumId, bytes calldata quorumBitmap)
        external
        view
        returns (G1Point memory aggPkG1, uint256 total, uint256 hit);
    function registerSigner(SignerDetail calldata signer, G1Point calldata signature) external;
    function updateSocket(string calldata socket) external;
    function registerNextEpoch(address signer, G1Point calldata signature, uint256 votes) external;
    function makeEpoch() external;
}

IDASigners constant DA_SIGNERS_PRECOMPILE = IDASigners(0x0000000000000000000000000000000000001000);
