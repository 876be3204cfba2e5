// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";
import {TransientSlot} from "@openzeppelin/contracts/utils/TransientSlot.sol";
import {ILedger, IServing} from "./IServing.sol";
import {ServiceRegistry} from "./ServiceRegistry.sol";

/// The money of the users of compute services. A ledger's total is what is here (available) and what lies in the user's sub-accounts at
/// services: total - available = sum of the sub-accounts, after every call.
///
/// Every function that touches a user holds that user's lock, and money leaves last. Services are code the owner registered; providers
/// and users may be hostile contracts.
contract LedgerManager is ServiceRegistry, ILedger {
    using EnumerableSet for EnumerableSet.AddressSet;
    using TransientSlot for *;

    struct Ledger {
        address user;
        uint256 availableBalance;
        uint256 totalBalance;
        string additionalInfo;
    }

    event FundSpent(address indexed user, address indexed service, uint256 amount);
    event Initialized(uint8 version);
    event LedgerInfoUpdated(address indexed user, string additionalInfo);

    error AdditionalInfoTooLong(uint256 length, uint256 max);
    error AlreadyInitialized();
    error CallFailed();
    error DirectDepositsDisabled();
    error InsufficientAvailableBalance(uint256 available, uint256 required);
    error InsufficientBalance(address user);
    error LedgerExists(address user);
    error LedgerLocked();
    error LedgerNotExists(address user);
    error MinimumDepositRequired(uint256 provided, uint256 required);
    error MustWithdrawAllFundsFirst(uint256 remainingBalance);
    error TooManyProviders(uint256 requested, uint256 maximum);
    error TooManyProvidersForService(uint256 current, uint256 maximum);
    error TransferFailed();
    error ZeroAddressNotAllowed();
    error ZeroAmountNotAllowed();

    uint256 public constant MIN_ACCOUNT_BALANCE = 3 ether;
    uint256 public constant MIN_TRANSFER_AMOUNT = 1 ether;
    uint256 public constant MAX_PROVIDERS_PER_BATCH = 20;
    uint256 public constant MAX_PROVIDERS_PER_USER_PER_SERVICE = 50;
    uint256 public constant MAX_ADDITIONAL_INFO_LENGTH = 4096;
    uint256 private constant DEFAULT_PAGE = 50;

    bool public initialized;
    mapping(address user => Ledger) private books;
    EnumerableSet.AddressSet private users;
    /// Services in which a user has sub-accounts, and with which providers.
    mapping(address user => EnumerableSet.AddressSet) private servicesOf;
    mapping(address user => mapping(address service => EnumerableSet.AddressSet)) private providersOf;

    /// Knows the two services of a network from the beginning; they are constructed beside it, so it cannot ask them anything.
    constructor(address owner_, address inference, address fineTuning) Ownable(owner_) {
        _markInitialized();
        _register("inference", "v1.0", inference, "Inference");
        _recommend("inference", "v1.0");
        _register("fine-tuning", "v1.0", fineTuning, "Fine-tuning");
        _recommend("fine-tuning", "v1.0");
    }

    /// For code without a constructor run, as behind a proxy.
    function initialize(address owner_) external {
        if (initialized) revert AlreadyInitialized();
        if (owner_ == address(0)) revert OwnableInvalidOwner(owner_);
        _markInitialized();
        _transferOwnership(owner_);
    }

    modifier locked(address user) {
        TransientSlot.BooleanSlot lock = keccak256(abi.encode("LedgerManager.lock", user)).asBoolean();
        if (lock.tload()) revert LedgerLocked();
        lock.tstore(true);
        _;
        lock.tstore(false);
    }

    /// What services pay back; nobody else's money could be told apart from it.
    receive() external payable {
        if (!_isService(msg.sender)) revert DirectDepositsDisabled();
    }

    // Deposits -----------------------------------------------------------------------------------------------------------------------

    function addLedger(string calldata additionalInfo) external payable locked(msg.sender) returns (uint256, uint256) {
        if (_exists(msg.sender)) revert LedgerExists(msg.sender);
        _checkInfo(additionalInfo);
        _create(msg.sender, additionalInfo);
        return (msg.value, 0);
    }

    function depositFund() external payable {
        _deposit(msg.sender);
    }

    function depositFundFor(address recipient) external payable {
        if (recipient == address(0)) revert ZeroAddressNotAllowed();
        _deposit(recipient);
    }

    function updateAdditionalInfo(string calldata additionalInfo) external locked(msg.sender) {
        Ledger storage ledger = _ledger(msg.sender);
        _checkInfo(additionalInfo);
        ledger.additionalInfo = additionalInfo;
        emit LedgerInfoUpdated(msg.sender, additionalInfo);
    }

    // Between ledger and sub-accounts ------------------------------------------------------------------------------------------------

    /// Moves money into the sub-account with a provider. What is on its way back from there is turned round first, since it costs nothing.
    function transferFund(
        address provider,
        string calldata serviceName,
        uint256 amount
    ) external locked(msg.sender) {
        Ledger storage ledger = _ledger(msg.sender);
        address service = _serviceOf(serviceName);
        if (provider == address(0)) revert ZeroAddressNotAllowed();
        bytes memory data;
        uint256 needed = amount;
        if (IServing(service).accountExists(msg.sender, provider)) {
            uint256 pending = IServing(service).getPendingRefund(msg.sender, provider);
            uint256 cancelled = amount < pending ? amount : pending;
            needed -= cancelled;
            data = abi.encodeCall(IServing.depositFund, (msg.sender, provider, cancelled));
        } else {
            if (amount < MIN_TRANSFER_AMOUNT) revert MinimumDepositRequired(amount, MIN_TRANSFER_AMOUNT);
            _noteProvider(service, provider);
            data = abi.encodeCall(IServing.addAccount, (msg.sender, provider, ""));
        }
        uint256 available = ledger.availableBalance;
        if (available < needed) revert InsufficientAvailableBalance(available, needed);
        ledger.availableBalance = available - needed;
        _call(service, needed, data);
    }

    /// Takes back what has waited its time in each sub-account, then asks for all the rest.
    function retrieveFund(address[] calldata providers, string calldata serviceName) external locked(msg.sender) {
        Ledger storage ledger = _ledger(msg.sender);
        if (providers.length > MAX_PROVIDERS_PER_BATCH) revert TooManyProviders(providers.length, MAX_PROVIDERS_PER_BATCH);
        IServing service = IServing(_serviceOf(serviceName));
        uint256 before = address(this).balance;
        uint256 paid = 0;
        for (uint256 i = 0; i < providers.length; ++i) {
            if (!service.accountExists(msg.sender, providers[i])) continue;
            (uint256 amount, , ) = service.processRefund(msg.sender, providers[i]);
            paid += amount;
            service.requestRefundAll(msg.sender, providers[i]);
        }
        // What a service says it paid would otherwise come out of other users' money.
        if (address(this).balance != before + paid) revert TransferFailed();
        ledger.availableBalance += paid;
    }

    /// A service has paid a provider out of the user's sub-account.
    function spendFund(address user, uint256 amount) external locked(user) {
        if (!_isService(msg.sender)) revert CallerNotRegisteredService(msg.sender);
        Ledger storage ledger = _ledger(user);
        if (amount > ledger.totalBalance - ledger.availableBalance) revert InsufficientBalance(user);
        ledger.totalBalance -= amount;
        emit FundSpent(user, msg.sender, amount);
    }

    // Withdrawals --------------------------------------------------------------------------------------------------------------------

    /// Pays out to the user. With the last of the money go the ledger and its sub-accounts.
    function refund(uint256 amount) external locked(msg.sender) {
        Ledger storage ledger = _ledger(msg.sender);
        if (amount > ledger.availableBalance) revert InsufficientBalance(msg.sender);
        uint256 rest = ledger.availableBalance - amount;
        if (rest != 0 && rest < MIN_ACCOUNT_BALANCE) revert MinimumDepositRequired(rest, MIN_ACCOUNT_BALANCE);
        ledger.availableBalance = rest;
        ledger.totalBalance -= amount;
        if (ledger.totalBalance == 0) _delete(msg.sender);
        (bool ok, ) = msg.sender.call{value: amount}("");
        if (!ok) revert TransferFailed();
    }

    function deleteLedger() external locked(msg.sender) {
        uint256 total = _ledger(msg.sender).totalBalance;
        if (total != 0) revert MustWithdrawAllFundsFirst(total);
        _delete(msg.sender);
    }

    // Views --------------------------------------------------------------------------------------------------------------------------

    function getLedger(address user) external view returns (Ledger memory) {
        return _ledger(user);
    }

    /// @param limit 0 for 50
    function getAllLedgers(
        uint256 offset,
        uint256 limit
    ) external view returns (Ledger[] memory ledgers, uint256 total) {
        total = users.length();
        uint256 left = offset < total ? total - offset : 0;
        uint256 count = limit == 0 ? DEFAULT_PAGE : limit;
        ledgers = new Ledger[](count < left ? count : left);
        for (uint256 i = 0; i < ledgers.length; ++i) ledgers[i] = books[users.at(offset + i)];
    }

    function getLedgerProviders(address user, string calldata serviceName) external view returns (address[] memory) {
        return providersOf[user][_serviceOf(serviceName)].values();
    }

    // Inside -------------------------------------------------------------------------------------------------------------------------

    function _markInitialized() private {
        initialized = true;
        emit Initialized(1);
    }

    function _exists(address user) private view returns (bool) {
        return books[user].user != address(0);
    }

    function _ledger(address user) private view returns (Ledger storage) {
        if (!_exists(user)) revert LedgerNotExists(user);
        return books[user];
    }

    function _checkInfo(string calldata info) private pure {
        uint256 length = bytes(info).length;
        if (length > MAX_ADDITIONAL_INFO_LENGTH) revert AdditionalInfoTooLong(length, MAX_ADDITIONAL_INFO_LENGTH);
    }

    function _create(address user, string memory additionalInfo) private {
        if (msg.value < MIN_ACCOUNT_BALANCE) revert MinimumDepositRequired(msg.value, MIN_ACCOUNT_BALANCE);
        books[user] = Ledger(user, msg.value, msg.value, additionalInfo);
        users.add(user);
    }

    function _deposit(address user) private locked(user) {
        if (msg.value == 0) revert ZeroAmountNotAllowed();
        if (!_exists(user)) return _create(user, "");
        books[user].availableBalance += msg.value;
        books[user].totalBalance += msg.value;
    }

    function _noteProvider(address service, address provider) private {
        EnumerableSet.AddressSet storage providers = providersOf[msg.sender][service];
        uint256 count = providers.length();
        if (count >= MAX_PROVIDERS_PER_USER_PER_SERVICE) {
            revert TooManyProvidersForService(count, MAX_PROVIDERS_PER_USER_PER_SERVICE);
        }
        providers.add(provider);
        servicesOf[msg.sender].add(service);
    }

    /// The total is 0, so all sub-accounts are empty. What was deleted here is gone before anyone else is called.
    function _delete(address user) private {
        address[] memory services = servicesOf[user].values();
        delete books[user];
        users.remove(user);
        for (uint256 i = 0; i < services.length; ++i) {
            servicesOf[user].remove(services[i]);
            address[] memory providers = providersOf[user][services[i]].values();
            for (uint256 j = 0; j < providers.length; ++j) {
                providersOf[user][services[i]].remove(providers[j]);
                IServing(services[i]).deleteAccount(user, providers[j]);
            }
        }
    }

    /// Reverts with what the service reverted with: clients know its errors by name.
    function _call(address service, uint256 value, bytes memory data) private {
        (bool ok, bytes memory answer) = service.call{value: value}(data);
        if (ok) return;
        if (answer.length == 0) revert CallFailed();
        assembly ("memory-safe") {
            revert(add(answer, 32), mload(answer))
        }
    }
}
