// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ERC165Checker} from "@openzeppelin/contracts/utils/introspection/ERC165Checker.sol";
import {IServing} from "./IServing.sol";

/// The services a ledger works with, by address, by full name (type and version) and by type. Services come and stay: money may lie in
/// them, so nothing takes one away.
abstract contract ServiceRegistry is Ownable {
    struct ServiceInfo {
        address serviceAddress;
        address serviceContract;
        string serviceType;
        string version;
        string fullName;
        string description;
        bool isRecommended;
        uint256 registeredAt;
    }

    event ServiceRegistered(address indexed serviceAddress, string serviceName);
    event RecommendedServiceUpdated(string serviceType, string version, address serviceAddress);

    error CallerNotRegisteredService(address caller);
    error InvalidServiceAddress(address serviceAddress);
    error InvalidServiceType(string serviceType);
    error NoRecommendedService(string serviceType);
    error ServiceAlreadyRegistered(address serviceAddress);
    error ServiceMustImplementIServing(address serviceAddress);
    error ServiceNameExists(string serviceName);
    error ServiceNotFound(address serviceAddress);
    error ServiceNotRegistered(address serviceAddress);
    error ServiceRegistryLimitReached(uint256 limit);
    error ServiceTypeRequired();
    error VersionRequired();

    uint256 public constant MAX_SERVICES = 500;

    mapping(address service => ServiceInfo) private infos;
    address[] private services;
    mapping(string fullName => address service) private byName;
    mapping(string serviceType => address[] services) private byType;
    mapping(string serviceType => address service) private recommended;

    /// Only contracts that can hold accounts: the ledger would call nothing else.
    function registerService(
        string calldata serviceType,
        string calldata version,
        address serviceAddress,
        string calldata description
    ) external onlyOwner {
        if (serviceAddress == address(0)) revert InvalidServiceAddress(serviceAddress);
        if (!ERC165Checker.supportsInterface(serviceAddress, type(IServing).interfaceId)) {
            revert ServiceMustImplementIServing(serviceAddress);
        }
        _register(serviceType, version, serviceAddress, description);
    }

    function setRecommendedService(string calldata serviceType, string calldata version) external onlyOwner {
        if (byType[serviceType].length == 0) revert InvalidServiceType(serviceType);
        _recommend(serviceType, version);
    }

    /// The zero struct for an address that is no service.
    function getServiceInfo(address serviceAddress) external view returns (ServiceInfo memory) {
        return infos[serviceAddress];
    }

    function getServiceAddressByName(string calldata serviceName) external view returns (address) {
        return _serviceOf(serviceName);
    }

    function getAllActiveServices() external view returns (ServiceInfo[] memory) {
        ServiceInfo[] memory all = new ServiceInfo[](services.length);
        for (uint256 i = 0; i < all.length; ++i) all[i] = infos[services[i]];
        return all;
    }

    function getRecommendedService(
        string calldata serviceType
    ) external view returns (string memory version, address serviceAddress) {
        serviceAddress = recommended[serviceType];
        if (serviceAddress == address(0)) revert NoRecommendedService(serviceType);
        version = infos[serviceAddress].version;
    }

    function getAllVersions(
        string calldata serviceType
    ) external view returns (string[] memory versions, address[] memory addresses, bool[] memory isRecommendedFlags) {
        addresses = byType[serviceType];
        versions = new string[](addresses.length);
        isRecommendedFlags = new bool[](addresses.length);
        for (uint256 i = 0; i < addresses.length; ++i) {
            ServiceInfo storage info = infos[addresses[i]];
            versions[i] = info.version;
            isRecommendedFlags[i] = info.isRecommended;
        }
    }

    function isRecommendedVersion(string calldata serviceType, string calldata version) external view returns (bool) {
        address service = byName[_fullName(serviceType, version)];
        return service != address(0) && recommended[serviceType] == service;
    }

    /// All of a registration but the look at the contract: in a genesis there is no code at the address yet.
    function _register(
        string memory serviceType,
        string memory version,
        address serviceAddress,
        string memory description
    ) internal {
        if (bytes(serviceType).length == 0) revert ServiceTypeRequired();
        if (bytes(version).length == 0) revert VersionRequired();
        if (services.length >= MAX_SERVICES) revert ServiceRegistryLimitReached(MAX_SERVICES);
        if (_isService(serviceAddress)) revert ServiceAlreadyRegistered(serviceAddress);
        string memory fullName = _fullName(serviceType, version);
        if (byName[fullName] != address(0)) revert ServiceNameExists(fullName);
        infos[serviceAddress] = ServiceInfo({
            serviceAddress: serviceAddress,
            serviceContract: serviceAddress,
            serviceType: serviceType,
            version: version,
            fullName: fullName,
            description: description,
            isRecommended: false,
            registeredAt: block.timestamp
        });
        services.push(serviceAddress);
        byName[fullName] = serviceAddress;
        byType[serviceType].push(serviceAddress);
        emit ServiceRegistered(serviceAddress, fullName);
    }

    function _recommend(string memory serviceType, string memory version) internal {
        address service = _serviceOf(_fullName(serviceType, version));
        address previous = recommended[serviceType];
        if (previous != address(0)) infos[previous].isRecommended = false;
        infos[service].isRecommended = true;
        recommended[serviceType] = service;
        emit RecommendedServiceUpdated(serviceType, version, service);
    }

    function _serviceOf(string memory fullName) internal view returns (address service) {
        service = byName[fullName];
        if (service == address(0)) revert ServiceNotFound(address(0));
    }

    function _isService(address service) internal view returns (bool) {
        return infos[service].serviceAddress != address(0);
    }

    function _fullName(string memory serviceType, string memory version) private pure returns (string memory) {
        return string.concat(serviceType, "-", version);
    }
}
