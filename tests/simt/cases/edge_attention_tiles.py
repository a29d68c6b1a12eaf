"""Edge attention by tiles against the same dense softmax as without them."""

import torch
from simt.cases.edge_attention import check, random_graph

from metaniche.ops.cuda.edge_attention_tiles import defines

# Heads that fill their lanes, idle lanes and slots, several pieces, heads that share a block and those that do not.
SHAPES = ((4, 16), (1, 64), (3, 12), (2, 5), (8, 32))
DTYPES = (torch.float32, torch.bfloat16)


def graph(n, degree, seed=0):
    """Rows without edges at both ends, one row longer than a warp, and a last tile that is not full."""
    near = torch.rand(n, n, generator=torch.Generator().manual_seed(seed)) < degree / n
    near[1, :40] = True
    near[0] = near[-1] = False
    return near


def of_senders(count, n=70):
    """A graph whose first tile has so many senders; row 3 hears all of them, the others a few."""
    near = torch.zeros(n, n, dtype=torch.bool)
    near[3, :count] = True
    near[5, count - 1] = near[7, 0] = near[8, count // 2 : count] = near[-1, 2] = True
    return near


def layout(heads, width, dtype):
    def case(device):
        check(device, heads, width, dtype, graph(70, 4), by_tiles=True)

    case.__name__ = f"layout_{heads}x{width}_{str(dtype).removeprefix('torch.')}"
    return case


def senders(count):
    """Around the size of a chunk."""

    def case(device):
        check(device, *WIDE, of_senders(count, max(70, count + 1)), by_tiles=True)

    case.__name__ = f"senders_{count}"
    return case


# Its rows are so wide that only a few senders fit a chunk.
WIDE = (1, 64, torch.float32)
CHUNK = defines(*WIDE)["CHUNK"]


def dropout(device):
    check(device, 3, 12, torch.float32, graph(70, 4), dropout=0.4, by_tiles=True)


def places_of_sixteen_bits(device):
    near = graph(300, 6)
    near[2] = True
    check(device, 1, 64, torch.bfloat16, near, by_tiles=True)


def tile_without_edges(device):
    near = graph(140, 3)
    near[64:128] = False
    check(device, 3, 12, torch.float32, near, by_tiles=True)


def dense_rows(device):
    check(device, *WIDE, random_graph(60), by_tiles=True)


CASES = (
    *(layout(heads, width, dtype) for heads, width in SHAPES for dtype in DTYPES),
    *(senders(count) for count in (1, CHUNK, CHUNK + 1, 2 * CHUNK + 1)),
    dropout,
    places_of_sixteen_bits,
    tile_without_edges,
    dense_rows,
)
# Enough to notice every mutant.
SHORT = (
    layout(3, 12, torch.float32),
    senders(1),
    senders(CHUNK + 1),
    layout(2, 5, torch.bfloat16),
    dropout,
)
