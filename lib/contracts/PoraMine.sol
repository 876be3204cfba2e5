// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AccessControlEnumerable} from "@openzeppelin/contracts/access/extensions/AccessControlEnumerable.sol";
import {Initializable} from "@openzeppelin/contracts/proxy/utils/Initializable.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import "./FlowTypes.sol";
import {Pora, PoraAnswer} from "./Pora.sol";

interface IMinedFlow {
    function makeContextWithResult() external returns (MineContext memory);

    function getEpochRange(bytes32 digest) external view returns (EpochRange memory);

    function blocksPerEpoch() external view returns (uint256);
}

interface IMineReward {
    function claimMineReward(uint256 pricingIndex, address payable beneficiary, bytes32 minerId) external;
}

/// What a miner needs for its search. Target 0 or an empty subtask digest: nothing to mine now.
struct WorkerContext {
    MineContext context;
    uint256 poraTarget;
    bytes32 subtaskDigest;
    uint64 maxShards;
}

struct MineParams {
    uint256 difficulty;
    uint256 targetMineBlocks;
    uint256 targetSubmissions;
    uint64 maxShards;
    uint256 nSubtasks;
    uint256 subtaskInterval;
}

/// Pays those who show that they hold the stored data: an answer is a number that, with 4 KiB of sealed data of the flow, gives a hash
/// below the target. The data must be the flow's, so the search needs the bytes; they are sealed for one miner, so each needs its own copy.
///
/// How hard it is follows the answers: each epoch that brought more of them than wanted lowers the target, each with fewer raises it.
contract PoraMine is AccessControlEnumerable, Initializable {
    using Pora for *;

    event NewMinerId(bytes32 indexed minerId, address indexed beneficiary);
    event UpdateMinerId(bytes32 indexed minerId, address indexed from, address indexed to);
    event NewSubmission(uint256 indexed epoch, bytes32 indexed minerId, uint256 epochIndex, uint256 recallPosition);

    bytes32 public constant PARAMS_ADMIN_ROLE = keccak256("PARAMS_ADMIN_ROLE");

    uint64 public constant poraVersion = 1;

    uint256 private constant NO_SEAL = 1;
    uint256 private constant NO_PROOF = 2;
    uint256 private constant FIXED_DIFFICULTY = 4;
    /// Blocks whose hash the EVM knows: a window can be no longer.
    uint256 private constant WINDOW_MAX = 256;
    /// Epochs without answers that one call looks back over; the target doubles in each of them.
    uint256 private constant IDLE_EPOCHS_MAX = 256;
    uint256 private constant ADJUST_RATIO = 20;
    /// keccak of nothing: the digest of a context that cannot be mined.
    bytes32 private constant EMPTY_HASH = 0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470;

    bool public immutable sealDataEnabled;
    bool public immutable dataProofEnabled;
    bool public immutable fixedDifficulty;
    address public immutable flow;
    address public immutable reward;
    /// Sectors of a pricing chunk of `reward`.
    uint256 public immutable sectorsPerPrice;

    uint256 public poraTarget;
    uint256 public minDifficulty;
    uint256 public targetMineBlocks;
    uint256 public targetSubmissions;
    uint256 public targetSubmissionsNextEpoch;
    uint64 public maxShards;
    uint256 public nSubtasks;
    uint256 public subtaskInterval;

    uint256 public lastMinedEpoch;
    /// Answers in the epoch of the last one.
    uint256 public currentSubmissions;

    /// Who is paid for a miner id; ids without one are not registered.
    mapping(bytes32 minerId => address payee) public beneficiaries;
    mapping(uint256 quality => bool) private answered;

    /// @param settings bits for tests: 1 no sealing, 2 no data proof, 4 fixed difficulty; 0 on every network.
    constructor(
        uint256 settings,
        address flow_,
        address reward_,
        uint256 sectorsPerPrice_,
        MineParams memory params,
        uint256 minDifficulty_,
        address owner
    ) initializer {
        require(flow_ != address(0) && reward_ != address(0) && owner != address(0), "Invalid parameters");
        require(sectorsPerPrice_ != 0 && params.difficulty != 0 && params.targetSubmissions != 0, "Invalid parameters");
        require(params.targetMineBlocks != 0 && params.targetMineBlocks <= WINDOW_MAX, "Invalid parameters");
        require(params.maxShards != 0 && params.maxShards & (params.maxShards - 1) == 0, "Invalid parameters");
        require(params.nSubtasks != 0 && params.subtaskInterval != 0, "Invalid parameters");
        sealDataEnabled = settings & NO_SEAL == 0;
        dataProofEnabled = settings & NO_PROOF == 0;
        fixedDifficulty = settings & FIXED_DIFFICULTY != 0;
        flow = flow_;
        reward = reward_;
        sectorsPerPrice = sectorsPerPrice_;
        minDifficulty = minDifficulty_;
        poraTarget = Math.min(type(uint256).max / params.difficulty, _maxTarget());
        targetMineBlocks = params.targetMineBlocks;
        targetSubmissions = params.targetSubmissions;
        targetSubmissionsNextEpoch = params.targetSubmissions;
        maxShards = params.maxShards;
        nSubtasks = params.nSubtasks;
        subtaskInterval = params.subtaskInterval;
        _grantRole(DEFAULT_ADMIN_ROLE, owner);
        _grantRole(PARAMS_ADMIN_ROLE, owner);
    }

    /// The constructor has done its work, so it always refuses.
    function initialize(address, address, MineParams calldata) external initializer {}

    /// Takes an answer and pays for it.
    function submit(PoraAnswer calldata answer) external {
        require(answer.minerId != bytes32(0), "MinerId cannot be zero");
        address beneficiary = beneficiaries[answer.minerId];
        require(beneficiary != address(0), "MinerId does not registered");

        MineContext memory context = IMinedFlow(flow).makeContextWithResult();
        _enterEpoch(context.epoch);
        bytes32 subtaskDigest = getSubtaskDigest(context, answer.minerId);
        basicCheck(answer, context);
        require(answer.range.shards() <= maxShards, "Exceeding the allowed number of shards");
        _checkData(answer, context);

        uint256 found = pora(answer, subtaskDigest);
        // The scale is at least 2^64, so nothing is shifted out.
        uint256 target = (poraTarget / answer.range.scaleX64(context.flowLength)) << 64;
        require(found <= target, "Do not reach target quality");
        require(!answered[found], "Answer has been submitted");
        answered[found] = true;

        emit NewSubmission(context.epoch, answer.minerId, currentSubmissions, answer.recallPosition);
        lastMinedEpoch = context.epoch;
        currentSubmissions += 1;
        IMineReward(reward).claimMineReward(
            answer.recallPosition / sectorsPerPrice,
            payable(beneficiary),
            answer.minerId
        );
    }

    /// What can be said of an answer without looking at its data.
    function basicCheck(PoraAnswer calldata answer, MineContext memory context) public view {
        require(context.digest == answer.contextDigest, "Inconsistent mining digest");
        require(context.digest != EMPTY_HASH, "Empty digest can not mine");
        require(currentSubmissions < 2 * targetSubmissions, "Epoch has enough submissions");
        answer.range.check(context.flowLength);
        EpochRange memory range = IMinedFlow(flow).getEpochRange(answer.sealedContextDigest);
        uint256 last = answer.recallPosition + Pora.SEAL_SECTORS;
        require(range.start < last && last <= range.end, "Invalid sealed context digest");
    }

    /// The number that an answer reaches, the lower the better.
    function pora(PoraAnswer calldata answer, bytes32 subtaskDigest) public view returns (uint256) {
        require(answer.sealOffset < Pora.SEGMENT_SECTORS / Pora.SEAL_SECTORS, "Incorrect recall position");
        bytes32[2] memory seed = answer.seedOf(subtaskDigest);
        (bytes32 recall, bytes memory mixed) = answer.walk(seed);
        uint256 position = answer.range.recallSegment(recall) + answer.sealOffset * Pora.SEAL_SECTORS;
        require(answer.recallPosition == position, "Incorrect recall position");
        return Pora.quality(answer.sealOffset, seed, mixed);
    }

    /// What a miner works on now. Meant for eth_call: closes what epochs can be closed first.
    function computeWorkerContext(bytes32 minerId) external returns (WorkerContext memory answer) {
        require(minerId != bytes32(0), "MinerId cannot be zero");
        require(beneficiaries[minerId] != address(0), "MinerId does not registered");
        answer.maxShards = maxShards;
        answer.context = IMinedFlow(flow).makeContextWithResult();
        uint256 start = _subtaskStart(answer.context, minerId);
        if (answer.context.digest == EMPTY_HASH || block.number <= start || block.number - start > targetMineBlocks) {
            return answer;
        }
        _enterEpoch(answer.context.epoch);
        answer.subtaskDigest = _subtaskDigest(answer.context, start);
        if (currentSubmissions < 2 * targetSubmissions) answer.poraTarget = poraTarget;
    }

    /// True while the current epoch takes more answers.
    function canSubmit() external returns (bool) {
        MineContext memory context = IMinedFlow(flow).makeContextWithResult();
        return context.epoch > lastMinedEpoch || currentSubmissions < 2 * targetSubmissions;
    }

    /// @return what the numbers of a miner are tried with, in its window of the epoch
    function getSubtaskDigest(MineContext memory context, bytes32 minerId) public view returns (bytes32) {
        uint256 start = _subtaskStart(context, minerId);
        require(block.number > start, "Earlier than expected subtask start block.");
        require(block.number - start <= targetMineBlocks, "Mine deadline exceed");
        return _subtaskDigest(context, start);
    }

    /// Registers a new miner id; nobody can choose it.
    function requestMinerId(address beneficiary, uint64 seed) external {
        require(beneficiary != address(0), "Beneficiary cannot be zero");
        bytes32 minerId = keccak256(abi.encodePacked(blockhash(block.number - 1), msg.sender, seed));
        require(beneficiaries[minerId] == address(0), "MinerId has registered");
        beneficiaries[minerId] = beneficiary;
        emit NewMinerId(minerId, beneficiary);
    }

    function transferBeneficial(address to, bytes32 minerId) external {
        require(beneficiaries[minerId] == msg.sender, "Sender does not own minerId");
        require(to != address(0), "Beneficiary cannot be zero");
        beneficiaries[minerId] = to;
        emit UpdateMinerId(minerId, msg.sender, to);
    }

    function setTargetMineBlocks(uint256 blocks) external onlyRole(PARAMS_ADMIN_ROLE) {
        require(blocks != 0 && blocks <= WINDOW_MAX, "Invalid parameters");
        targetMineBlocks = blocks;
    }

    /// Holds from the next epoch on, or at once while nobody has mined.
    function setTargetSubmissions(uint256 submissions) external onlyRole(PARAMS_ADMIN_ROLE) {
        require(submissions != 0 && submissions <= type(uint32).max, "Invalid parameters");
        targetSubmissionsNextEpoch = submissions;
        if (lastMinedEpoch == 0) targetSubmissions = submissions;
    }

    function setMaxShards(uint64 shards) external onlyRole(PARAMS_ADMIN_ROLE) {
        require(shards != 0 && shards & (shards - 1) == 0, "Invalid parameters");
        maxShards = shards;
    }

    function setMinDifficulty(uint256 difficulty) external onlyRole(PARAMS_ADMIN_ROLE) {
        minDifficulty = difficulty;
        poraTarget = Math.min(poraTarget, _maxTarget());
    }

    function setNumSubtasks(uint256 subtasks) external onlyRole(PARAMS_ADMIN_ROLE) {
        require(subtasks != 0 && subtasks < IMinedFlow(flow).blocksPerEpoch(), "Invalid parameters");
        nSubtasks = subtasks;
    }

    function setSubtaskInterval(uint256 blocks) external onlyRole(PARAMS_ADMIN_ROLE) {
        require(blocks != 0 && blocks < IMinedFlow(flow).blocksPerEpoch(), "Invalid parameters");
        subtaskInterval = blocks;
    }

    /// The data of an answer must be the flow's at that place.
    function _checkData(PoraAnswer calldata answer, MineContext memory context) private view {
        if (!dataProofEnabled) return;
        bytes memory data = sealDataEnabled ? answer.unseal() : abi.encodePacked(answer.sealedData);
        // Of the right length: else an inner node could pass for a seal, or a seal for one of a larger tree.
        require(
            answer.merkleProof.length == Pora.proofLength(context.flowLength) &&
                answer.recallPosition % Pora.SEAL_SECTORS == 0 &&
                Pora.rootOf(data, answer.recallPosition, answer.merkleProof) == context.flowRoot,
            "Inconsistent merkle root"
        );
    }

    /// Adjusts the target when this is the first call in a new epoch: once for the epoch of the last answer, and for each after it in
    /// which there was none.
    function _enterEpoch(uint256 epoch) private {
        uint256 last = lastMinedEpoch;
        assert(epoch >= last);
        if (epoch == last) return;
        if (last != 0 && !fixedDifficulty) {
            uint256 target = poraTarget;
            uint256 most = _maxTarget();
            target = _adjusted(target, currentSubmissions == 0 ? type(uint256).max : _expected(target), most);
            uint256 idle = Math.min(epoch - last - 1, IDLE_EPOCHS_MAX);
            for (uint256 i = 0; i < idle && target < most; ++i) target = _adjusted(target, type(uint256).max, most);
            poraTarget = target;
        }
        currentSubmissions = 0;
        targetSubmissions = targetSubmissionsNextEpoch;
        // Once an epoch, answers or not; while nobody has ever mined there is nothing to adjust by.
        if (last != 0) lastMinedEpoch = epoch;
    }

    /// The target that would have brought as many answers as wanted.
    function _expected(uint256 target) private view returns (uint256) {
        uint256 wanted = targetSubmissions;
        uint256 got = currentSubmissions;
        // target · wanted / got may be beyond 256 bits.
        if (wanted > got && target / got > type(uint256).max / wanted) return type(uint256).max;
        return Math.mulDiv(target, wanted, got);
    }

    function _adjusted(uint256 target, uint256 expected, uint256 most) private pure returns (uint256) {
        uint256 next = (target / ADJUST_RATIO) * (ADJUST_RATIO - 1) + expected / ADJUST_RATIO;
        next = Math.max(next, target / 2);
        if (next > target && next - target > target) next = target * 2;
        return Math.min(next, most);
    }

    function _maxTarget() private view returns (uint256) {
        return minDifficulty == 0 ? type(uint256).max : type(uint256).max / minDifficulty;
    }

    function _subtaskStart(MineContext memory context, bytes32 minerId) private view returns (uint256) {
        uint256 subtask = uint256(keccak256(abi.encode(context.digest, minerId))) % nSubtasks;
        return context.mineStart + subtask * subtaskInterval;
    }

    function _subtaskDigest(MineContext memory context, uint256 start) private view returns (bytes32) {
        return keccak256(abi.encode(context.digest, blockhash(start)));
    }
}
