// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";

// Refunds an account can have waiting at once.
uint256 constant MAX_REFUNDS = 5;

/// The money side of a service: sub-accounts by user and provider, their refunds in waiting, and the lists of them. Nothing here moves
/// money; functions that change balances say what is to be moved.
///
/// An account's pending refund is the sum of its live refunds, at most its balance.
abstract contract ServingAccounts {
    using EnumerableSet for EnumerableSet.AddressSet;

    /// A refund as clients see it. Only entries below an account's `validRefundsLength` are live; `processed` is of no meaning any more.
    struct Refund {
        uint256 index;
        uint256 amount;
        uint256 createdAt;
        bool processed;
    }

    struct Waiting {
        uint256 amount;
        uint256 createdAt;
    }

    struct Key {
        address user;
        address provider;
    }

    struct Entry {
        bool exists;
        /// The user trusts the provider's signer.
        bool acknowledged;
        uint8 liveRefunds;
        /// Refund entries ever in use at once: the length clients see.
        uint8 refundSlots;
        /// Where the key stands in `keys`.
        uint64 place;
        /// How often the account was deleted: what hangs on it under an older number is gone.
        uint64 life;
        uint256 balance;
        uint256 pendingRefund;
        /// These two outlive the account, or what was signed for it once would count again.
        uint256 nonce;
        uint256 generation;
        uint256 revokedBitmap;
        string additionalInfo;
        Waiting[MAX_REFUNDS] refunds;
    }

    event BalanceUpdated(address indexed user, address indexed provider, uint256 amount, uint256 pendingRefund);
    event RefundRequested(address indexed user, address indexed provider, uint256 indexed index, uint256 timestamp);
    event AccountDeleted(address indexed user, address indexed provider, uint256 refundedAmount);

    error AccountExists(address user, address provider);
    error AccountNotExists(address user, address provider);
    error AdditionalInfoTooLong();
    error BatchSizeTooLarge(uint256 size, uint256 max);
    error CannotRevokeWithNonZeroBalance(address user, address provider, uint256 balance);
    error ProviderCannotBeUser();
    error TooManyRefunds(address user, address provider);

    uint256 private constant MAX_PAGE = 50;
    uint256 private constant MAX_BATCH = 500;
    uint256 internal constant MAX_INFO_BYTES = 4096;

    mapping(address user => mapping(address provider => Entry)) private entries;
    Key[] private keys;
    mapping(address user => EnumerableSet.AddressSet) private providersOf;
    mapping(address provider => EnumerableSet.AddressSet) private usersOf;

    /// The user says whether the provider's signer is trusted; trust stays while there is money to be signed away.
    function acknowledgeTEESigner(address provider, bool acknowledged) external {
        Entry storage e = _account(msg.sender, provider);
        if (e.acknowledged && !acknowledged && e.balance != 0) {
            revert CannotRevokeWithNonZeroBalance(msg.sender, provider, e.balance);
        }
        e.acknowledged = acknowledged;
    }

    function _open(address user, address provider, string memory additionalInfo, uint256 amount) internal {
        if (user == provider) revert ProviderCannotBeUser();
        Entry storage e = entries[user][provider];
        if (e.exists) revert AccountExists(user, provider);
        if (bytes(additionalInfo).length > MAX_INFO_BYTES) revert AdditionalInfoTooLong();
        e.exists = true;
        e.acknowledged = true;
        e.place = uint64(keys.length);
        e.balance = amount;
        e.additionalInfo = additionalInfo;
        keys.push(Key(user, provider));
        providersOf[user].add(provider);
        usersOf[provider].add(user);
        emit BalanceUpdated(user, provider, amount, 0);
    }

    function _fund(address user, address provider, uint256 cancel, uint256 amount) internal {
        Entry storage e = _account(user, provider);
        if (cancel > e.pendingRefund) cancel = e.pendingRefund;
        _cancel(e, cancel);
        e.balance += amount;
        e.acknowledged = true;
        emit BalanceUpdated(user, provider, e.balance, e.pendingRefund);
    }

    /// Puts all that is not yet waiting into one new refund.
    function _requestRefund(address user, address provider) internal {
        Entry storage e = _account(user, provider);
        uint256 amount = e.balance - e.pendingRefund;
        if (amount == 0) return;
        uint8 index = e.liveRefunds;
        if (index == MAX_REFUNDS) revert TooManyRefunds(user, provider);
        e.refunds[index] = Waiting(amount, block.timestamp);
        e.liveRefunds = index + 1;
        if (e.refundSlots == index) e.refundSlots = index + 1;
        e.pendingRefund = e.balance;
        emit RefundRequested(user, provider, index, block.timestamp);
    }

    /// Takes the refunds that have waited `lockTime` out of the account; the others move to the front.
    /// @return amount what is to be sent
    function _release(
        address user,
        address provider,
        uint256 lockTime
    ) internal returns (uint256 amount, uint256 balance, uint256 pending) {
        Entry storage e = _account(user, provider);
        uint256 live = e.liveRefunds;
        uint256 kept = 0;
        for (uint256 i = 0; i < live; ++i) {
            Waiting memory w = e.refunds[i];
            if (block.timestamp >= w.createdAt + lockTime) {
                amount += w.amount;
                continue;
            }
            if (kept != i) e.refunds[kept] = w;
            ++kept;
        }
        for (uint256 i = kept; i < live; ++i) delete e.refunds[i];
        balance = e.balance - amount;
        pending = e.pendingRefund - amount;
        if (kept == live) return (amount, balance, pending);
        e.liveRefunds = uint8(kept);
        e.balance = balance;
        e.pendingRefund = pending;
        emit BalanceUpdated(user, provider, balance, pending);
    }

    /// Takes a fee, or what there is: what is not waiting to be refunded first.
    function _debit(Entry storage e, address user, address provider, uint256 fee) internal returns (uint256 paid) {
        uint256 balance = e.balance;
        paid = fee < balance ? fee : balance;
        uint256 free = balance - e.pendingRefund;
        if (paid > free) _cancel(e, paid - free);
        e.balance = balance - paid;
        emit BalanceUpdated(user, provider, balance - paid, e.pendingRefund);
    }

    /// Only empty accounts: the ledger deletes them when all its user's money is gone.
    function _close(address user, address provider) internal {
        Entry storage e = _account(user, provider);
        assert(e.balance == 0);
        uint64 place = e.place;
        Key memory last = keys[keys.length - 1];
        keys[place] = last;
        entries[last.user][last.provider].place = place;
        keys.pop();
        providersOf[user].remove(provider);
        usersOf[provider].remove(user);
        (uint256 nonce, uint256 generation, uint64 life) = (e.nonce, e.generation, e.life);
        delete entries[user][provider];
        (e.nonce, e.generation, e.life) = (nonce, generation, life + 1);
        emit AccountDeleted(user, provider, 0);
    }

    function _account(address user, address provider) internal view returns (Entry storage e) {
        e = entries[user][provider];
        if (!e.exists) revert AccountNotExists(user, provider);
    }

    /// Whether or not it exists.
    function _entry(address user, address provider) internal view returns (Entry storage) {
        return entries[user][provider];
    }

    function _refunds(Entry storage e) internal view returns (Refund[] memory list) {
        list = new Refund[](e.refundSlots);
        for (uint256 i = 0; i < list.length; ++i) {
            list[i] = Refund(i, e.refunds[i].amount, e.refunds[i].createdAt, false);
        }
    }

    // Lists --------------------------------------------------------------------------------------------------------------------------

    function _pageOfUser(
        address user,
        uint256 offset,
        uint256 limit
    ) internal view returns (Key[] memory page, uint256 total) {
        total = providersOf[user].length();
        page = new Key[](_pageLength(total, offset, limit));
        for (uint256 i = 0; i < page.length; ++i) page[i] = Key(user, providersOf[user].at(offset + i));
    }

    function _pageOfProvider(
        address provider,
        uint256 offset,
        uint256 limit
    ) internal view returns (Key[] memory page, uint256 total) {
        total = usersOf[provider].length();
        page = new Key[](_pageLength(total, offset, limit));
        for (uint256 i = 0; i < page.length; ++i) page[i] = Key(usersOf[provider].at(offset + i), provider);
    }

    function _pageOfAll(uint256 offset, uint256 limit) internal view returns (Key[] memory page, uint256 total) {
        total = keys.length;
        page = new Key[](_pageLength(total, offset, limit));
        for (uint256 i = 0; i < page.length; ++i) page[i] = keys[offset + i];
    }

    /// The accounts that users have with the caller.
    function _batch(address[] calldata users) internal view returns (Key[] memory batch) {
        if (users.length > MAX_BATCH) revert BatchSizeTooLarge(users.length, MAX_BATCH);
        batch = new Key[](users.length);
        for (uint256 i = 0; i < batch.length; ++i) batch[i] = Key(users[i], msg.sender);
    }

    /// Entries of a page; none behind the end.
    function _pageLength(uint256 total, uint256 offset, uint256 limit) internal view returns (uint256) {
        if (limit > MAX_PAGE) _failLimit(limit, MAX_PAGE);
        if (limit == 0) limit = MAX_PAGE;
        uint256 left = offset < total ? total - offset : 0;
        return limit < left ? limit : left;
    }

    function _failLimit(uint256 limit, uint256 max) internal view virtual;

    /// Turns refunds back, the newest first, so that the oldest keep their place in time.
    function _cancel(Entry storage e, uint256 amount) private {
        uint256 live = e.liveRefunds;
        uint256 left = amount;
        while (left != 0) {
            Waiting storage newest = e.refunds[live - 1];
            uint256 held = newest.amount;
            if (held > left) {
                newest.amount = held - left;
                break;
            }
            left -= held;
            --live;
            delete e.refunds[live];
        }
        e.liveRefunds = uint8(live);
        e.pendingRefund -= amount;
    }
}
