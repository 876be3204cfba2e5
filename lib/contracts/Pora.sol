// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// What a miner may read from: sectors [startPosition, startPosition + mineLength), of whose segments it holds those with
/// index & ~shardMask == shardId.
struct RecallRange {
    uint256 startPosition;
    uint256 mineLength;
    uint64 shardId;
    uint64 shardMask;
}

/// A number that was found, with the sealed data it was tried on and the way from that data to the flow root.
struct PoraAnswer {
    bytes32 contextDigest;
    bytes32 nonce;
    bytes32 minerId;
    RecallRange range;
    /// First sector of the seal.
    uint256 recallPosition;
    /// Which of the 64 seals of its segment.
    uint256 sealOffset;
    /// Context of the epoch in which the data came into the flow.
    bytes32 sealedContextDigest;
    bytes32[128] sealedData;
    /// Siblings from the seal's subtree (16 sectors) up to the root.
    bytes32[] merkleProof;
}

/// The arithmetic of proofs of random access. Written in assembly where it hashes: one answer takes some 700 hashes, and an allocation
/// for each would cost more than they do.
library Pora {
    uint256 internal constant SEAL_SECTORS = 16;
    uint256 internal constant SEGMENT_SECTORS = 1024;
    /// Ranges begin at multiples of 8 GiB and have at most 8 TiB a shard.
    uint256 internal constant ALIGN_SECTORS = 1 << 25;
    uint256 internal constant MAX_SECTORS = 1 << 35;
    uint256 private constant SEAL_BYTES = 4096;
    uint256 private constant SEAL_LEVEL = 4;
    uint256 private constant PAD_SEALS = 4;

    /// Refuses a range that is not the whole of what can be mined in a flow of so many sectors.
    function check(RecallRange calldata range, uint256 flowLength) internal pure {
        uint256 most = (flowLength / SEGMENT_SECTORS) * SEGMENT_SECTORS;
        require(range.startPosition % ALIGN_SECTORS == 0, "Start position is not aligned");
        require(
            range.mineLength <= most && range.startPosition <= most - range.mineLength,
            "Mining range overflow"
        );
        uint256 longest = MAX_SECTORS * shards(range);
        require(range.mineLength <= longest, "Mining range too long");
        require(range.mineLength != 0 && range.mineLength >= Math.min(most, longest), "Mining range too short");
        require(range.shardId & range.shardMask == 0, "Masked bits should be zero");
    }

    /// Shards that a mask stands for; a mask of another shape than ~(2^n - 1) stands for none.
    function shards(RecallRange calldata range) internal pure returns (uint256) {
        uint256 rest = type(uint64).max - range.shardMask;
        require(rest & (rest + 1) == 0, "Invalid shard mask");
        return rest + 1;
    }

    /// How much harder a shard of a flow has to search than a miner of all of it, times 2^64; at least 2^64.
    function scaleX64(RecallRange calldata range, uint256 flowLength) internal pure returns (uint256) {
        return (Math.min(flowLength, MAX_SECTORS) << 64) / Math.min(flowLength / shards(range), MAX_SECTORS);
    }

    /// The data of an answer as it was before sealing: each word is covered by the hash of the sealed word before it.
    function unseal(PoraAnswer calldata answer) internal pure returns (bytes memory data) {
        bytes32 mask = keccak256(abi.encode(answer.minerId, answer.sealedContextDigest, answer.recallPosition));
        bytes32[128] calldata words = answer.sealedData;
        data = new bytes(SEAL_BYTES);
        assembly ("memory-safe") {
            let to := add(data, 32)
            for { let at := 0 } lt(at, SEAL_BYTES) { at := add(at, 32) } {
                let word := calldataload(add(words, at))
                mstore(add(to, at), xor(word, mask))
                mstore(0, word)
                mask := keccak256(0, 32)
            }
        }
    }

    /// The root that data at `position` (of its first sector) leads to. Overwrites the data.
    function rootOf(bytes memory data, uint256 position, bytes32[] calldata proof) internal pure returns (bytes32 root) {
        assembly ("memory-safe") {
            let at := add(data, 32)
            // Leaf i takes the place of word i, which lies in a sector that has been hashed.
            for { let i := 0 } lt(i, SEAL_SECTORS) { i := add(i, 1) } {
                mstore(add(at, mul(i, 32)), keccak256(add(at, mul(i, 256)), 256))
            }
            for { let n := div(SEAL_SECTORS, 2) } n { n := div(n, 2) } {
                for { let i := 0 } lt(i, n) { i := add(i, 1) } {
                    mstore(add(at, mul(i, 32)), keccak256(add(at, mul(i, 64)), 64))
                }
            }
            root := mload(at)
        }
        uint256 index = position / SEAL_SECTORS;
        for (uint256 i = 0; i < proof.length; ++i) {
            root = index & 1 == 0 ? _node(root, proof[i]) : _node(proof[i], root);
            index /= 2;
        }
    }

    /// Siblings between a seal and the root of a flow of so many sectors.
    function proofLength(uint256 flowLength) internal pure returns (uint256) {
        return Math.log2(flowLength, Math.Rounding.Ceil) - SEAL_LEVEL;
    }

    /// The seed of a try, 64 bytes in two words.
    function seedOf(PoraAnswer calldata answer, bytes32 subtaskDigest) internal view returns (bytes32[2] memory) {
        bytes memory message = abi.encode(
            answer.minerId,
            answer.nonce,
            subtaskDigest,
            keccak256(
                abi.encode(
                    answer.range.startPosition,
                    answer.range.mineLength,
                    uint256(answer.range.shardId),
                    uint256(answer.range.shardMask)
                )
            )
        );
        return Blake2b.hash(message);
    }

    /// Walks the scratch pad of a seed.
    /// @return recall what chooses the segment
    /// @return mixed the sealed data under its quarter of the pad, behind one block (128 bytes) of room
    function walk(
        PoraAnswer calldata answer,
        bytes32[2] memory seed
    ) internal pure returns (bytes32 recall, bytes memory mixed) {
        bytes32[128] calldata words = answer.sealedData;
        uint256 skip = (answer.sealOffset % PAD_SEALS) * SEAL_BYTES;
        mixed = new bytes(128 + SEAL_BYTES);
        assembly ("memory-safe") {
            mstore(0, mload(seed))
            mstore(32, mload(add(seed, 32)))
            let to := add(mixed, 160)
            for { let at := 0 } lt(at, mul(PAD_SEALS, SEAL_BYTES)) { at := add(at, 64) } {
                mstore(0, keccak256(0, 64))
                mstore(32, keccak256(0, 64))
                // Below `skip` this wraps around and is large.
                let here := sub(at, skip)
                if lt(here, SEAL_BYTES) {
                    mstore(add(to, here), xor(mload(0), calldataload(add(words, here))))
                    here := add(here, 32)
                    mstore(add(to, here), xor(mload(32), calldataload(add(words, here))))
                }
            }
            recall := keccak256(0, 64)
        }
    }

    /// First sector of the segment that a recall number chooses.
    function recallSegment(RecallRange calldata range, bytes32 recall) internal pure returns (uint256) {
        uint256 segments = range.mineLength / SEGMENT_SECTORS;
        uint256 index = (uint64(uint256(recall) % segments) & range.shardMask) | range.shardId;
        require(index < segments, "Recall position out of bound");
        return range.startPosition + index * SEGMENT_SECTORS;
    }

    /// The number that must not exceed the target. Fills the room in front of the mixed data.
    function quality(
        uint256 sealOffset,
        bytes32[2] memory seed,
        bytes memory mixed
    ) internal view returns (uint256) {
        assembly ("memory-safe") {
            mstore(add(mixed, 32), sealOffset)
            mstore(add(mixed, 64), mload(seed))
            mstore(add(mixed, 96), mload(add(seed, 32)))
        }
        return uint256(Blake2b.hash(mixed)[0]);
    }

    function _node(bytes32 left, bytes32 right) private pure returns (bytes32 node) {
        assembly ("memory-safe") {
            mstore(0, left)
            mstore(32, right)
            node := keccak256(0, 64)
        }
    }
}

