// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {G1Point, G2Point} from "./DATypes.sol";

/// Aggregate signatures on BN254 through the EVM's precompiles (EIP-196, EIP-197).
library DABls {
    /// Field of the coordinates, and order of the groups.
    uint256 private constant P = 21888242871839275222246405745257275088696311157297823662689037894645226208583;
    uint256 private constant R = 21888242871839275222246405745257275088548364400416034343698204186575808495617;
    /// Two pairs cost 113,000.
    uint256 private constant PAIRING_GAS = 120_000;

    /// e(S + g·A, -G2) · e(H + g·G1, K) = 1 with g bound to all of them: shows at once that the key K in G2 is the key A in G1 and that
    /// S is its signature of the digest.
    function isSignature(bytes32 digest, G1Point memory s, G1Point memory a, G2Point memory k)
        internal
        view
        returns (bool)
    {
        G1Point memory h = hashToG1(digest);
        uint256 g = uint256(keccak256(abi.encodePacked(s.X, s.Y, a.X, a.Y, k.X, k.Y, h.X, h.Y))) % R;
        (bool fine, G1Point memory left) = mulAdd(s, a, g);
        if (!fine) return false;
        G1Point memory right;
        (fine, right) = mulAdd(h, G1Point(1, 2), g);
        return fine && pairsToOne(left, right, k);
    }

    /// The first x from the digest on that is on the curve, with the root that the exponent gives.
    function hashToG1(bytes32 digest) internal view returns (G1Point memory) {
        uint256 x = uint256(digest) % P;
        while (true) {
            uint256 square = addmod(mulmod(mulmod(x, x, P), x, P), 3, P);
            uint256 y = power(square, (P + 1) / 4);
            if (mulmod(y, y, P) == square) return G1Point(x, y);
            x = addmod(x, 1, P);
        }
        revert();
    }

    function power(uint256 base, uint256 exponent) private view returns (uint256) {
        (, bytes memory out) = address(5).staticcall(abi.encode(32, 32, 32, base, exponent, P));
        return abi.decode(out, (uint256));
    }

    /// p + g·q; false for a point off the curve.
    function mulAdd(G1Point memory p, G1Point memory q, uint256 g)
        private
        view
        returns (bool fine, G1Point memory sum)
    {
        bytes memory out;
        (fine, out) = address(7).staticcall{gas: 10_000}(abi.encode(q.X, q.Y, g));
        if (!fine) return (false, sum);
        G1Point memory product = abi.decode(out, (G1Point));
        (fine, out) = address(6).staticcall{gas: 1_000}(abi.encode(p.X, p.Y, product.X, product.Y));
        if (fine) sum = abi.decode(out, (G1Point));
    }

    function pairsToOne(G1Point memory left, G1Point memory right, G2Point memory k) private view returns (bool) {
        uint256[12] memory input = [
            left.X,
            left.Y,
            // The generator of G2, negated.
            11559732032986387107991004021392285783925812861821192530917403151452391805634,
            10857046999023057135944570762232829481370756359578518086990519993285655852781,
            17805874995975841540914202342111839520379459829704422454583296818431106115052,
            13392588948715843804641432497768002650278120570034223513918757245338268106653,
            right.X,
            right.Y,
            k.X[0],
            k.X[1],
            k.Y[0],
            k.Y[1]
        ];
        (bool fine, bytes memory out) = address(8).staticcall{gas: PAIRING_GAS}(abi.encode(input));
        require(fine, "DARegistry: pairing precompile call failed");
        return abi.decode(out, (bool));
    }
}
