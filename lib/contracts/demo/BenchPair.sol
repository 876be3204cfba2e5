// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

interface Token {
    function transfer(address to, uint256 value) external returns (bool);
    function transferFrom(address from, address to, uint256 value) external returns (bool);
    function balanceOf(address owner) external view returns (uint256);
}

/// A constant-product market of two tokens with a fee of 0.3 %, for load: what a swap of a large exchange costs.
contract BenchPair {
    event Swap(address indexed sender, uint256 amountIn, uint256 amountOut, bool zeroForOne);
    event Sync(uint112 reserve0, uint112 reserve1);

    Token public immutable token0;
    Token public immutable token1;
    uint112 private reserve0;
    uint112 private reserve1;
    uint32 private last;

    constructor(Token a, Token b) {
        token0 = a;
        token1 = b;
    }

    /// Takes what lies here as the reserves.
    function sync() public {
        reserve0 = uint112(token0.balanceOf(address(this)));
        reserve1 = uint112(token1.balanceOf(address(this)));
        last = uint32(block.timestamp);
        emit Sync(reserve0, reserve1);
    }

    function swap(uint256 amountIn, uint256 amountOutMin, bool zeroForOne) external returns (uint256 amountOut) {
        (Token tokenIn, Token tokenOut) = zeroForOne ? (token0, token1) : (token1, token0);
        (uint256 reserveIn, uint256 reserveOut) = zeroForOne ? (reserve0, reserve1) : (reserve1, reserve0);
        uint256 withFee = amountIn * 997;
        amountOut = (withFee * reserveOut) / (reserveIn * 1000 + withFee);
        require(amountOut >= amountOutMin && amountOut > 0, "too little");
        tokenIn.transferFrom(msg.sender, address(this), amountIn);
        tokenOut.transfer(msg.sender, amountOut);
        sync();
        emit Swap(msg.sender, amountIn, amountOut, zeroForOne);
    }
}
