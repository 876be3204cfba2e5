// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";
import {ServingBase} from "./ServingBase.sol";

/// Inference services, the money users have set aside for each provider, and the settlement of what was used of it.
///
/// A provider is paid for what its service's signer signed, when the owner vouches for the signer and the user trusts it.
contract InferenceServing is ServingBase {
    using EnumerableSet for EnumerableSet.AddressSet;

    struct ServiceParams {
        string serviceType;
        string url;
        string model;
        string verifiability;
        uint256 inputPrice;
        uint256 outputPrice;
        string additionalInfo;
        address teeSignerAddress;
    }

    struct Service {
        address provider;
        string serviceType;
        string url;
        uint256 inputPrice;
        uint256 outputPrice;
        uint256 updatedAt;
        string model;
        string verifiability;
        string additionalInfo;
        address teeSignerAddress;
        bool teeSignerAcknowledged;
    }

    struct Account {
        address user;
        address provider;
        uint256 nonce;
        uint256 balance;
        uint256 pendingRefund;
        Refund[] refunds;
        string additionalInfo;
        bool acknowledged;
        uint256 validRefundsLength;
        uint256 generation;
        uint256 revokedBitmap;
    }

    struct TEESettlementData {
        address user;
        address provider;
        uint256 totalFee;
        bytes32 requestsHash;
        uint256 nonce;
        bytes signature;
    }

    event AllTokensRevoked(address indexed user, address indexed provider, uint256 newGeneration);
    /// Declared for clients that know it; each change is told by BalanceUpdated.
    event BatchBalanceUpdated(address[] users, uint256[] balances, uint256[] pendingRefunds);
    event ContractInitialized(address indexed owner, uint256 lockTime, address ledgerAddress);
    event ServiceUpdated(
        address indexed service,
        string serviceType,
        string url,
        uint256 inputPrice,
        uint256 outputPrice,
        uint256 updatedAt,
        string model,
        string verifiability
    );
    event TEESettlementResult(address indexed user, uint8 status, uint256 unsettledAmount);
    event TokenRevoked(address indexed user, address indexed provider, uint8 tokenId);
    event TokensRevoked(address indexed user, address indexed provider, uint8[] tokenIds);

    error CallerNotLedger(address caller);
    error InvalidAddress(address addr);
    /// Declared for clients that know it; a bad signature is a status of its settlement.
    error InvalidTEESignature(string reason);
    error LimitTooLarge(uint256 limit, uint256 max);
    error LockTimeOutOfRange(uint256 lockTime, uint256 min, uint256 max);
    error NoSettlementsProvided();
    error TooManySettlements(uint256 count, uint256 max);
    error TransferFailed();

    // What becomes of a settlement. The first two are paid and use up their nonce.
    uint8 private constant SUCCESS = 0;
    uint8 private constant PARTIAL = 1;
    uint8 private constant PROVIDER_MISMATCH = 2;
    uint8 private constant NO_TEE_SIGNER = 3;
    uint8 private constant INVALID_NONCE = 4;
    uint8 private constant INVALID_SIGNATURE = 5;

    uint256 private constant MAX_SETTLEMENTS = 50;
    bytes32 private constant SETTLEMENT_TYPE =
        keccak256(
            "TEESettlement(bytes32 requestsHash,uint256 nonce,address provider,address user,uint256 totalFee)"
        );

    mapping(address provider => Service) private serviceOf;

    constructor(uint256 lockTime_, address ledger, address owner_) Ownable(owner_) {
        _initialize(lockTime_, ledger);
        emit ContractInitialized(owner_, lockTime_, ledger);
    }

    /// For code without a constructor run, as behind a proxy.
    function initialize(uint256 lockTime_, address ledger, address owner_) external {
        _initialize(lockTime_, ledger);
        if (owner_ == address(0)) revert InvalidAddress(owner_);
        _transferOwnership(owner_);
        emit ContractInitialized(owner_, lockTime_, ledger);
    }

    // Services -----------------------------------------------------------------------------------------------------------------------

    /// Registers the caller's service with the value as its stake, or changes it. What the owner vouched for stands or falls as one:
    /// a change of anything but url and prices takes the owner's word away.
    function addOrUpdateService(ServiceParams calldata params) external payable nonReentrant {
        if (bytes(params.additionalInfo).length > MAX_INFO_BYTES) revert AdditionalInfoTooLong();
        bool isNew = _stake();
        Service storage s = serviceOf[msg.sender];
        bool keeps = !isNew &&
            s.teeSignerAddress == params.teeSignerAddress &&
            _same(s.serviceType, params.serviceType) &&
            _same(s.model, params.model) &&
            _same(s.verifiability, params.verifiability) &&
            _same(s.additionalInfo, params.additionalInfo);
        if (isNew) s.provider = msg.sender;
        s.url = params.url;
        s.inputPrice = params.inputPrice;
        s.outputPrice = params.outputPrice;
        s.updatedAt = block.timestamp;
        if (!keeps) {
            s.serviceType = params.serviceType;
            s.model = params.model;
            s.verifiability = params.verifiability;
            s.additionalInfo = params.additionalInfo;
            s.teeSignerAddress = params.teeSignerAddress;
            if (s.teeSignerAcknowledged) _acknowledge(msg.sender, false);
        }
        _emitUpdated(params);
    }

    function getService(address provider) external view returns (Service memory service) {
        _checkService(provider);
        return serviceOf[provider];
    }

    function serviceExists(address provider) external view returns (bool) {
        return _hasService(provider);
    }

    /// @param limit at most 50, 0 for 50
    function getAllServices(
        uint256 offset,
        uint256 limit
    ) external view returns (Service[] memory services, uint256 total) {
        total = providers.length();
        services = new Service[](_pageLength(total, offset, limit));
        for (uint256 i = 0; i < services.length; ++i) services[i] = serviceOf[providers.at(offset + i)];
    }

    // Accounts -----------------------------------------------------------------------------------------------------------------------

    function getAccount(address user, address provider) external view returns (Account memory) {
        _account(user, provider);
        return _view(Key(user, provider));
    }

    function getAccountsByUser(
        address user,
        uint256 offset,
        uint256 limit
    ) external view returns (Account[] memory accounts, uint256 total) {
        Key[] memory page;
        (page, total) = _pageOfUser(user, offset, limit);
        accounts = _views(page);
    }

    function getAccountsByProvider(
        address provider,
        uint256 offset,
        uint256 limit
    ) external view returns (Account[] memory accounts, uint256 total) {
        Key[] memory page;
        (page, total) = _pageOfProvider(provider, offset, limit);
        accounts = _views(page);
    }

    function getAllAccounts(
        uint256 offset,
        uint256 limit
    ) external view returns (Account[] memory accounts, uint256 total) {
        Key[] memory page;
        (page, total) = _pageOfAll(offset, limit);
        accounts = _views(page);
    }

    /// The accounts of these users with the caller, in their order; the zero struct where there is none.
    function getBatchAccountsByUsers(address[] calldata users) external view returns (Account[] memory accounts) {
        return _views(_batch(users));
    }

    // Tokens -------------------------------------------------------------------------------------------------------------------------

    function revokeToken(address provider, uint8 tokenId) external {
        _account(msg.sender, provider).revokedBitmap |= 1 << tokenId;
        emit TokenRevoked(msg.sender, provider, tokenId);
    }

    function revokeTokens(address provider, uint8[] calldata tokenIds) external {
        uint256 bits = 0;
        for (uint256 i = 0; i < tokenIds.length; ++i) bits |= 1 << tokenIds[i];
        _account(msg.sender, provider).revokedBitmap |= bits;
        emit TokensRevoked(msg.sender, provider, tokenIds);
    }

    /// Tokens of older generations are void, so all ids are free again.
    function revokeAllTokens(address provider) external {
        Entry storage e = _account(msg.sender, provider);
        e.generation += 1;
        e.revokedBitmap = 0;
        emit AllTokensRevoked(msg.sender, provider, e.generation);
    }

    function isTokenRevoked(address user, address provider, uint8 tokenId) external view returns (bool) {
        return (_entry(user, provider).revokedBitmap >> tokenId) & 1 == 1;
    }

    // Settlement ---------------------------------------------------------------------------------------------------------------------

    /// Settles what users owe the caller. Each settlement is judged alone and in order; one that fails costs the others nothing.
    /// The sum is paid at the end, at once.
    function settleFeesWithTEE(
        TEESettlementData[] calldata settlements
    ) external nonReentrant returns (uint8[] memory statuses) {
        _checkBatch(settlements.length);
        statuses = new uint8[](settlements.length);
        bytes32 domain = _domain("0G Inference Serving");
        uint256 sum = 0;
        for (uint256 i = 0; i < settlements.length; ++i) {
            TEESettlementData calldata s = settlements[i];
            uint8 status = _judge(domain, s);
            uint256 paid = 0;
            if (status <= PARTIAL) {
                Entry storage e = _entry(s.user, msg.sender);
                e.nonce = s.nonce;
                paid = _spend(e, s.user, s.totalFee);
                sum += paid;
            }
            statuses[i] = status;
            emit TEESettlementResult(s.user, status, s.totalFee - paid);
        }
        _payProvider(sum);
    }

    /// What would become of a batch sent by the caller, each settlement judged on the state as it is now.
    function previewSettlementResults(
        TEESettlementData[] calldata settlements
    )
        external
        view
        returns (
            address[] memory failedUsers,
            uint8[] memory failureReasons,
            address[] memory partialUsers,
            uint256[] memory partialAmounts
        )
    {
        uint256 count = settlements.length;
        _checkBatch(count);
        failedUsers = new address[](count);
        failureReasons = new uint8[](count);
        partialUsers = new address[](count);
        partialAmounts = new uint256[](count);
        uint256 failed = 0;
        uint256 partly = 0;
        bytes32 domain = _domain("0G Inference Serving");
        for (uint256 i = 0; i < count; ++i) {
            TEESettlementData calldata s = settlements[i];
            uint8 status = _judge(domain, s);
            if (status == PARTIAL) {
                partialUsers[partly] = s.user;
                partialAmounts[partly++] = _entry(s.user, msg.sender).balance;
            } else if (status != SUCCESS) {
                failedUsers[failed] = s.user;
                failureReasons[failed++] = status;
            }
        }
        // Arrays only ever get shorter here.
        assembly ("memory-safe") {
            mstore(failedUsers, failed)
            mstore(failureReasons, failed)
            mstore(partialUsers, partly)
            mstore(partialAmounts, partly)
        }
    }

    function _checkBatch(uint256 count) private pure {
        if (count == 0) revert NoSettlementsProvided();
        if (count > MAX_SETTLEMENTS) revert TooManySettlements(count, MAX_SETTLEMENTS);
    }

    function _judge(bytes32 domain, TEESettlementData calldata s) private view returns (uint8) {
        if (s.provider != msg.sender) return PROVIDER_MISMATCH;
        Entry storage e = _entry(s.user, msg.sender);
        if (!e.exists) return INVALID_SIGNATURE;
        if (!_hasService(msg.sender)) return PROVIDER_MISMATCH;
        Service storage service = serviceOf[msg.sender];
        address signer = service.teeSignerAddress;
        if (!e.acknowledged || !service.teeSignerAcknowledged || signer == address(0)) return NO_TEE_SIGNER;
        if (s.nonce <= e.nonce) return INVALID_NONCE;
        bytes32 structHash = keccak256(
            abi.encode(SETTLEMENT_TYPE, s.requestsHash, s.nonce, s.provider, s.user, s.totalFee)
        );
        if (!_isSigned(domain, structHash, s.signature, signer)) return INVALID_SIGNATURE;
        return e.balance < s.totalFee ? PARTIAL : SUCCESS;
    }

    // Inside -------------------------------------------------------------------------------------------------------------------------

    function _views(Key[] memory page) private view returns (Account[] memory accounts) {
        accounts = new Account[](page.length);
        for (uint256 i = 0; i < page.length; ++i) accounts[i] = _view(page[i]);
    }

    function _view(Key memory key) private view returns (Account memory a) {
        Entry storage e = _entry(key.user, key.provider);
        if (!e.exists) return a;
        a.user = key.user;
        a.provider = key.provider;
        a.nonce = e.nonce;
        a.balance = e.balance;
        a.pendingRefund = e.pendingRefund;
        a.refunds = _refunds(e);
        a.additionalInfo = e.additionalInfo;
        a.acknowledged = e.acknowledged;
        a.validRefundsLength = e.liveRefunds;
        a.generation = e.generation;
        a.revokedBitmap = e.revokedBitmap;
    }

    function _same(string memory a, string calldata b) private pure returns (bool) {
        return keccak256(bytes(a)) == keccak256(bytes(b));
    }

    /// Alone in a function because the caller has no stack slots left for encoding the event.
    function _emitUpdated(ServiceParams calldata p) private {
        emit ServiceUpdated(
            msg.sender,
            p.serviceType,
            p.url,
            p.inputPrice,
            p.outputPrice,
            block.timestamp,
            p.model,
            p.verifiability
        );
    }

    function _acknowledge(address provider, bool acknowledged) internal override {
        serviceOf[provider].teeSignerAcknowledged = acknowledged;
        emit ProviderTEESignerAcknowledged(provider, serviceOf[provider].teeSignerAddress, acknowledged);
    }

    function _forgetService(address provider) internal override {
        delete serviceOf[provider];
    }

    function _failNotLedger() internal view override {
        revert CallerNotLedger(msg.sender);
    }

    function _failLimit(uint256 limit, uint256 max) internal pure override {
        revert LimitTooLarge(limit, max);
    }

    function _failLockTime(uint256 value) internal pure override {
        revert LockTimeOutOfRange(value, MIN_LOCKTIME, MAX_LOCKTIME);
    }

    function _failLedgerAddress() internal pure override {
        revert InvalidAddress(address(0));
    }

    function _failSend(bool) internal pure override {
        revert TransferFailed();
    }
}
