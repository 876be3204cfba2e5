// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ERC165} from "@openzeppelin/contracts/utils/introspection/ERC165.sol";
import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";
import {ILedger, IServing} from "./IServing.sol";
import {ServingAccounts} from "./ServingAccounts.sol";

/// What both services share: the ledger's way in, lock time, stakes and acknowledged signers of providers, signatures, payment.
/// Where the deployed services differ in the shape of an error, a `_fail` function says which it is.
abstract contract ServingBase is Ownable, ReentrancyGuardTransient, ERC165, ServingAccounts, IServing {
    using EnumerableSet for EnumerableSet.AddressSet;

    event Initialized(uint8 version);
    event LockTimeUpdated(uint256 oldLockTime, uint256 newLockTime);
    event ProviderStakeReturned(address indexed provider, uint256 amount);
    event ProviderStaked(address indexed provider, uint256 amount);
    event ServiceRemoved(address indexed service);
    event ProviderTEESignerAcknowledged(address indexed provider, address indexed teeSignerAddress, bool acknowledged);

    error AlreadyInitialized();
    error CannotAddStakeWhenUpdating();
    error DirectDepositsDisabled();
    error InsufficientStake(uint256 provided, uint256 required);
    error ServiceNotExist(address provider);

    uint256 public constant MIN_LOCKTIME = 1 hours;
    uint256 public constant MAX_LOCKTIME = 7 days;
    uint256 public constant MIN_PROVIDER_STAKE = 100 ether;

    /// Half the order of secp256k1: a signature with a larger s is the other form of one with a smaller.
    uint256 private constant HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;
    bytes32 private constant DOMAIN_TYPE =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    bool public initialized;
    address public ledgerAddress;
    uint256 public lockTime;
    EnumerableSet.AddressSet internal providers;
    mapping(address provider => uint256 stake) private stakes;

    modifier onlyLedger() {
        if (msg.sender != ledgerAddress) _failNotLedger();
        _;
    }

    receive() external payable {
        revert DirectDepositsDisabled();
    }

    function supportsInterface(bytes4 interfaceId) public view override returns (bool) {
        return interfaceId == type(IServing).interfaceId || super.supportsInterface(interfaceId);
    }

    // For the owner ------------------------------------------------------------------------------------------------------------------

    function updateLockTime(uint256 newLockTime) external onlyOwner {
        emit LockTimeUpdated(lockTime, newLockTime);
        _setLockTime(newLockTime);
    }

    /// The owner vouches for the signer that the provider's service has now.
    function acknowledgeTEESignerByOwner(address provider) external onlyOwner {
        _checkService(provider);
        _acknowledge(provider, true);
    }

    function revokeTEESignerAcknowledgement(address provider) external onlyOwner {
        _checkService(provider);
        _acknowledge(provider, false);
    }

    // For the ledger -----------------------------------------------------------------------------------------------------------------

    function addAccount(address user, address provider, string memory additionalInfo) external payable onlyLedger {
        _open(user, provider, additionalInfo, msg.value);
    }

    function depositFund(address user, address provider, uint256 cancelRetrievingAmount) external payable onlyLedger {
        _fund(user, provider, cancelRetrievingAmount, msg.value);
    }

    function requestRefundAll(address user, address provider) external onlyLedger {
        _requestRefund(user, provider);
    }

    function processRefund(
        address user,
        address provider
    ) external onlyLedger returns (uint256 totalAmount, uint256 balance, uint256 pendingRefund) {
        (totalAmount, balance, pendingRefund) = _release(user, provider, lockTime);
        if (totalAmount != 0 && !_send(msg.sender, totalAmount)) _failSend(true);
    }

    function deleteAccount(address user, address provider) external onlyLedger {
        _close(user, provider);
    }

    function accountExists(address user, address provider) external view returns (bool) {
        return _entry(user, provider).exists;
    }

    function getPendingRefund(address user, address provider) external view returns (uint256) {
        return _entry(user, provider).pendingRefund;
    }

    // Services -----------------------------------------------------------------------------------------------------------------------

    /// Ends the caller's service and gives its stake back.
    function removeService() external nonReentrant {
        _checkService(msg.sender);
        uint256 stake = stakes[msg.sender];
        delete stakes[msg.sender];
        providers.remove(msg.sender);
        _forgetService(msg.sender);
        emit ServiceRemoved(msg.sender);
        emit ProviderStakeReturned(msg.sender, stake);
        if (!_send(msg.sender, stake)) _failSend(false);
    }

    /// The stake comes with the first registration, whole.
    /// @return isNew whether this is it
    function _stake() internal returns (bool isNew) {
        isNew = providers.add(msg.sender);
        if (!isNew) {
            if (msg.value != 0) revert CannotAddStakeWhenUpdating();
            return false;
        }
        if (msg.value < MIN_PROVIDER_STAKE) revert InsufficientStake(msg.value, MIN_PROVIDER_STAKE);
        stakes[msg.sender] = msg.value;
        emit ProviderStaked(msg.sender, msg.value);
    }

    function _hasService(address provider) internal view returns (bool) {
        return providers.contains(provider);
    }

    function _checkService(address provider) internal view {
        if (!_hasService(provider)) revert ServiceNotExist(provider);
    }

    // Settlement ---------------------------------------------------------------------------------------------------------------------

    /// Takes a fee out of an account, or what there is, and has the ledger take note. The money is still here.
    function _spend(Entry storage e, address user, uint256 fee) internal returns (uint256 paid) {
        paid = _debit(e, user, msg.sender, fee);
        if (paid != 0) ILedger(ledgerAddress).spendFund(user, paid);
    }

    function _payProvider(uint256 amount) internal {
        if (amount != 0 && !_send(msg.sender, amount)) _failSend(false);
    }

    function _domain(string memory name) internal view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN_TYPE, keccak256(bytes(name)), keccak256("1"), block.chainid, address(this)));
    }

    /// Whether `signature` over typed data is one of `signer`, in the one form that counts: r, s, v with v 27 or 28 and a low s.
    function _isSigned(
        bytes32 domain,
        bytes32 structHash,
        bytes calldata signature,
        address signer
    ) internal pure returns (bool) {
        if (signature.length != 65 || uint256(bytes32(signature[32:64])) > HALF_ORDER) return false;
        uint8 v = uint8(signature[64]);
        if (v != 27 && v != 28) return false;
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", domain, structHash));
        address found = ecrecover(digest, v, bytes32(signature[:32]), bytes32(signature[32:64]));
        return found != address(0) && found == signer;
    }

    // Inside -------------------------------------------------------------------------------------------------------------------------

    function _initialize(uint256 lockTime_, address ledger) internal {
        if (initialized) revert AlreadyInitialized();
        if (ledger == address(0)) _failLedgerAddress();
        initialized = true;
        ledgerAddress = ledger;
        _setLockTime(lockTime_);
        emit Initialized(1);
    }

    function _setLockTime(uint256 value) private {
        if (value < MIN_LOCKTIME || value > MAX_LOCKTIME) _failLockTime(value);
        lockTime = value;
    }

    function _send(address to, uint256 amount) private returns (bool ok) {
        (ok, ) = to.call{value: amount}("");
    }

    /// Sets the flag and says so; the service exists.
    function _acknowledge(address provider, bool acknowledged) internal virtual;
    function _forgetService(address provider) internal virtual;
    function _failNotLedger() internal view virtual;
    function _failLockTime(uint256 value) internal view virtual;
    function _failLedgerAddress() internal view virtual;
    function _failSend(bool toLedger) internal view virtual;
}
