"""Every kernel once under the address and undefined-behaviour sanitizers, in a process that loads them first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from simt.machine import compiler, library

TESTS = Path(__file__).parents[2]
SCRIPT = """
import sys, torch
from pathlib import Path
from simt.machine import Machine
from simt.cases import (autocorrelation, csr_encoder, edge_attention, edge_attention_tiles, edge_null, expression,
                        hilbert, label_null, ligrec, nearest, neighbors, pair_logits, segment, transport)
from metaniche.ops.cuda.launch import use_machine
torch.set_num_threads(1)
with use_machine(Machine(Path(sys.argv[1]), seed=1, sanitize=True)):
    for case in (edge_attention.SHORT[0], *edge_attention_tiles.SHORT[:3], segment.SHORT[4], hilbert.SHORT[0],
                 neighbors.radius_plane, neighbors.thinning, nearest.plane, nearest.far_cell, *ligrec.SHORT[:4],
                 pair_logits.SHORT[0], *expression.SHORT, csr_encoder.SHORT[0], transport.SHORT[0],
                 edge_null.few_types, autocorrelation.genes_130, autocorrelation.pairs_of_genes, label_null.counts,
                 label_null.moments_dense):
        case("cpu")
print("clean")
"""


@pytest.mark.slow
def test_kernels_are_clean():
    if compiler() is None:
        pytest.skip("no g++ on this machine: the CUDA kernels cannot be run on the host")
    sanitizer = library("libasan.so")
    if sanitizer is None:
        pytest.skip("no libasan on this machine")
    build = TESTS.parent / "build" / "simt"
    build.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "LD_PRELOAD": sanitizer,
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0:handle_segv=0:verify_asan_link_order=0",
        "PYTHONPATH": str(TESTS),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, build], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "clean\n", done.stderr[-4000:]
