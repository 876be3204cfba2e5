// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// The flow accumulator: a binary tree of sectors that only grows to the right, of which the contract keeps one node a level.
///
/// `nodes[i]` is meaningful while bit i of `length` is set: it is then the root of the complete subtree of 2^i sectors that the
/// bit stands for, as the digits of a binary counter. With length 13 = 1101b:
///
///     level 3:  nodes[3] covers sectors 0..7
///     level 2:  nodes[2] covers sectors 8..11
///     level 0:  nodes[0] covers sector 12            sectors 13..15 are zero sectors
///
/// Appending a subtree is adding to the counter: each carry hashes the node that stood there with the one that arrives. Gaps and
/// everything right of the end are sectors of 256 zero bytes; their subtree roots are computed on the way up, which costs less
/// than reading them from storage (about 100 gas a level against 2,100).
library FlowTree {
    /// keccak of 256 zero bytes.
    bytes32 internal constant ZERO_SECTOR = 0xd397b3b043d87fcd6fad1291ff0bfd16401c274896d8c63a923727f077b8e0b5;

    struct Frontier {
        bytes32[128] nodes;
    }

    /// Appends a complete subtree of height `level`; `length` must be a multiple of 2^level.
    /// @return the new length.
    function append(Frontier storage self, uint256 length, bytes32 node, uint256 level) internal returns (uint256) {
        uint256 i = level;
        for (; (length >> i) & 1 == 1; ++i) node = pair(self.nodes[i], node);
        self.nodes[i] = node;
        return length + (1 << level);
    }

    /// Fills with zero sectors up to the next multiple of 2^level.
    /// @return the new length.
    function pad(Frontier storage self, uint256 length, uint256 level) internal returns (uint256) {
        uint256 aligned = (length >> level) << level;
        if (aligned == length) return length;
        return append(self, aligned, closed(self, length, level), level);
    }

    /// The root of the smallest complete tree that holds `length` sectors; `length` must not be 0.
    function root(Frontier storage self, uint256 length) internal view returns (bytes32) {
        uint256 height = Math.log2(length);
        if (length == 1 << height) return self.nodes[height];
        return closed(self, length, height + 1);
    }

    /// The root of the unfinished subtree of height `level` at the right end, the missing sectors taken as zero.
    function closed(Frontier storage self, uint256 length, uint256 level) private view returns (bytes32 node) {
        uint256 lowest = Math.log2(length & (~length + 1));
        bytes32 zero = ZERO_SECTOR;
        for (uint256 i = 0; i < lowest; ++i) zero = pair(zero, zero);
        node = pair(self.nodes[lowest], zero);
        for (uint256 i = lowest + 1; i < level; ++i) {
            zero = pair(zero, zero);
            node = (length >> i) & 1 == 1 ? pair(self.nodes[i], node) : pair(node, zero);
        }
    }

    function pair(bytes32 left, bytes32 right) private pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            mstore(0x00, left)
            mstore(0x20, right)
            hash := keccak256(0x00, 0x40)
        }
    }
}
