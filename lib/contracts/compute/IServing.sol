// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// What a service must offer to hold sub-accounts of a ledger; its ERC-165 id is 0x160841b1. The changing ones are for the ledger alone.
interface IServing {
    function accountExists(address user, address provider) external view returns (bool);

    function getPendingRefund(address user, address provider) external view returns (uint256);

    function addAccount(address user, address provider, string memory additionalInfo) external payable;

    /// @param cancelRetrievingAmount what of the pending refunds stays in the account after all
    function depositFund(address user, address provider, uint256 cancelRetrievingAmount) external payable;

    function requestRefundAll(address user, address provider) external;

    /// Sends what has waited long enough to the ledger.
    function processRefund(
        address user,
        address provider
    ) external returns (uint256 totalAmount, uint256 balance, uint256 pendingRefund);

    function deleteAccount(address user, address provider) external;
}

/// What a service asks of its ledger.
interface ILedger {
    function spendFund(address user, uint256 amount) external;
}
