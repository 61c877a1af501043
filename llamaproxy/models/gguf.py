"""The header of a GGUF file: which model it holds, how large it is, and whether the file is all there.

Owns the format, as the engine reads it: versions 2 and 3, little-endian, no arrays within arrays. Reads the header
only, with bounds on all of it, and believes no length that stands in it. Must not decide how much memory a model
needs (`footprint` does) nor where models are found (`scan` does).
"""

import os
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from llamaproxy.errors import InvalidModelFile

MAX_HEADER = 64 * 1024**2
"""Bytes. The largest vocabularies of 2026 make headers of less than a quarter of it."""
MAX_KEYS = 16_384
MAX_TENSORS = 262_144
MAX_LAYERS = 1024
"""Twice what the engine takes (LLAMA_MAX_LAYERS in llama.cpp's llama-hparams.h)."""
_LONGEST_KEY = 1024
_LONGEST_TEXT = 1024
"""Bytes that are kept of a text; the rest of it is skipped, as are arrays of texts."""
_CHUNK = 1024**2

# Number of elements in a block, and its bytes. Source: ggml-common.h and ggml.h of llama.cpp.
TENSOR_TYPES: Mapping[int, tuple[str, int, int]] = {
    number: (name, int(elements), int(size))
    for number, name, elements, size in (
        (int(row[0]), *row[1:])
        for row in map(
            str.split,
            """
            0 F32 1 4; 1 F16 1 2; 2 Q4_0 32 18; 3 Q4_1 32 20; 6 Q5_0 32 22; 7 Q5_1 32 24; 8 Q8_0 32 34; 9 Q8_1 32 36;
            10 Q2_K 256 84; 11 Q3_K 256 110; 12 Q4_K 256 144; 13 Q5_K 256 176; 14 Q6_K 256 210; 15 Q8_K 256 292;
            16 IQ2_XXS 256 66; 17 IQ2_XS 256 74; 18 IQ3_XXS 256 98; 19 IQ1_S 256 50; 20 IQ4_NL 32 18; 21 IQ3_S 256 110;
            22 IQ2_S 256 82; 23 IQ4_XS 256 136; 24 I8 1 1; 25 I16 1 2; 26 I32 1 4; 27 I64 1 8; 28 F64 1 8;
            29 IQ1_M 256 56; 30 BF16 1 2; 34 TQ1_0 256 54; 35 TQ2_0 256 66; 39 MXFP4 32 17; 40 NVFP4 64 36;
            41 Q1_0 128 18; 42 Q2_0 64 18
            """.split(";"),
        )
    )
}
