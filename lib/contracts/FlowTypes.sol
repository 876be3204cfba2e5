// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// One power-of-two subtree of a padded file: 2^height sectors under `root`.
struct SubmissionNode {
    bytes32 root;
    uint256 height;
}

/// A file as the chain sees it: `length` in bytes, free `tags`, and its subtrees from the highest down.
struct Submission {
    uint256 length;
    bytes tags;
    SubmissionNode[] nodes;
}

/// The newer call form: the same file, submitted in the name of `submitter`.
struct SubmissionData {
    Submission data;
    address submitter;
}

/// What a miner works on: the flow as it stood when an epoch closed.
struct MineContext {
    uint256 epoch;
    uint256 mineStart;
    bytes32 flowRoot;
    uint256 flowLength;
    bytes32 blockDigest;
    bytes32 digest;
}

/// Sectors [start, end) became part of the flow in one epoch.
struct EpochRange {
    uint128 start;
    uint128 end;
}

struct EpochRangeWithContextDigest {
    uint128 start;
    uint128 end;
    bytes32 digest;
}

interface IMarket {
    function pricePerSector() external view returns (uint256);

    /// Takes the fee of `uploadSectors` sent along and shares it out over the padding and the upload, which begin at `beforeLength`.
    function chargeFee(uint256 beforeLength, uint256 uploadSectors, uint256 paddingSectors) external payable;
}

interface IReward {
    function fillReward(uint256 beforeLength, uint256 chargedSectors) external payable;
}
