"""Blocks of each type of ggml with the numbers that PyPI's `gguf` makes of them, for the tests of `Dtype::dequantise`.

    pip install gguf==0.19.0
    python gguf_blocks.py > gguf_blocks.json

The blocks are random bytes whose scales are finite, so that every bit of every field counts.
"""

import json

import gguf
import numpy as np

BLOCKS = 2
# Where a block keeps its F16 scales.
TYPES = {
    "F32": None,
    "F16": None,
    "BF16": None,
    "Q8_0": [0],
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q4_K": [0, 2],
    "Q6_K": [208],
}


def blocks(name: str, scales: list[int] | None, random: np.random.Generator) -> bytes:
    if scales is None:
        numbers = random.standard_normal(24).astype(np.float32)
        if name == "F32":
            return numbers.tobytes()
        if name == "BF16":
            return (numbers.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        # Subnormal, smallest normal, largest, zeros.
        special = np.array([0x0001, 0x03FF, 0x0400, 0x7BFF, 0x8000, 0, 0x83FF, 0xFBFF], np.uint16)
        return numbers.astype(np.float16).tobytes() + special.tobytes()
    _, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    out = random.integers(0, 256, (BLOCKS, size), np.uint8)
    for at in scales:
        scale = random.standard_normal(BLOCKS).astype(np.float16) * np.float16(0.1)
        out[:, at : at + 2] = scale.view(np.uint8).reshape(BLOCKS, 2)
    return out.tobytes()


def main() -> None:
    random = np.random.default_rng(7)
    vectors = []
    for name, scales in TYPES.items():
        data = blocks(name, scales, random)
        kind = gguf.GGMLQuantizationType[name]
        numbers = gguf.quants.dequantize(np.frombuffer(data, np.uint8), kind) if scales or name == "BF16" else (
            np.frombuffer(data, np.float32 if name == "F32" else np.float16).astype(np.float32)
        )
        numbers = np.ascontiguousarray(numbers, np.float32).tobytes()
        vectors.append({"type": name, "blocks": data.hex(), "numbers": numbers.hex()})
    print(json.dumps(vectors, indent=1))


main()
