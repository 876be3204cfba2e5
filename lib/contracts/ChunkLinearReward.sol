// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AccessControlEnumerable} from "@openzeppelin/contracts/access/extensions/AccessControlEnumerable.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {IReward} from "./FlowTypes.sol";

/// Holds the storage fees and releases them to miners: each pricing chunk of the flow has a pot that opens when the chunk is full
/// and then becomes claimable evenly over `releaseSeconds`. A claim takes half of what is claimable; money leaves by pull alone.
///
/// A large file fills many pricing chunks at once (1 GiB on a devnet with chunks of 1 MiB: 1,024). They get equal pots at one
/// moment, so they are stored as one span and written out singly only when first claimed: the gas of a fill does not depend on
/// the file's size.
///
/// The balance always covers all pots, the donated pool and all payments; `test/unit/contracts.test.ts` adds them up.
contract ChunkLinearReward is AccessControlEnumerable, IReward {
    using SafeCast for uint256;

    event DistributeReward(
        uint256 indexed pricingIndex,
        address indexed beneficiary,
        bytes32 indexed minerId,
        uint256 amount
    );

    /// A pot. Its whole content is locked + claimable + distributed; startTime is 0 until the chunk is full.
    struct Reward {
        uint128 locked;
        uint128 claimable;
        uint128 distributed;
        uint40 startTime;
        uint40 lastUpdate;
    }

    /// Chunks [first, end) were filled whole by one fee, `amount` each.
    struct Span {
        uint64 first;
        uint64 end;
        uint40 startTime;
        uint128 amount;
    }

    bytes32 public constant MINE_ROLE = keccak256("MINE_ROLE");
    bytes32 public constant PARAMS_ADMIN_ROLE = keccak256("PARAMS_ADMIN_ROLE");
    uint256 private constant BPS = 10_000;

    address public immutable market;
    uint256 public immutable sectorsPerPrice;
    uint256 public immutable releaseSeconds;

    /// Paid on top of each claim while the chunk is within its period and the donated pool lasts.
    uint256 public baseReward;
    /// The donated pool.
    uint256 public totalBaseReward;
    uint256 public serviceFeeRateBps;
    address public treasury;
    /// What each address may withdraw.
    mapping(address payee => uint256 amount) public payments;

    mapping(uint256 pricingIndex => Reward pot) private pots;
    Span[] private spans;

    /// @param mine the contract that may claim for miners; zero for none yet.
    constructor(address market_, address mine, uint256 sectorsPerPrice_, uint256 releaseSeconds_, address owner) {
        require(market_ != address(0) && owner != address(0), "Invalid parameters");
        require(sectorsPerPrice_ != 0 && releaseSeconds_ != 0, "Invalid parameters");
        market = market_;
        sectorsPerPrice = sectorsPerPrice_;
        releaseSeconds = releaseSeconds_;
        _grantRole(DEFAULT_ADMIN_ROLE, owner);
        _grantRole(PARAMS_ADMIN_ROLE, owner);
        if (mine != address(0)) _grantRole(MINE_ROLE, mine);
    }

    /// Shares the value sent along over the pricing chunks of sectors [beforeLength, beforeLength + chargedSectors).
    function fillReward(uint256 beforeLength, uint256 chargedSectors) external payable {
        require(msg.sender == market, "Sender does not have permission");
        require(chargedSectors != 0, "Nothing charged");
        uint256 fee = (msg.value * serviceFeeRateBps) / BPS;
        if (fee != 0) payments[treasury] += fee;
        uint256 value = msg.value - fee;

        uint256 end = beforeLength + chargedSectors;
        uint256 first = beforeLength / sectorsPerPrice;
        uint256 last = end / sectorsPerPrice; // the chunk the end lies in; all chunks before it are full now
        uint256 rest = value;
        if (last > first + 1) {
            uint256 share = Math.mulDiv(value, sectorsPerPrice, chargedSectors);
            spans.push(
                Span((first + 1).toUint64(), last.toUint64(), uint40(block.timestamp), share.toUint128())
            );
            rest -= share * (last - first - 1);
        }
        if (last > first && end % sectorsPerPrice != 0) {
            uint256 share = Math.mulDiv(value, end % sectorsPerPrice, chargedSectors);
            if (share != 0) pots[last].locked += share.toUint128();
            rest -= share;
        }
        // The first chunk takes its share and what rounding left over.
        if (rest != 0) pots[first].locked += rest.toUint128();
        if (last > first) {
            pots[first].startTime = uint40(block.timestamp);
            pots[first].lastUpdate = uint40(block.timestamp);
        }
    }

    /// Credits a miner's answer in a pricing chunk. Nothing to give is not an error: the answer still counts.
    function claimMineReward(
        uint256 pricingIndex,
        address payable beneficiary,
        bytes32 minerId
    ) external onlyRole(MINE_ROLE) {
        Reward memory pot = rewards(pricingIndex);
        if (pot.startTime == 0) return;
        _release(pot);
        uint128 amount = pot.claimable / 2;
        pot.claimable -= amount;
        pot.distributed += amount;
        pots[pricingIndex] = pot;

        uint256 base = 0;
        if (block.timestamp < pot.startTime + releaseSeconds) {
            base = Math.min(baseReward, totalBaseReward);
            totalBaseReward -= base;
        }
        uint256 total = amount + base;
        if (total == 0) return;
        payments[beneficiary] += total;
        emit DistributeReward(pricingIndex, beneficiary, minerId, total);
    }

    /// Sends a payee what is due to it; anyone may call.
    function withdrawPayments(address payable payee) external {
        uint256 amount = payments[payee];
        payments[payee] = 0;
        Address.sendValue(payee, amount);
    }

    function donate() external payable {
        totalBaseReward += msg.value;
    }

    function setBaseReward(uint256 baseReward_) external onlyRole(PARAMS_ADMIN_ROLE) {
        baseReward = baseReward_;
    }

    function setServiceFeeRate(uint256 bps) external onlyRole(PARAMS_ADMIN_ROLE) {
        require(bps <= BPS && (bps == 0 || treasury != address(0)), "Invalid parameters");
        serviceFeeRateBps = bps;
    }

    function setTreasury(address treasury_) external onlyRole(PARAMS_ADMIN_ROLE) {
        require(treasury_ != address(0), "Invalid parameters");
        treasury = treasury_;
    }

    /// The pot of a pricing chunk as of its last update.
    function rewards(uint256 pricingIndex) public view returns (Reward memory pot) {
        pot = pots[pricingIndex];
        if (pot.startTime != 0 || spans.length == 0) return pot;
        // The last span that begins at or before the chunk; spans never overlap and lie in flow order.
        uint256 low = 0;
        uint256 high = spans.length;
        while (high - low > 1) {
            uint256 middle = (low + high) / 2;
            if (spans[middle].first <= pricingIndex) low = middle;
            else high = middle;
        }
        Span memory span = spans[low];
        if (pricingIndex < span.first || pricingIndex >= span.end) return pot;
        return Reward(span.amount, 0, 0, span.startTime, span.startTime);
    }

    /// When a chunk's period ends; 0 while the chunk is not full.
    function rewardDeadline(uint256 pricingIndex) public view returns (uint256) {
        uint256 start = rewards(pricingIndex).startTime;
        return start == 0 ? 0 : start + releaseSeconds;
    }

    /// The first chunk whose period has not ended, and the time this is said of. Chunks fill in order, so deadlines never fall.
    function firstRewardableChunk() external view returns (uint64, uint256) {
        uint256 high = 1;
        while (_ended(high - 1)) high *= 2;
        uint256 low = high / 2;
        while (low < high) {
            uint256 middle = (low + high) / 2;
            if (_ended(middle)) low = middle + 1;
            else high = middle;
        }
        return (low.toUint64(), block.timestamp);
    }

    function _ended(uint256 pricingIndex) private view returns (bool) {
        uint256 deadline = rewardDeadline(pricingIndex);
        return deadline != 0 && deadline < block.timestamp;
    }

    /// Moves what time has released from locked to claimable. From the start, not from the last update: rounding does not add up.
    function _release(Reward memory pot) private view {
        uint256 content = uint256(pot.locked) + pot.claimable + pot.distributed;
        uint256 elapsed = Math.min(block.timestamp - pot.startTime, releaseSeconds);
        uint256 released = (content * elapsed) / releaseSeconds;
        pot.claimable = uint128(released - pot.distributed);
        pot.locked = uint128(content - released);
        pot.lastUpdate = uint40(block.timestamp);
    }
}
