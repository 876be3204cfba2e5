// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ERC20, ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";

/// The native token as an ERC-20: one W0G for each 0G held here. Shaped like WETH9 (deposit, withdraw, plain sends deposit), with
/// permit. Unlike WETH9, deposits and withdrawals also show as Transfer from and to the zero address, as ERC-20 recommends.
contract WrappedZG is ERC20Permit {
    event Deposit(address indexed dst, uint256 wad);
    event Withdrawal(address indexed src, uint256 wad);

    constructor() ERC20("Wrapped 0G", "W0G") ERC20Permit("Wrapped 0G") {}

    receive() external payable {
        deposit();
    }

    function deposit() public payable {
        _mint(msg.sender, msg.value);
        emit Deposit(msg.sender, msg.value);
    }

    function withdraw(uint256 wad) external {
        _burn(msg.sender, wad);
        emit Withdrawal(msg.sender, wad);
        Address.sendValue(payable(msg.sender), wad);
    }
}
