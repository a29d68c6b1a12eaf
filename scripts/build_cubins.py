"""Compiles every packed variant of every CUDA kernel into the package: one xz file an architecture.

python scripts/build_cubins.py [--arch sm_90 ...]     needs NVRTC (the extra `cuda`), no GPU and no toolkit. The packs
carry NVRTC's major version: run it with NVRTC 12 and 13 to serve drivers of both.
"""

import argparse
import re
import time

from metaniche.ops.cuda import compile, cubins
from metaniche.ops.cuda.registry import PACKED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", nargs="+", default=compile.ARCHITECTURES)
    parser.add_argument("--source", nargs="+", default=list(PACKED), help="only these kernels (for a test)")
    given = parser.parse_args()
    major = compile.nvrtc_version()[0]
    for arch in given.arch:
        started, packed = time.perf_counter(), []
        for source in given.source:
            for defines in PACKED[source]:
                code, log = compile.compile_cubin(source, defines, arch)
                if re.search(r"[1-9]\d* bytes spill", log):
                    raise SystemExit(f"{source} {dict(defines)} spills registers on {arch}:\n{log}")
                packed.append((compile.fingerprint(source, defines, arch), code))
        path = cubins.pack_path(arch, major)
        cubins.write_pack(path, packed)
        size, seconds = path.stat().st_size / 1024, time.perf_counter() - started
        print(f"{path.name}: {len(packed)} cubins, {size:.0f} KB, {seconds:.1f} s")


if __name__ == "__main__":
    main()
