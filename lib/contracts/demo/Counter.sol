// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// The smallest contract worth deploying: a number, a way to change it and an event that says so.
contract Counter {
    event Changed(address indexed by, uint256 number);

    uint256 public number;

    function setNumber(uint256 number_) external {
        number = number_;
        emit Changed(msg.sender, number_);
    }

    function increment() external {
        number += 1;
        emit Changed(msg.sender, number);
    }
}
