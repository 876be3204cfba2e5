// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AccessControlEnumerable} from "@openzeppelin/contracts/access/extensions/AccessControlEnumerable.sol";
import {Initializable} from "@openzeppelin/contracts/proxy/utils/Initializable.sol";
import {IMarket, IReward} from "./FlowTypes.sol";

/// Sells sectors at one price and hands every fee on to the reward pool.
contract FixedPriceMarket is AccessControlEnumerable, Initializable, IMarket {
    bytes32 public constant PARAMS_ADMIN_ROLE = keccak256("PARAMS_ADMIN_ROLE");

    /// Wei a sector of 256 bytes.
    uint256 public pricePerSector;
    address public immutable flow;
    address public immutable reward;

    constructor(uint256 pricePerSector_, address flow_, address reward_, address owner) initializer {
        require(flow_ != address(0) && reward_ != address(0) && owner != address(0), "Invalid parameters");
        pricePerSector = pricePerSector_;
        flow = flow_;
        reward = reward_;
        _grantRole(DEFAULT_ADMIN_ROLE, owner);
        _grantRole(PARAMS_ADMIN_ROLE, owner);
    }

    /// The constructor has done its work, so it always refuses.
    function initialize(uint256, address, address) external initializer {}

    /// Money sent plainly is passed on with the next fee.
    receive() external payable {}

    function setPricePerSector(uint256 pricePerSector_) external onlyRole(PARAMS_ADMIN_ROLE) {
        pricePerSector = pricePerSector_;
    }

    /// Shares out the fee of an upload: the padding before it gets its part by sectors, the upload the rest and any surplus.
    /// The padding is announced even when its part is nothing, since it fills pricing chunks.
    function chargeFee(uint256 beforeLength, uint256 uploadSectors, uint256 paddingSectors) external payable {
        require(msg.sender == flow, "Sender does not have permission");
        uint256 base = pricePerSector * uploadSectors;
        uint256 available = address(this).balance;
        require(available >= base, "Not enough paid fee");
        uint256 paddingPart = (base * paddingSectors) / (uploadSectors + paddingSectors);
        if (paddingSectors != 0) IReward(reward).fillReward{value: paddingPart}(beforeLength, paddingSectors);
        IReward(reward).fillReward{value: available - paddingPart}(beforeLength + paddingSectors, uploadSectors);
    }
}
