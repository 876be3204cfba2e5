// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {DA_SIGNERS_PRECOMPILE, G1Point, IDASigners, SignerDetail} from "./DATypes.sol";

/// The only caller that the precompile lets register signers: here an account registers itself, and its votes follow its balance.
contract DARegistry {
    /// 0x0f15d651
    error ErrSenderNotOrigin();
    /// 0x4090e434
    error ErrSenderNotSigner();
    /// 0x2e9b1de8
    error ErrSenderNotEligibleToVote();

    IDASigners public constant DA_SIGNERS = DA_SIGNERS_PRECOMPILE;
    uint256 private constant WEI_PER_VOTE = 30 ether;
    uint256 private constant MAX_VOTES = 102_400;
    /// What the precompile charges for either: a failing call takes all it is given.
    uint256 private constant CALL_GAS = 100_000;

    modifier onlyOrigin() {
        if (msg.sender != tx.origin) revert ErrSenderNotOrigin();
        _;
    }

    function registerSigner(SignerDetail calldata signer, G1Point calldata signature) external onlyOrigin {
        if (signer.signer != msg.sender) revert ErrSenderNotSigner();
        call("registerSigner", abi.encodeCall(IDASigners.registerSigner, (signer, signature)));
    }

    function registerNextEpoch(G1Point calldata signature) external onlyOrigin {
        uint256 votes = msg.sender.balance / WEI_PER_VOTE;
        if (votes == 0) revert ErrSenderNotEligibleToVote();
        if (votes > MAX_VOTES) votes = MAX_VOTES;
        call("registerNextEpoch", abi.encodeCall(IDASigners.registerNextEpoch, (msg.sender, signature, votes)));
    }

    function call(string memory name, bytes memory data) private {
        require(gasleft() > (CALL_GAS * 64) / 63 + 10_000, string.concat(name, " call failed: not enough gas"));
        (bool fine, bytes memory answer) = address(DA_SIGNERS).call{gas: CALL_GAS}(data);
        require(fine, string.concat(name, " call failed: ", reason(answer)));
    }

    /// The text of a revert with a text, else nothing.
    function reason(bytes memory answer) private pure returns (string memory) {
        if (answer.length < 68 || bytes4(answer) != 0x08c379a0) return "";
        assembly {
            mstore(add(answer, 4), sub(mload(answer), 4))
            answer := add(answer, 4)
        }
        return abi.decode(answer, (string));
    }
}
