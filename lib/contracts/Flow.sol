// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AccessControlEnumerable} from "@openzeppelin/contracts/access/extensions/AccessControlEnumerable.sol";
import {Initializable} from "@openzeppelin/contracts/proxy/utils/Initializable.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {FlowTree} from "./FlowTree.sol";
import "./FlowTypes.sol";

/// The log of all files of a storage network: each submission reserves a range of sectors, pays for it and extends the flow tree.
///
/// Money: what a submission costs is taken from the value of its own call and passed on at once; the rest goes back to the caller.
/// This contract holds nothing between calls.
///
/// Epochs: whoever calls after an epoch has passed closes it. However many have passed, they are closed by one jump to the newest
/// one (all but it would have an empty range and the same root), so the cost of a call never depends on how long the flow was idle.
contract Flow is AccessControlEnumerable, Pausable, Initializable {
    using FlowTree for FlowTree.Frontier;

    event Submit(
        address indexed sender,
        bytes32 indexed identity,
        uint256 submissionIndex,
        uint256 startPos,
        uint256 length,
        Submission submission
    );
    event NewEpoch(
        address indexed sender,
        uint256 indexed index,
        bytes32 startMerkleRoot,
        uint256 submissionIndex,
        uint256 flowLength,
        bytes32 context
    );

    error NotEnoughFee(uint256 price, uint256 amount, uint256 paid);
    /// Declared for clients that know it; shapes are refused with the text "Invalid submission".
    error InvalidSubmission();

    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");

    uint256 private constant SECTOR_BYTES = 256;
    uint256 private constant SEGMENT_SECTORS = 1024;
    uint256 private constant SEGMENT_LEVEL = 10;
    /// Submissions whose roots `rootHistory` answers for.
    uint256 private constant HISTORY_WINDOW = 1000;
    /// Blocks whose hash EIP-2935 serves, and its contract.
    uint256 private constant HASH_WINDOW = 8191;
    address private constant HASH_HISTORY = 0x0000F90827F1C53a10cb7A02335B175320002935;
    /// keccak of nothing: the digest of a context that cannot be mined.
    bytes32 private constant EMPTY_HASH = 0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470;

    /// Gas a submission asks for, whatever it will use. What it uses depends on what comes before it in its block: gaps, carries, pots
    /// that fill, an epoch that ends. A limit estimated on the state before would then be too low now and again, and a client that does
    /// not read its receipt would wait for ever. Asking for the most that can be needed puts it into every estimate; the rest is not
    /// charged. Measured: at most 455,000 and 160,000, and 8 a byte of tags for the event.
    uint256 private constant SUBMISSION_GAS = 550_000;
    uint256 private constant EPOCH_GAS = 200_000;
    uint256 private constant TAG_GAS = 10;

    address public immutable market;
    uint256 public immutable blocksPerEpoch;
    uint256 public immutable deployDelay;
    uint256 public immutable firstBlock;

    // One slot: every submission changes two of the three, an epoch the third.
    uint128 private currentLength;
    /// 4 PiB in one file. Sizes and positions stay below 2^53, so that no client's number type can be thrown off its feet.
    uint256 private constant MAX_HEIGHT = 44;

    uint64 private submissions;
    uint64 private currentEpoch;

    uint128 private rangeStart;
    FlowTree.Frontier private frontier;
    /// The flow root right after each submission. The history of roots is read from here; nothing is stored twice.
    mapping(uint256 seq => bytes32 root) private roots;

    MineContext private context;
    mapping(bytes32 digest => EpochRange range) private ranges;
    bytes32[] private rangeDigests;

    /// @param owner administers roles and may pause.
    constructor(address market_, uint256 blocksPerEpoch_, uint256 deployDelay_, address owner) initializer {
        require(market_ != address(0) && blocksPerEpoch_ != 0 && owner != address(0), "Invalid parameters");
        market = market_;
        blocksPerEpoch = blocksPerEpoch_;
        deployDelay = deployDelay_;
        firstBlock = block.number + deployDelay_;
        // Sector 0 is not data: its leaf is 32 zero bytes, which is also what the frontier holds already.
        currentLength = 1;
        context = MineContext({
            epoch: 0,
            mineStart: block.number + deployDelay_,
            flowRoot: EMPTY_HASH,
            flowLength: 1,
            blockDigest: EMPTY_HASH,
            digest: EMPTY_HASH
        });
        _grantRole(DEFAULT_ADMIN_ROLE, owner);
        _grantRole(PAUSER_ROLE, owner);
    }

    modifier launched() {
        require(block.number >= firstBlock, "Contract has not launched.");
        _;
    }

    // Both forms exist on deployed flows; the constructor has done their work, so they always refuse.
    function initialize(address, uint256) external initializer {}

    function initialize(address) external initializer {}

    /// Submits a file in the name of the caller.
    /// @return index the submission's sequence number
    /// @return digest its identity: keccak of its node roots
    /// @return startIndex its first sector in the flow
    /// @return length its sectors
    function submit(
        Submission calldata submission
    )
        external
        payable
        returns (uint256 index, bytes32 digest, uint256 startIndex, uint256 length)
    {
        _begin();
        uint256 left;
        (index, digest, startIndex, length, left) = _submit(submission, msg.sender, msg.value);
        _refund(left);
    }

    /// Submits a file in the name of `submission.submitter`, a label that anyone may choose; the caller pays.
    function submit(
        SubmissionData calldata submission
    )
        external
        payable
        returns (uint256 index, bytes32 digest, uint256 startIndex, uint256 length)
    {
        _begin();
        uint256 left;
        require(submission.submitter != address(0), "Invalid submission");
        (index, digest, startIndex, length, left) = _submit(submission.data, submission.submitter, msg.value);
        _refund(left);
    }

    function batchSubmit(
        Submission[] calldata submissions_
    )
        external
        payable
        returns (
            uint256[] memory indexes,
            bytes32[] memory digests,
            uint256[] memory startIndexes,
            uint256[] memory lengths
        )
    {
        _begin();
        (indexes, digests, startIndexes, lengths) = _results(submissions_.length);
        uint256 left = msg.value;
        for (uint256 i = 0; i < submissions_.length; ++i) {
            (indexes[i], digests[i], startIndexes[i], lengths[i], left) = _submit(submissions_[i], msg.sender, left);
        }
        _refund(left);
    }

    function batchSubmit(
        SubmissionData[] calldata submissions_
    )
        external
        payable
        returns (
            uint256[] memory indexes,
            bytes32[] memory digests,
            uint256[] memory startIndexes,
            uint256[] memory lengths
        )
    {
        _begin();
        (indexes, digests, startIndexes, lengths) = _results(submissions_.length);
        uint256 left = msg.value;
        for (uint256 i = 0; i < submissions_.length; ++i) {
            address submitter = submissions_[i].submitter;
            require(submitter != address(0), "Invalid submission");
            (indexes[i], digests[i], startIndexes[i], lengths[i], left) = _submit(submissions_[i].data, submitter, left);
        }
        _refund(left);
    }

    function makeContext() external launched {
        _closeEpochs(type(uint256).max);
    }

    /// Closes at most `count` epochs, still in one jump.
    function makeContextFixedTimes(uint256 count) external launched {
        _closeEpochs(count);
    }

    function makeContextWithResult() external launched returns (MineContext memory) {
        _closeEpochs(type(uint256).max);
        return context;
    }

    /// The closed range that holds a sector. Meant for eth_call: closes what can be closed first.
    function queryContextAtPosition(
        uint128 targetPosition
    ) external launched returns (EpochRangeWithContextDigest memory range) {
        _closeEpochs(type(uint256).max);
        require(targetPosition < rangeStart, "Queried position exceeds upper bound");
        // The first range that ends behind the position; ranges are neighbours, empty ones included.
        uint256 low = 0;
        uint256 high = rangeDigests.length - 1;
        while (low < high) {
            uint256 middle = (low + high) / 2;
            if (ranges[rangeDigests[middle]].end > targetPosition) high = middle;
            else low = middle + 1;
        }
        return getEpochRangeHistory(low);
    }

    function pause() external onlyRole(PAUSER_ROLE) {
        _pause();
    }

    function unpause() external onlyRole(PAUSER_ROLE) {
        _unpause();
    }

    function numSubmissions() external view returns (uint256) {
        return submissions;
    }

    function submissionIndex() external view returns (uint256) {
        return submissions;
    }

    /// @return length sectors in the flow, 1 when empty
    /// @return unstagedHeight always 1: every submission hashes its way up at once, nothing waits to be staged
    function tree() external view returns (uint256 length, uint256 unstagedHeight) {
        return (currentLength, 1);
    }

    /// The flow root right after a submission, zero when there is none with that number.
    function getFlowRootByTxSeq(uint256 seq) external view returns (bytes32) {
        return roots[seq];
    }

    function computeFlowRoot() external view returns (bytes32) {
        return frontier.root(currentLength);
    }

    function getContext() external view returns (MineContext memory) {
        return context;
    }

    function getEpochRange(bytes32 digest) external view returns (EpochRange memory) {
        return ranges[digest];
    }

    function getEpochRangeHistory(uint256 index) public view returns (EpochRangeWithContextDigest memory) {
        bytes32 digest = rangeDigests[index];
        EpochRange memory range = ranges[digest];
        return EpochRangeWithContextDigest(range.start, range.end, digest);
    }

    function epoch() external view returns (uint256) {
        return currentEpoch;
    }

    function epochStartPosition() external view returns (uint256) {
        return rangeStart;
    }

    /// The contract that answers `available`, `contains` and `at` for the last 1,000 roots: this one.
    function rootHistory() external view returns (address) {
        return address(this);
    }

    /// True when the root after submission `seq` is among the last 1,000.
    function available(uint256 seq) public view returns (bool) {
        return seq < submissions && seq + HISTORY_WINDOW >= submissions;
    }

    /// The root after submission `seq`, which must be available.
    function at(uint256 seq) external view returns (bytes32) {
        require(available(seq), "Unavailable root");
        return roots[seq];
    }

    /// True when `root` is among the last 1,000; reads them all, so it is for eth_call.
    function contains(bytes32 root) external view returns (bool) {
        for (uint256 seq = submissions; seq != 0 && available(seq - 1); --seq) {
            if (roots[seq - 1] == root) return true;
        }
        return false;
    }

    /// What every form of submission does first.
    function _begin() private whenNotPaused launched {
        require(gasleft() >= SUBMISSION_GAS + EPOCH_GAS + TAG_GAS * msg.data.length, "Not enough gas");
        _closeEpochs(type(uint256).max);
    }

    /// Does all of a submission except closing epochs and giving money back: `paid` is what the caller's value still holds, `left` what
    /// it holds afterwards.
    function _submit(
        Submission calldata submission,
        address submitter,
        uint256 paid
    ) private returns (uint256 index, bytes32 digest, uint256 startIndex, uint256 sectors, uint256 left) {
        require(gasleft() >= SUBMISSION_GAS + TAG_GAS * submission.tags.length, "Not enough gas");
        sectors = _checkedSectors(submission);
        uint256 price = IMarket(market).pricePerSector();
        uint256 fee = sectors * price;
        if (paid < fee) revert NotEnoughFee(price, sectors, paid);
        left = paid - fee;

        uint256 before = currentLength;
        (startIndex, digest) = _insert(submission.nodes, sectors, before);
        index = submissions;
        submissions = uint64(index + 1);
        roots[index] = frontier.root(currentLength);

        IMarket(market).chargeFee{value: fee}(before, sectors, startIndex - before);
        _emitSubmit(submission, submitter, index, digest, startIndex, sectors);
    }

    /// Checks the shape of a submission and counts its sectors.
    /// The nodes must be the subtrees of a padded file: at most four, strictly falling, within four heights; and the bytes must
    /// need that many sectors, no fewer and no more.
    function _checkedSectors(Submission calldata submission) private pure returns (uint256 sectors) {
        SubmissionNode[] calldata nodes = submission.nodes;
        require(nodes.length != 0 && nodes[0].height <= MAX_HEIGHT, "Invalid submission");
        uint256 highest = nodes[0].height;
        uint256 previous = highest + 1;
        for (uint256 i = 0; i < nodes.length; ++i) {
            uint256 height = nodes[i].height;
            require(height < previous && highest - height < 4, "Invalid submission");
            sectors += 1 << height;
            previous = height;
        }
        // The most sectors that would already have been padded to a smaller shape.
        uint256 low;
        if (sectors < 16) low = sectors - 1;
        else if (nodes.length == 1) low = sectors - sectors / 16;
        else low = sectors - (1 << (highest - 3));
        uint256 length = submission.length;
        require(length <= sectors * SECTOR_BYTES && length > low * SECTOR_BYTES, "Invalid submission");
    }

    /// Places the nodes: aligned to the first and largest, and never across a segment border unless starting at one, on which both
    /// SDKs rely. What follows needs no gaps, since heights fall.
    function _insert(
        SubmissionNode[] calldata nodes,
        uint256 sectors,
        uint256 before
    ) private returns (uint256 start, bytes32 digest) {
        uint256 level = nodes[0].height;
        start = _alignUp(before, level);
        if (start % SEGMENT_SECTORS != 0 && start / SEGMENT_SECTORS != (start + sectors - 1) / SEGMENT_SECTORS) {
            level = SEGMENT_LEVEL;
            start = _alignUp(before, level);
        }
        uint256 length = frontier.pad(before, level);
        bytes memory joined = new bytes(nodes.length * 32);
        for (uint256 i = 0; i < nodes.length; ++i) {
            bytes32 root = nodes[i].root;
            length = frontier.append(length, root, nodes[i].height);
            assembly ("memory-safe") {
                mstore(add(joined, mul(add(i, 1), 32)), root)
            }
        }
        assert(length == start + sectors && length <= type(uint128).max);
        currentLength = uint128(length);
        digest = keccak256(joined);
    }

    /// Alone in a function because the caller has no stack slots left for encoding the event.
    function _emitSubmit(
        Submission calldata submission,
        address submitter,
        uint256 index,
        bytes32 digest,
        uint256 start,
        uint256 sectors
    ) private {
        emit Submit(submitter, digest, index, start, sectors, submission);
    }

    /// Closes the newest epoch that can be closed, at most `most` ahead of the current one.
    function _closeEpochs(uint256 most) private {
        if (block.number <= firstBlock) return;
        uint256 old = currentEpoch;
        uint256 next = (block.number - 1 - firstBlock) / blocksPerEpoch;
        if (next - old > most) next = old + most;
        if (next == old) return;

        uint256 mineStart = firstBlock + next * blocksPerEpoch;
        uint256 seq = submissions;
        uint128 length = currentLength;
        bytes32 root = seq == 0 ? bytes32(0) : roots[seq - 1];
        bytes32 blockDigest = _blockHash(mineStart);
        bytes32 digest = EMPTY_HASH;
        if (blockDigest != EMPTY_HASH) {
            digest = keccak256(abi.encode(blockDigest, root, uint256(length)));
            ranges[digest] = EpochRange(rangeStart, length);
            rangeDigests.push(digest);
            rangeStart = length;
        }
        currentEpoch = uint64(next);
        context = MineContext(next, mineStart, root, length, blockDigest, digest);
        emit NewEpoch(msg.sender, next, root, seq, length, digest);
    }

    /// The hash of a past block, or EMPTY_HASH when it is no longer known.
    function _blockHash(uint256 number) private view returns (bytes32) {
        uint256 age = block.number - number;
        if (age <= 256) return blockhash(number);
        if (age > HASH_WINDOW) return EMPTY_HASH;
        (bool ok, bytes memory answer) = HASH_HISTORY.staticcall(abi.encode(number));
        if (!ok || answer.length != 32) return EMPTY_HASH;
        bytes32 hash = abi.decode(answer, (bytes32));
        return hash == 0 ? EMPTY_HASH : hash;
    }

    function _refund(uint256 left) private {
        if (left != 0) Address.sendValue(payable(msg.sender), left);
    }

    function _alignUp(uint256 value, uint256 level) private pure returns (uint256) {
        uint256 mask = (1 << level) - 1;
        return (value + mask) & ~mask;
    }

    function _results(
        uint256 count
    ) private pure returns (uint256[] memory, bytes32[] memory, uint256[] memory, uint256[] memory) {
        return (new uint256[](count), new bytes32[](count), new uint256[](count), new uint256[](count));
    }
}
