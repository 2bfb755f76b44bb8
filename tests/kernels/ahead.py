"""Compiles the kernels that a call would launch, for a Hopper GPU, where there is none.

Run as a program it takes the name of a case and prints one JSON line per kernel. It must not run
in a process with TRITON_INTERPRET, which never compiles.
"""

import inspect
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from syncattn._masks import Visibility
from syncattn.kernels import pairwise_launch_triton as launch
from syncattn.kernels.pairwise_operator_triton import Kernel, pair_sums

TARGET = GPUTarget("cuda", 90, 32)
TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16",
         torch.int32: "i32", torch.int64: "i64", torch.uint8: "u8", torch.bool: "i1"}  # fmt: skip
OPTIONS = ("num_warps", "num_stages")


def compiled(kernel, arguments, options):
    """Returns the kernel compiled for the types and alignments of the arguments of a launch."""
    names = list(inspect.signature(kernel.fn).parameters)
    named = dict(zip(names, arguments, strict=False)) | {
        k: v for k, v in options.items() if k not in OPTIONS
    }
    signature, constants, attributes = {}, {}, {}
    for place, name in enumerate(names):
        value = named[name]
        if kernel.params[place].is_constexpr or value is None or value is True or value is False:
            signature[name], constants[name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[name] = "*" + TYPES[value.dtype]
            attributes[place,] = [["tt.divisibility", 16]]
        elif isinstance(value, int) and value == 1:
            signature[name], constants[name] = "constexpr", 1
        elif isinstance(value, int):
            signature[name] = "i32" if abs(value) < 2**31 else "i64"
            if value % 16 == 0:
                attributes[place,] = [["tt.divisibility", 16]]
        else:
            signature[name] = "fp32"
    source = ASTSource(kernel, signature=signature, constexprs=constants, attrs=attributes)
    chosen = {name: options[name] for name in OPTIONS if name in options}
    return triton.compile(source, target=TARGET, options=chosen)


def usage(binary):
    """Returns registers and spilled bytes of a cubin, from the tool that comes with Triton."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"(REG|STACK|LOCAL):(\d+)", text)
    return {name.lower(): int(number) for name, number in found}


class Recorder:
    """Stands where a kernel stood and compiles instead of launching."""

    def __init__(self, kernel, lines):
        self.kernel, self.lines = kernel, lines

    def __getitem__(self, grid):
        def run(*arguments, **options):
            made = compiled(self.kernel, arguments, options)
            for x in arguments:
                if isinstance(x, torch.Tensor) and x.is_floating_point():
                    x.detach().fill_(1.0)
            self.lines.append({
                "kernel": self.kernel.fn.__name__, "rows": options.get("ROWS"),
                "columns": options.get("COLUMNS"), "warps": options.get("num_warps"),
                "stages": options.get("num_stages"), "shared": made.metadata.shared,
                "tensor_cores": "wgmma" in made.asm["ptx"], **usage(made.asm["cubin"]),
            })  # fmt: skip

        return run


KERNELS = ("row_products", "pair_forward", "pair_row_gradients", "pair_column_gradients")


def lines_of(
    kind, dtype, dim, width, *, value_dtype=None, is_causal=True, padded=False, pruned=False,
    forward_only=False,
):  # fmt: skip
    """Returns what the kernels of one call, forward and backward, need of the device."""
    lines = []
    kept = {name: getattr(launch, name) for name in KERNELS}
    for name, kernel in kept.items():
        setattr(launch, name, Recorder(kernel, lines))
    try:
        row, column = (torch.ones(1, 2, 256, dim, dtype=dtype, requires_grad=True) for _ in "ab")
        value = torch.ones(1, 2, 256, width, dtype=value_dtype or dtype, requires_grad=True)
        mask = torch.ones(1, 256, dtype=torch.bool) if padded else None
        distance = kind == "distance"
        out, _ = pair_sums(
            row, column, value, Kernel(kind, power=2, pruned=pruned, join_self=distance),
            Visibility(256, 256, is_causal, mask),
            threshold=torch.ones(1, 2, 256) if distance else None,
            stretch=torch.ones(2) if distance else None,
        )  # fmt: skip
        if not forward_only:
            out.backward(torch.ones_like(out))
    finally:
        for name, kernel in kept.items():
            setattr(launch, name, kernel)
    return lines


def main():
    kind, dtype, dim, width, *flags = sys.argv[1:]
    options = {flag: True for flag in flags}
    # As in "float32/bfloat16", where values are narrower than points.
    types = [getattr(torch, name) for name in dtype.split("/")]
    options["value_dtype"] = types[-1]
    for line in lines_of(kind, types[0], int(dim), int(width), **options):
        print(json.dumps(line))


if __name__ == "__main__":
    main()
