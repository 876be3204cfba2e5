// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";
import {ServingBase} from "./ServingBase.sol";

// Deliverables an account remembers.
uint256 constant MAX_DELIVERABLES = 20;

/// Fine-tuning services, the money users have set aside for each provider, and what was delivered to them.
///
/// A provider announces each trained model, the user acknowledges that it arrived, and settling then hands over the secret for the fee.
/// Unacknowledged, the provider keeps the secret and gets a part of the fee.
contract FineTuningServing is ServingBase {
    using EnumerableSet for EnumerableSet.AddressSet;

    struct Quota {
        uint256 cpuCount;
        uint256 nodeMemory;
        uint256 gpuCount;
        uint256 nodeStorage;
        string gpuType;
    }

    struct Service {
        address provider;
        string url;
        Quota quota;
        uint256 pricePerToken;
        bool occupied;
        string[] models;
        address teeSignerAddress;
        bool teeSignerAcknowledged;
    }

    struct Deliverable {
        string id;
        bytes modelRootHash;
        bytes encryptedSecret;
        bool acknowledged;
        uint248 timestamp;
        bool settled;
    }

    /// The last deliverables of an account, in a ring; `head` is the oldest. `places` holds place + 1 by the hash of an id.
    struct Shelf {
        Deliverable[MAX_DELIVERABLES] ring;
        uint256 head;
        uint256 count;
        mapping(bytes32 idHash => uint256) places;
    }

    struct Account {
        address user;
        address provider;
        uint256 nonce;
        uint256 balance;
        uint256 pendingRefund;
        Refund[] refunds;
        string additionalInfo;
        Deliverable[] deliverables;
        uint256 validRefundsLength;
        uint256 deliverablesHead;
        uint256 deliverablesCount;
        bool acknowledged;
    }

    struct AccountSummary {
        address user;
        address provider;
        uint256 nonce;
        uint256 balance;
        uint256 pendingRefund;
        string additionalInfo;
        uint256 validRefundsLength;
        uint256 deliverablesCount;
        bool acknowledged;
    }

    struct VerifierInput {
        string id;
        bytes encryptedSecret;
        bytes modelRootHash;
        uint256 nonce;
        bytes signature;
        uint256 taskFee;
        address user;
    }

    event DeliverableAbandoned(
        address indexed user,
        address indexed provider,
        string deliverableId,
        uint256 timestamp
    );
    event DeliverableAcknowledged(
        address indexed user,
        address indexed provider,
        string deliverableId,
        uint256 timestamp
    );
    event DeliverableAdded(
        address indexed user,
        address indexed provider,
        string deliverableId,
        bytes modelRootHash,
        uint256 timestamp
    );
    event DeliverableEvicted(
        address indexed provider,
        address indexed user,
        string evictedDeliverableId,
        string newDeliverableId,
        uint256 timestamp
    );
    event FeesSettled(
        address indexed user,
        address indexed provider,
        string deliverableId,
        uint256 fee,
        bool acknowledged,
        uint256 nonce
    );
    event ServiceUpdated(
        address indexed provider,
        string url,
        Quota quota,
        uint256 pricePerToken,
        address teeSignerAddress,
        bool occupied
    );

    error CallerNotLedger();
    error CannotAbandonSettledDeliverable(string id);
    error CannotAcknowledgeSettledDeliverable(string id);
    error CannotEvictUnsettledDeliverable(string id);
    error DeliverableAlreadyExists(string id);
    error DeliverableAlreadySettled(string id);
    error DeliverableIdInvalidLength(uint256 length);
    error DeliverableNotExists(string id);
    error ETHTransferFailed();
    error InvalidLedgerAddress();
    error InvalidVerifierInput(string reason);
    error LimitTooLarge(uint256 limit);
    error LockTimeOutOfRange(uint256 lockTime);
    error PenaltyPercentageTooHigh(uint256 percentage);
    error PreviousDeliverableNotAcknowledged(string id);
    error SecretShouldBeEmpty();
    error SecretShouldNotBeEmpty();
    error TransferToLedgerFailed();

    uint256 private constant MAX_ID_BYTES = 256;
    bytes32 private constant VERIFIER_TYPE =
        keccak256(
            "VerifierMessage(string id,bytes encryptedSecret,bytes modelRootHash,uint256 nonce,uint256 taskFee,address user)"
        );

    /// What of a fee is due for a deliverable that its user never acknowledged.
    uint256 public penaltyPercentage;
    mapping(address provider => Service) private serviceOf;
    /// By the life of the account: deleting one costs the same whatever was delivered to it.
    mapping(address user => mapping(address provider => mapping(uint256 life => Shelf))) private shelves;

    constructor(uint256 lockTime_, address ledger, address owner_, uint256 penalty) Ownable(owner_) {
        _initialize(lockTime_, ledger);
        _setPenalty(penalty);
    }

    /// For code without a constructor run, as behind a proxy.
    function initialize(uint256 lockTime_, address ledger, address owner_, uint256 penalty) external {
        _initialize(lockTime_, ledger);
        if (owner_ == address(0)) revert OwnableInvalidOwner(owner_);
        _transferOwnership(owner_);
        _setPenalty(penalty);
    }

    function updatePenaltyPercentage(uint256 penalty) external onlyOwner {
        _setPenalty(penalty);
    }

    // Services -----------------------------------------------------------------------------------------------------------------------

    /// Registers the caller's service with the value as its stake, or changes it. A new signer needs the owner's word again.
    function addOrUpdateService(
        string calldata url,
        Quota calldata quota,
        uint256 pricePerToken,
        bool occupied,
        string[] calldata models,
        address teeSignerAddress
    ) external payable nonReentrant {
        Service storage s = serviceOf[msg.sender];
        if (_stake()) s.provider = msg.sender;
        bool newSigner = s.teeSignerAddress != teeSignerAddress;
        s.url = url;
        s.quota = quota;
        s.pricePerToken = pricePerToken;
        s.occupied = occupied;
        s.teeSignerAddress = teeSignerAddress;
        delete s.models;
        for (uint256 i = 0; i < models.length; ++i) s.models.push(models[i]);
        if (newSigner && s.teeSignerAcknowledged) _acknowledge(msg.sender, false);
        emit ServiceUpdated(msg.sender, url, quota, pricePerToken, teeSignerAddress, occupied);
    }

    function getService(address provider) external view returns (Service memory service) {
        _checkService(provider);
        return serviceOf[provider];
    }

    function getAllServices() external view returns (Service[] memory services) {
        services = new Service[](providers.length());
        for (uint256 i = 0; i < services.length; ++i) services[i] = serviceOf[providers.at(i)];
    }

    // Accounts -----------------------------------------------------------------------------------------------------------------------

    /// With its deliverables, oldest first.
    function getAccount(address user, address provider) external view returns (Account memory a) {
        Entry storage e = _account(user, provider);
        Shelf storage shelf = _shelf(user, provider);
        a.user = user;
        a.provider = provider;
        a.nonce = e.nonce;
        a.balance = e.balance;
        a.pendingRefund = e.pendingRefund;
        a.refunds = _refunds(e);
        a.additionalInfo = e.additionalInfo;
        a.deliverables = _list(shelf);
        a.validRefundsLength = e.liveRefunds;
        a.deliverablesHead = shelf.head;
        a.deliverablesCount = shelf.count;
        a.acknowledged = e.acknowledged;
    }

    function getAccountsByUser(
        address user,
        uint256 offset,
        uint256 limit
    ) external view returns (AccountSummary[] memory accounts, uint256 total) {
        Key[] memory page;
        (page, total) = _pageOfUser(user, offset, limit);
        accounts = _summaries(page);
    }

    function getAccountsByProvider(
        address provider,
        uint256 offset,
        uint256 limit
    ) external view returns (AccountSummary[] memory accounts, uint256 total) {
        Key[] memory page;
        (page, total) = _pageOfProvider(provider, offset, limit);
        accounts = _summaries(page);
    }

    function getAllAccounts(
        uint256 offset,
        uint256 limit
    ) external view returns (AccountSummary[] memory accounts, uint256 total) {
        Key[] memory page;
        (page, total) = _pageOfAll(offset, limit);
        accounts = _summaries(page);
    }

    /// The accounts of these users with the caller, in their order; the zero struct where there is none.
    function getBatchAccountsByUsers(
        address[] calldata users
    ) external view returns (AccountSummary[] memory accounts) {
        return _summaries(_batch(users));
    }

    // Deliverables -------------------------------------------------------------------------------------------------------------------

    /// The caller has a model for a user. One at a time: the one before must be acknowledged, or settled without.
    function addDeliverable(address user, string calldata id, bytes calldata modelRootHash) external {
        _account(user, msg.sender);
        uint256 length = bytes(id).length;
        if (length == 0 || length > MAX_ID_BYTES) revert DeliverableIdInvalidLength(length);
        Shelf storage shelf = _shelf(user, msg.sender);
        bytes32 idHash = keccak256(bytes(id));
        if (shelf.places[idHash] != 0) revert DeliverableAlreadyExists(id);
        uint256 place = shelf.count;
        if (place != 0) {
            Deliverable storage newest = shelf.ring[(shelf.head + place - 1) % MAX_DELIVERABLES];
            if (!newest.acknowledged && !newest.settled) revert PreviousDeliverableNotAcknowledged(newest.id);
        }
        if (place == MAX_DELIVERABLES) {
            place = shelf.head;
            Deliverable storage oldest = shelf.ring[place];
            if (!oldest.settled) revert CannotEvictUnsettledDeliverable(oldest.id);
            delete shelf.places[keccak256(bytes(oldest.id))];
            emit DeliverableEvicted(msg.sender, user, oldest.id, id, block.timestamp);
            shelf.head = (place + 1) % MAX_DELIVERABLES;
        } else {
            shelf.count = place + 1;
        }
        shelf.places[idHash] = place + 1;
        shelf.ring[place] = Deliverable(id, modelRootHash, "", false, uint248(block.timestamp), false);
        emit DeliverableAdded(user, msg.sender, id, modelRootHash, block.timestamp);
    }

    /// The user has the model and wants its secret.
    function acknowledgeDeliverable(address provider, string calldata id) external {
        Deliverable storage d = _deliverable(msg.sender, provider, id);
        if (d.settled) revert CannotAcknowledgeSettledDeliverable(id);
        d.acknowledged = true;
        emit DeliverableAcknowledged(msg.sender, provider, id, block.timestamp);
    }

    /// The provider gives up the fee, for a model that is lost: without this its user could never be delivered to again.
    function abandonDeliverable(address user, string calldata id) external {
        Deliverable storage d = _deliverable(user, msg.sender, id);
        if (d.settled) revert CannotAbandonSettledDeliverable(id);
        d.acknowledged = true;
        d.settled = true;
        emit DeliverableAbandoned(user, msg.sender, id, block.timestamp);
    }

    function getDeliverable(
        address user,
        address provider,
        string calldata id
    ) external view returns (Deliverable memory) {
        return _deliverable(user, provider, id);
    }

    /// Oldest first.
    function getDeliverables(address user, address provider) external view returns (Deliverable[] memory) {
        _account(user, provider);
        return _list(_shelf(user, provider));
    }

    // Settlement ---------------------------------------------------------------------------------------------------------------------

    /// Pays the caller for a deliverable, as its service's signer signed it.
    function settleFees(VerifierInput calldata verifierInput) external nonReentrant {
        VerifierInput calldata v = verifierInput;
        _checkService(msg.sender);
        Entry storage e = _account(v.user, msg.sender);
        Deliverable storage d = _deliverable(v.user, msg.sender, v.id);
        if (d.settled) revert DeliverableAlreadySettled(v.id);
        _verify(e, d, v);
        bool acknowledged = d.acknowledged;
        uint256 fee = v.taskFee;
        if (acknowledged) {
            if (v.encryptedSecret.length == 0) revert SecretShouldNotBeEmpty();
            d.encryptedSecret = v.encryptedSecret;
        } else {
            if (v.encryptedSecret.length != 0) revert SecretShouldBeEmpty();
            // Not fee * percentage / 100: that could overflow where the part itself does not.
            fee = (fee / 100) * penaltyPercentage + ((fee % 100) * penaltyPercentage) / 100;
        }
        if (fee > e.balance) revert InvalidVerifierInput("insufficient balance");
        d.settled = true;
        e.nonce = v.nonce;
        _spend(e, v.user, fee);
        emit FeesSettled(v.user, msg.sender, v.id, fee, acknowledged, v.nonce);
        _payProvider(fee);
    }

    function _verify(Entry storage e, Deliverable storage d, VerifierInput calldata v) private view {
        Service storage service = serviceOf[msg.sender];
        address signer = service.teeSignerAddress;
        if (!e.acknowledged || !service.teeSignerAcknowledged || signer == address(0)) {
            revert InvalidVerifierInput("TEE signer not acknowledged");
        }
        if (v.nonce <= e.nonce) revert InvalidVerifierInput("nonce should larger than the current nonce");
        if (keccak256(v.modelRootHash) != keccak256(d.modelRootHash)) {
            revert InvalidVerifierInput("model root hash mismatch");
        }
        bytes32 structHash = keccak256(
            abi.encode(
                VERIFIER_TYPE,
                keccak256(bytes(v.id)),
                keccak256(v.encryptedSecret),
                keccak256(v.modelRootHash),
                v.nonce,
                v.taskFee,
                v.user
            )
        );
        if (!_isSigned(_domain("0G Fine-Tuning Serving"), structHash, v.signature, signer)) {
            revert InvalidVerifierInput("TEE settlement validation failed");
        }
    }

    // Inside -------------------------------------------------------------------------------------------------------------------------

    function _setPenalty(uint256 penalty) private {
        if (penalty > 100) revert PenaltyPercentageTooHigh(penalty);
        penaltyPercentage = penalty;
    }

    function _shelf(address user, address provider) private view returns (Shelf storage) {
        return shelves[user][provider][_entry(user, provider).life];
    }

    function _deliverable(
        address user,
        address provider,
        string calldata id
    ) private view returns (Deliverable storage) {
        _account(user, provider);
        Shelf storage shelf = _shelf(user, provider);
        uint256 place = shelf.places[keccak256(bytes(id))];
        if (place == 0) revert DeliverableNotExists(id);
        return shelf.ring[place - 1];
    }

    function _list(Shelf storage shelf) private view returns (Deliverable[] memory list) {
        list = new Deliverable[](shelf.count);
        for (uint256 i = 0; i < list.length; ++i) list[i] = shelf.ring[(shelf.head + i) % MAX_DELIVERABLES];
    }

    function _summaries(Key[] memory page) private view returns (AccountSummary[] memory accounts) {
        accounts = new AccountSummary[](page.length);
        for (uint256 i = 0; i < page.length; ++i) {
            Entry storage e = _entry(page[i].user, page[i].provider);
            if (!e.exists) continue;
            accounts[i] = AccountSummary({
                user: page[i].user,
                provider: page[i].provider,
                nonce: e.nonce,
                balance: e.balance,
                pendingRefund: e.pendingRefund,
                additionalInfo: e.additionalInfo,
                validRefundsLength: e.liveRefunds,
                deliverablesCount: _shelf(page[i].user, page[i].provider).count,
                acknowledged: e.acknowledged
            });
        }
    }

    function _acknowledge(address provider, bool acknowledged) internal override {
        serviceOf[provider].teeSignerAcknowledged = acknowledged;
        emit ProviderTEESignerAcknowledged(provider, serviceOf[provider].teeSignerAddress, acknowledged);
    }

    function _forgetService(address provider) internal override {
        delete serviceOf[provider];
    }

    function _failNotLedger() internal pure override {
        revert CallerNotLedger();
    }

    function _failLimit(uint256 limit, uint256) internal pure override {
        revert LimitTooLarge(limit);
    }

    function _failLockTime(uint256 value) internal pure override {
        revert LockTimeOutOfRange(value);
    }

    function _failLedgerAddress() internal pure override {
        revert InvalidLedgerAddress();
    }

    function _failSend(bool toLedger) internal pure override {
        if (toLedger) revert TransferToLedgerFailed();
        revert ETHTransferFailed();
    }
}
