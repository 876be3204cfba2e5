// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {SampleResponse} from "./DATypes.sol";

/// Checks an answer of the sampling lottery against itself: its quality and its place in the blob that it names.
library DASampling {
    /// Rows of an encoded blob, of one of its thirds; sub-lines of a row; bytes and siblings of a sub-line.
    uint256 private constant LINES = 3072;
    uint256 private constant LINES_A_THIRD = 1024;
    uint256 private constant SUBLINES = 32;
    uint256 private constant SUBLINE_BYTES = 1024;
    uint256 private constant SECTOR_BYTES = 256;
    uint256 private constant SIBLINGS = 15;

    function check(SampleResponse calldata a) internal pure {
        require(a.sampleSeed != 0, "Sample seed cannot be empty");
        require(a.lineIndex < LINES, "Incorrect line index");
        require(a.sublineIndex < SUBLINES, "Incorrect sub-line index");
        require(a.data.length == SUBLINE_BYTES, "Incorrect data length");

        uint256 line = lineQuality(a);
        uint256 data = uint256(keccak256(abi.encodePacked(line, uint256(a.sublineIndex), a.data)));
        require(data <= type(uint256).max - line, "Quality overflow");
        require(line + data == a.quality, "Incorrect quality");

        require(a.proof.length == SIBLINGS, "Incorrect blob Root");
        uint256 position = (a.lineIndex % LINES_A_THIRD) * SUBLINES + a.sublineIndex;
        bytes32 node = sublineRoot(a.data);
        for (uint256 i = 0; i < SIBLINGS; i++) {
            node = position & 1 == 0 ? pair(node, a.proof[i]) : pair(a.proof[i], node);
            position >>= 1;
        }
        require(node == a.blobRoots[a.lineIndex / LINES_A_THIRD], "Incorrect blob Root");
        require(pair(pair(a.blobRoots[0], a.blobRoots[1]), a.blobRoots[2]) == a.dataRoot, "Incorrect dataRoot");
    }

    /// One answer a sub-line and round.
    function key(SampleResponse calldata a) internal pure returns (bytes32) {
        return
            keccak256(abi.encodePacked(a.dataRoot, a.sampleSeed, a.epoch, a.quorumId, a.lineIndex, a.sublineIndex));
    }

    function lineQuality(SampleResponse calldata a) private pure returns (uint256) {
        bytes memory packed =
            abi.encodePacked(a.sampleSeed, uint256(a.epoch), uint256(a.quorumId), a.dataRoot, uint64(a.lineIndex));
        return uint256(keccak256(packed));
    }

    function sublineRoot(bytes calldata data) private pure returns (bytes32) {
        bytes32[4] memory s;
        for (uint256 i = 0; i < 4; i++) s[i] = keccak256(data[i * SECTOR_BYTES:(i + 1) * SECTOR_BYTES]);
        return pair(pair(s[0], s[1]), pair(s[2], s[3]));
    }

    function pair(bytes32 left, bytes32 right) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(left, right));
    }
}
