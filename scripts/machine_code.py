"""What the compiler makes of the CUDA kernels: registers, shared memory, instructions and inner loops. Needs no GPU.

    pip install nvidia-cuda-nvdisasm
    python scripts/machine_code.py edge_attention_tiles --arch sm_90 --variant WIDTH=64 VALUE=bf16

A loop is told by its length and its commonest instructions: what a warp issues for each turn of it. Vector loads show as
LDG.128, spilled registers as LDL and STL. Loops with WARPSYNC and ENDCOLLECTIVE are what a warp takes whose lanes have
parted, or meet in part: behind a BRA.DIV, out of the way of the others.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path

from metaniche.ops.cuda import compile
from metaniche.ops.cuda.registry import PACKED

LABEL = re.compile(r"^(\.L_x_\d+):")
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?(\S.*?)\s*;")
BRANCH = re.compile(r"^BRA\b.*`?\((\.L_x_\d+)\)")
# Parts of a name that tell how wide an access is.
WIDTHS = {"64", "128", "U8", "U16"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", choices=sorted(PACKED), help="the kernels of csrc/cuda/SOURCE.cu")
    parser.add_argument("--arch", choices=compile.ARCHITECTURES, default="sm_90")
    parser.add_argument(
        "--variant", nargs="*", default=[], metavar="NAME=VALUE", help="only packed variants with these"
    )
    asked = parser.parse_args()
    wanted = dict(item.split("=", 1) for item in asked.variant)
    variants = [v for v in PACKED[asked.source] if all(str(v.get(name)) == value for name, value in wanted.items())]
    if not variants:
        sys.exit(
            f"No packed variant of {asked.source} has {wanted}; there are:\n"
            + "\n".join(map(str, PACKED[asked.source]))
        )
    tool = disassembler()
    for variant in variants:
        print("\n" + " ".join(f"{name}={value}" for name, value in variant.items()))
        code, log = compile.compile_cubin(asked.source, variant, asked.arch)
        usage = compile.usage(log)
        for kernel, listing in kernels(disassemble(tool, code)).items():
            lines = instructions(listing)
            print(f"  {kernel}: {usage[kernel]}, {len(lines[0])} instructions")
            for loop in inner_loops(*lines):
                print(f"    loop of {len(loop)}: " + ", ".join(f"{n} {op}" for op, n in Counter(loop).most_common(12)))


def disassembler() -> Path:
    """nvdisasm of the package in this environment, or the one on the PATH."""
    packaged = Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "bin" / "nvdisasm"
    found = packaged if packaged.exists() else shutil.which("nvdisasm")
    if found is None:
        sys.exit("nvdisasm was not found. Install it with: pip install nvidia-cuda-nvdisasm")
    return Path(found)


def disassemble(tool: Path, code: bytes) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        return subprocess.run([tool, "-c", file.name], capture_output=True, text=True, check=True).stdout


def kernels(text: str) -> dict[str, str]:
    """The listing of each kernel."""
    parts = re.split(r"\.section\s+\.text\.(\w+)", text)[1:]
    return dict(zip(parts[::2], parts[1::2]))


def instructions(listing: str) -> tuple[list[str], dict[str, int]]:
    """All instructions, and which of them each label stands before."""
    found, labels = [], {}
    for line in listing.splitlines():
        if label := LABEL.match(line):
            labels[label[1]] = len(found)
        elif instruction := INSTRUCTION.search(line):
            found.append(instruction[1])
    return found, labels


def inner_loops(found: list[str], labels: dict[str, int]) -> list[list[str]]:
    """Names of the instructions of every loop that holds no other, in their order; a jump to itself ends a kernel."""
    spans = {
        (labels[jump[1]], at)
        for at, text in enumerate(found)
        if (jump := BRANCH.match(text)) and labels.get(jump[1], at) < at
    }
    inner = [span for span in spans if not any(span != o and span[0] <= o[0] and o[1] <= span[1] for o in spans)]
    return [[name(text) for text in found[first : last + 1]] for first, last in sorted(inner)]


def name(text: str) -> str:
    first, *rest = text.split()[0].split(".")
    return ".".join([first, *(part for part in rest if part in WIDTHS)])


if __name__ == "__main__":
    main()
