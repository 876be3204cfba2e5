// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AccessControlEnumerable} from "@openzeppelin/contracts/access/extensions/AccessControlEnumerable.sol";
import {Initializable} from "@openzeppelin/contracts/proxy/utils/Initializable.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {DABls} from "./DABls.sol";
import {DASampling} from "./DASampling.sol";
import {
    CommitRootSubmission,
    DA_SIGNERS_PRECOMPILE,
    G1Point,
    IDASigners,
    SampleRange,
    SampleResponse,
    SampleTask
} from "./DATypes.sol";

/// Where blobs are posted and assigned to a quorum, certificates are checked and kept, and stored rows win rewards in the sampling
/// lottery. Anyone may call everything but the setters. Money leaves by pull alone.
///
/// A sampling answer shows that somebody holds the row, not that its owner does: rows can be recomputed from the blob. That is the public
/// protocol.
contract DAEntrance is AccessControlEnumerable, Initializable {
    event DataUpload(address sender, bytes32 dataRoot, uint256 epoch, uint256 quorumId, uint256 blobPrice);
    event ErasureCommitmentVerified(bytes32 dataRoot, uint256 epoch, uint256 quorumId);
    event NewSampleRound(
        uint256 indexed sampleRound,
        uint256 sampleHeight,
        bytes32 sampleSeed,
        uint256 podasTarget
    );
    event DAReward(
        address indexed beneficiary,
        uint256 indexed sampleRound,
        uint256 indexed epoch,
        uint256 quorumId,
        bytes32 dataRoot,
        uint256 quality,
        uint256 lineIndex,
        uint256 sublineIndex,
        uint256 reward
    );

    IDASigners public constant DA_SIGNERS = DA_SIGNERS_PRECOMPILE;
    uint256 public constant SLICE_NUMERATOR = 2;
    uint256 public constant SLICE_DENOMINATOR = 3;
    uint256 public constant MAX_PODAS_TARGET = type(uint256).max / 128;
    bytes32 public constant PARAMS_ADMIN_ROLE = keccak256("PARAMS_ADMIN_ROLE");

    uint256 private constant BPS = 10_000;
    /// How far BLOCKHASH reaches back.
    uint256 private constant HASHES = 256;
    /// What the precompile charges; a failing call takes all it is given.
    uint256 private constant AGGREGATE_GAS = 1_000_000;
    /// Steps of the difficulty that the bits below this do not take part in.
    uint256 private constant TARGET_SHIFT = 32;
    /// An idle round moves the target by 9/8 at most: after so many it has reached its bound from anywhere.
    uint256 private constant IDLE_ROUNDS_MAX = 2_048;

    /// @custom:storage-location erc7201:0g.storage.DAEntrance
    struct Store {
        uint256 currentEpoch;
        uint256 quorumIndex;
        mapping(bytes32 id => G1Point commitment) commitments;
        bytes32 currentSampleSeed;
        uint256 sampleRound;
        uint256 nextSampleHeight;
        uint256 podasTarget;
        uint64 roundSubmissions;
        uint64 targetRoundSubmissions;
        uint64 targetRoundSubmissionsNext;
        uint64 epochWindowSize;
        uint64 rewardRatio;
        uint64 samplePeriod;
        mapping(bytes32 key => bool given) answers;
        uint256 currentEpochReward;
        uint256 activedReward;
        uint256 totalBaseReward;
        uint256 baseReward;
        uint256 blobPrice;
        uint256 serviceFeeRateBps;
        uint256 serviceFee;
        address treasury;
        mapping(address payee => uint256 amount) payments;
    }

    /// keccak(keccak("0g.storage.DAEntrance") - 1) without its last byte (ERC-7201).
    bytes32 private constant STORE =
        keccak256(abi.encode(uint256(keccak256("0g.storage.DAEntrance")) - 1)) & ~bytes32(uint256(0xff));

    /// What was due before a setting changes goes by the old one.
    modifier onlyParamsAdmin() {
        _checkRole(PARAMS_ADMIN_ROLE);
        sync();
        _;
    }

    constructor(address owner, uint256 blobPrice_) initializer {
        require(owner != address(0), "Invalid parameters");
        _grantRole(DEFAULT_ADMIN_ROLE, owner);
        _grantRole(PARAMS_ADMIN_ROLE, owner);
        Store storage $ = store();
        $.samplePeriod = 30;
        $.nextSampleHeight = (block.number / 30 + 1) * 30;
        $.podasTarget = MAX_PODAS_TARGET;
        $.targetRoundSubmissions = 20;
        $.targetRoundSubmissionsNext = 20;
        $.epochWindowSize = 300;
        $.rewardRatio = 1_200_000;
        $.blobPrice = blobPrice_;
    }

    /// The constructor has done its work, so it always refuses.
    function initialize() external initializer {}

    // Blobs ---------------------------------------------------------------------------------------------------------------------

    /// Posts blobs: all roots of a call go to one quorum, calls to quorums in turn.
    function submitOriginalData(bytes32[] calldata dataRoots) external payable {
        sync();
        Store storage $ = store();
        uint256 price = $.blobPrice;
        require(msg.value >= price * dataRoots.length, "Not enough da blob fee");
        uint256 epoch = $.currentEpoch;
        uint256 quorums = DA_SIGNERS.quorumCount(epoch);
        require(quorums != 0, "DAEntrance: No DA Signers");
        uint256 quorumId = ($.quorumIndex + 1) % quorums;
        $.quorumIndex = quorumId;
        $.currentEpochReward += msg.value;
        for (uint256 i = 0; i < dataRoots.length; i++) {
            emit DataUpload(msg.sender, dataRoots[i], epoch, quorumId, price);
        }
    }

    /// Records certificates; those already known are passed over, whatever commitment they bring.
    function submitVerifiedCommitRoots(CommitRootSubmission[] calldata submissions) external {
        sync();
        for (uint256 i = 0; i < submissions.length; i++) {
            CommitRootSubmission calldata s = submissions[i];
            bytes32 id = identifier(s.dataRoot, s.epoch, s.quorumId);
            if (exists(id)) continue;
            checkCertificate(s);
            store().commitments[id] = s.erasureCommitment;
            emit ErasureCommitmentVerified(s.dataRoot, s.epoch, s.quorumId);
        }
    }

    function checkCertificate(CommitRootSubmission calldata s) private view {
        (G1Point memory key, uint256 total, uint256 hit) =
            DA_SIGNERS.getAggPkG1{gas: AGGREGATE_GAS}(s.epoch, s.quorumId, s.quorumBitmap);
        require(total != 0 && SLICE_NUMERATOR * total <= SLICE_DENOMINATOR * hit, "DARegistry: insufficient signed slices");
        bytes32 digest =
            keccak256(abi.encode(s.dataRoot, s.epoch, s.quorumId, s.erasureCommitment.X, s.erasureCommitment.Y));
        require(DABls.isSignature(digest, s.signature, key, s.aggPkG2), "DARegistry: signature is invalid");
    }

    function verifiedErasureCommitment(bytes32 dataRoot, uint256 epoch, uint256 quorumId)
        external
        view
        returns (G1Point memory)
    {
        return store().commitments[identifier(dataRoot, epoch, quorumId)];
    }

    function commitmentExists(bytes32 dataRoot, uint256 epoch, uint256 quorumId) external view returns (bool) {
        return exists(identifier(dataRoot, epoch, quorumId));
    }

    function exists(bytes32 id) private view returns (bool) {
        G1Point storage c = store().commitments[id];
        return c.X != 0 || c.Y != 0;
    }

    function identifier(bytes32 dataRoot, uint256 epoch, uint256 quorumId) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(dataRoot, epoch, quorumId));
    }

    // Epochs and rounds ---------------------------------------------------------------------------------------------------------

    /// Brings epoch and sampling round up to the current block.
    function sync() public {
        syncFixedTimes(type(uint256).max);
    }

    /// As sync, opening at most `times` rounds. Rounds that nobody can answer any more (their seed is out of reach) are passed
    /// over at once: a chain that slept must not need more gas than a block has.
    function syncFixedTimes(uint256 times) public {
        (bool fine,) = address(DA_SIGNERS).call(abi.encodeCall(IDASigners.makeEpoch, ()));
        require(fine, "DAEntrance: make epoch failed");
        Store storage $ = store();
        uint256 epoch = DA_SIGNERS.epochNumber();
        if (epoch != $.currentEpoch) rollOver($, epoch);

        uint256 period = $.samplePeriod;
        uint256 height = $.nextSampleHeight;
        if (block.number < height || times == 0) return;
        uint256 due = (block.number - height) / period + 1;
        if (due > times) due = times;
        uint256 target = adjusted($.podasTarget, $.roundSubmissions, $.targetRoundSubmissions);
        uint256 round = $.sampleRound + 1;
        if (block.number - height >= HASHES && due > 1) {
            uint256 passed = (block.number - height - HASHES) / period + 1;
            // The last one is opened even so: with periods longer than BLOCKHASH reaches back it is the current round.
            if (passed > due - 1) passed = due - 1;
            for (uint256 i = 0; i < passed && i < IDLE_ROUNDS_MAX && target < MAX_PODAS_TARGET; i++) {
                target = adjusted(target, 0, 1);
            }
            round += passed;
            height += passed * period;
            due -= passed;
        }
        $.targetRoundSubmissions = $.targetRoundSubmissionsNext;
        bytes32 seed;
        while (true) {
            seed = blockhash(height - 1);
            emit NewSampleRound(round, height, seed, target);
            height += period;
            due--;
            if (due == 0) break;
            target = adjusted(target, 0, 1);
            round++;
        }
        $.currentSampleSeed = seed;
        $.sampleRound = round;
        $.nextSampleHeight = height;
        $.podasTarget = target;
        $.roundSubmissions = 0;
    }

    /// The pot of the epoch that ends becomes the pool that samples are paid from.
    function rollOver(Store storage $, uint256 epoch) private {
        uint256 pot = $.currentEpochReward;
        uint256 fee = $.treasury == address(0) ? 0 : (pot * $.serviceFeeRateBps) / BPS;
        if (fee != 0) {
            $.serviceFee += fee;
            $.payments[$.treasury] += fee;
        }
        $.activedReward += pot - fee;
        $.currentEpochReward = 0;
        $.currentEpoch = epoch;
    }

    /// More answers than wanted lower the target, fewer raise it, by an eighth at most.
    function adjusted(uint256 target, uint256 submissions, uint256 wanted) private pure returns (uint256) {
        uint256 t = target >> TARGET_SHIFT;
        if (submissions > wanted) t -= (t * (submissions - wanted)) / wanted / 8;
        else t += (t * (wanted - submissions)) / wanted / 8;
        // The product of t and a count fits: t has at most 217 bits, a count 32 more.
        t <<= TARGET_SHIFT;
        return t < MAX_PODAS_TARGET ? t : MAX_PODAS_TARGET;
    }

    // Sampling ------------------------------------------------------------------------------------------------------------------

    /// Pays the owner of a row whose sub-line wins. Anyone may bring it.
    function submitSamplingResponse(SampleResponse calldata a) external {
        sync();
        Store storage $ = store();
        require($.sampleRound != 0, "Sample round 0 cannot be mined");
        require($.roundSubmissions < 2 * $.targetRoundSubmissions, "Too many submissions in one round");
        require(a.sampleSeed == $.currentSampleSeed, "Unmatched sample seed");
        require(a.quality <= $.podasTarget, "Quality not reached");
        require(exists(identifier(a.dataRoot, a.epoch, a.quorumId)), "Unrecorded commitment");
        require(uint256(a.epoch) + $.epochWindowSize >= $.currentEpoch, "Epoch has stopped sampling");
        require(a.epoch < $.currentEpoch, "Cannot sample current epoch");
        bytes32 key = DASampling.key(a);
        require(!$.answers[key], "Duplicated submission");
        DASampling.check(a);
        $.answers[key] = true;
        $.roundSubmissions++;

        address beneficiary = DA_SIGNERS.getQuorumRow(a.epoch, a.quorumId, a.lineIndex);
        uint256 share = $.activedReward / $.rewardRatio;
        uint256 base = $.baseReward < $.totalBaseReward ? $.baseReward : $.totalBaseReward;
        $.activedReward -= share;
        $.totalBaseReward -= base;
        uint256 reward = share + base;
        if (reward != 0) $.payments[beneficiary] += reward;
        emit DAReward(
            beneficiary,
            $.sampleRound,
            a.epoch,
            a.quorumId,
            a.dataRoot,
            a.quality,
            a.lineIndex,
            a.sublineIndex,
            reward
        );
    }

    function sampleTask() external returns (SampleTask memory) {
        sync();
        Store storage $ = store();
        return SampleTask($.currentSampleSeed, $.podasTarget, 2 * $.targetRoundSubmissions - $.roundSubmissions);
    }

    /// First and last epoch whose rows can be answered; 0 and 0 before the second epoch.
    function sampleRange() external returns (SampleRange memory) {
        sync();
        Store storage $ = store();
        uint256 epoch = $.currentEpoch;
        uint256 start = epoch > $.epochWindowSize ? epoch - $.epochWindowSize : 0;
        return SampleRange(uint64(start), uint64(epoch == 0 ? 0 : epoch - 1));
    }

    // Money ---------------------------------------------------------------------------------------------------------------------

    /// Adds to what base rewards are paid from.
    function donate() external payable {
        sync();
        store().totalBaseReward += msg.value;
    }

    function payments(address payee) external view returns (uint256) {
        return store().payments[payee];
    }

    /// Pays out what `payee` has earned, to itself. Anyone may call.
    function withdrawPayments(address payable payee) external {
        uint256 amount = store().payments[payee];
        store().payments[payee] = 0;
        Address.sendValue(payee, amount);
    }

    // Settings ------------------------------------------------------------------------------------------------------------------

    /// Takes effect in the next round.
    function setRoundSubmissions(uint64 target) external onlyParamsAdmin {
        uint256 current = store().targetRoundSubmissions;
        require(target != 0, "Round submissions cannot be zero");
        require(target <= 4 * current, "Increase round submissions too large");
        require(uint256(target) * 4 >= current, "Decrease round submissions too large");
        require(target <= type(uint32).max, "Increase round submissions too large");
        store().targetRoundSubmissionsNext = target;
    }

    function setEpochWindowSize(uint64 epochs) external onlyParamsAdmin {
        require(epochs != 0, "Epoch window size cannot be zero");
        store().epochWindowSize = epochs;
    }

    function setRewardRatio(uint64 ratio) external onlyParamsAdmin {
        require(ratio != 0, "Reward ratio must be non-zero");
        store().rewardRatio = ratio;
    }

    function setSamplePeriod(uint64 blocks) external onlyParamsAdmin {
        require(blocks != 0, "Sample period cannot be zero");
        store().samplePeriod = blocks;
    }

    function setBaseReward(uint256 reward) external onlyParamsAdmin {
        store().baseReward = reward;
    }

    function setBlobPrice(uint256 price) external onlyParamsAdmin {
        store().blobPrice = price;
    }

    /// Ten-thousandths.
    function setServiceFeeRate(uint256 bps) external onlyParamsAdmin {
        require(bps <= BPS, "Service fee rate too large");
        store().serviceFeeRateBps = bps;
    }

    function setTreasury(address to) external onlyParamsAdmin {
        store().treasury = to;
    }

    // Reading -------------------------------------------------------------------------------------------------------------------

    function currentEpoch() external view returns (uint256) {
        return store().currentEpoch;
    }

    function currentSampleSeed() external view returns (bytes32) {
        return store().currentSampleSeed;
    }

    function sampleRound() external view returns (uint256) {
        return store().sampleRound;
    }

    function nextSampleHeight() external view returns (uint256) {
        return store().nextSampleHeight;
    }

    function podasTarget() external view returns (uint256) {
        return store().podasTarget;
    }

    function roundSubmissions() external view returns (uint64) {
        return store().roundSubmissions;
    }

    function targetRoundSubmissions() external view returns (uint64) {
        return store().targetRoundSubmissions;
    }

    function targetRoundSubmissionsNext() external view returns (uint64) {
        return store().targetRoundSubmissionsNext;
    }

    function currentEpochReward() external view returns (uint256) {
        return store().currentEpochReward;
    }

    function activedReward() external view returns (uint256) {
        return store().activedReward;
    }

    function totalBaseReward() external view returns (uint256) {
        return store().totalBaseReward;
    }

    /// All service fees so far.
    function serviceFee() external view returns (uint256) {
        return store().serviceFee;
    }

    function epochWindowSize() external view returns (uint64) {
        return store().epochWindowSize;
    }

    function rewardRatio() external view returns (uint64) {
        return store().rewardRatio;
    }

    function baseReward() external view returns (uint256) {
        return store().baseReward;
    }

    function blobPrice() external view returns (uint256) {
        return store().blobPrice;
    }

    function samplePeriod() external view returns (uint64) {
        return store().samplePeriod;
    }

    function serviceFeeRateBps() external view returns (uint256) {
        return store().serviceFeeRateBps;
    }

    function treasury() external view returns (address) {
        return store().treasury;
    }

    function store() private pure returns (Store storage $) {
        bytes32 at = STORE;
        assembly {
            $.slot := at
        }
    }
}