/// BLAKE2b-512 by the precompile of EIP-152.
library Blake2b {
    uint256 private constant BLOCK_BYTES = 128;

    /// @param message a whole number of blocks, at least one and less than 64 KiB
    function hash(bytes memory message) internal view returns (bytes32[2] memory out) {
        assert(message.length != 0 && message.length % BLOCK_BYTES == 0 && message.length < 65_536);
        bool ok = true;
        assembly ("memory-safe") {
            // The precompile's input, 213 bytes: rounds ‖ state ‖ block ‖ bytes so far ‖ last. The state is little endian on both sides.
            let input := mload(0x40)
            mstore(input, shl(224, 12))
            // The initial state, its first word with the parameters of 64 bytes without a key.
            mstore(add(input, 4), 0x48c9bdf267e6096a3ba7ca8485ae67bb2bf894fe72f36e3cf1361d5f3af54fa5)
            mstore(add(input, 36), 0xd182e6ad7f520e511f6c3e2b8c68059b6bbd41fbabd9831f79217e1319cde05b)
            mstore(add(input, 196), 0)
            let size := mload(message)
            for { let at := 0 } lt(at, size) { } {
                mcopy(add(input, 68), add(add(message, 32), at), BLOCK_BYTES)
                at := add(at, BLOCK_BYTES)
                mstore8(add(input, 196), and(at, 0xff))
                mstore8(add(input, 197), shr(8, at))
                mstore8(add(input, 212), eq(at, size))
                ok := and(ok, staticcall(gas(), 9, input, 213, add(input, 4), 64))
            }
            mstore(out, mload(add(input, 4)))
            mstore(add(out, 32), mload(add(input, 36)))
        }
        assert(ok);
    }
}
