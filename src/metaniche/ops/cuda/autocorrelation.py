"""The sums behind Moran's I, Geary's C and their bivariate kin on a GPU: `csrc/cuda/autocorrelation.cu`."""

from __future__ import annotations

import torch
from torch import Tensor

from metaniche.ops.cuda.edge_null import cell_sums
from metaniche.ops.cuda.launch import blocks_for, launch, power_of_two
from metaniche.ops.cuda.segment import segment_sum
from metaniche.ops.cuda.specs import VALUE_OF, Array, Kernel, Scalar

SOURCE, THREADS = "autocorrelation", 256
# From so many genes on a lane takes several of them, and each weight and neighbour is read less often.
MANY_GENES, GENES_A_LANE = 128, 4
# Enough blocks for a GPU, and few enough partial sums.
MOST_BLOCKS = 8192
# Rows whose lag of all genes is kept at once; more where that makes no more numbers than these.
ROWS_OF_LAG, NUMBERS_OF_LAG = 16384, 2**23
# Pairs of one launch.
MOST_PAIRS = 2**20

_GRAPH = (
    Array("x", None, ("n", "width")),
    Array("mean", None, ("width",)),
    Array("indptr", torch.int64, ("n+1",)),
    Array("indices", torch.int32, ("edges",)),
    Array("weight", None, ("edges",)),
)
_SIZES = (Scalar("n"), Scalar("edges"), Scalar("width"))
_BLOCKS = (Scalar("rows_a_block"), Scalar("blocks"))
SUMS = Kernel(
    SOURCE,
    "spatial_sums",
    (
        *_GRAPH,
        Array("degree", torch.float64, ("n",)),
        *_SIZES,
        *_BLOCKS,
        Array("sums", torch.float64, ("blocks", "width", "SUMS")),
    ),
    THREADS,
    registers=128,
    shared=2048,
)
LAG = Kernel(
    SOURCE,
    "spatial_lag",
    (*_GRAPH, *_SIZES, Scalar("first"), Scalar("rows"), Array("lag", None, ("rows", "width"))),
    THREADS,
    registers=96,
)
PRODUCTS = Kernel(
    SOURCE,
    "pair_products",
    (
        Array("lag", None, ("rows", "width")),
        Array("y", None, ("rows", "y_width")),
        Array("mean", None, ("y_width",)),
        Array("from", torch.int32, ("pairs",)),
        Array("to", torch.int32, ("pairs",)),
        Scalar("rows"),
        Scalar("width"),
        Scalar("y_width"),
        Scalar("pairs"),
        *_BLOCKS,
        Array("sums", torch.float64, ("blocks", "pairs")),
    ),
    THREADS,
    registers=96,
    shared=2048,
)
KERNELS = (SUMS, LAG, PRODUCTS)


def defines(columns: int, dtype: torch.dtype) -> dict[str, int | str]:
    """Lanes along neighbouring columns, the others along rows."""
    lanes = min(32, power_of_two(columns))
    wide = GENES_A_LANE if columns >= MANY_GENES else 1
    return dict(VALUE=VALUE_OF[dtype], COLUMNS=lanes, WIDE=wide, SUMS=4, THREADS=THREADS)


PACKED = tuple(defines(columns, dtype) for dtype in (torch.float32, torch.float64) for columns in (1, 4, 32, 128))


def weight_sums(indptr: Tensor, indices: Tensor, weight: Tensor) -> tuple[Tensor, float, int]:
    """(N,) w_i. + w_.i, half the sum of (w_ij + w_ji)^2 and the number of self edges; repeated edges add up."""
    indptr, indices, weight = _joined(indptr, indices, weight.to(torch.float64))
    row, column, squares, mutual = cell_sums(indptr, indices, weight).unbind(1)
    loops = (_rows(indptr, indices) == indices) & (weight != 0)
    return row + column, float((squares + mutual).sum()), int(loops.sum())


def spatial_sums(x_NG: Tensor, indptr: Tensor, indices: Tensor, weight: Tensor, degree: Tensor) -> Tensor:
    """(G, 4) float64 `SpatialSums` of every gene; x and weight of one dtype, `degree` float64."""
    n, width = x_NG.shape
    if width == 0:
        return degree.new_zeros(0, 4)
    how = defines(width, x_NG.dtype)
    tiles, rows_a_block, blocks = _grid(how, n, width)
    sums = degree.new_empty(blocks, width, 4)
    sizes = n, indices.numel(), width, rows_a_block, blocks
    launch(SUMS, how, (blocks, tiles), x_NG, _mean(x_NG), indptr, indices, weight, degree, *sizes, sums)
    return sums.sum(0)


def bivariate_sums(
    x_NA: Tensor, y_NB: Tensor, pairs_P2: Tensor, indptr: Tensor, indices: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(P,) sum_i y_i lag_i; (A, 3) sums of the lag, of its square and of x's squared deviation; (B,) of y's."""
    (n, width), y_width, pairs = x_NA.shape, y_NB.shape[1], len(pairs_P2)
    x_mean, y_mean = _mean(x_NA), _mean(y_NB)
    how, how_pairs = defines(width, x_NA.dtype), {**defines(pairs, x_NA.dtype), "WIDE": 1}
    by_column = pairs_P2.new_empty(2, pairs, dtype=torch.int32).copy_(pairs_P2.t())
    cross, lags, squares = (
        torch.zeros(shape, dtype=torch.float64, device=x_NA.device) for shape in (pairs, (width, 3), y_width)
    )
    step = max(ROWS_OF_LAG, NUMBERS_OF_LAG // max(width, 1))
    for first in range(0, n, step):
        x, y = (values[first : first + step] for values in (x_NA, y_NB))
        rows, lag = len(x), torch.empty_like(x)
        grid = blocks_for(rows, THREADS // how["COLUMNS"]), blocks_for(width, how["COLUMNS"] * how["WIDE"])
        graph = x_NA, x_mean, indptr, indices, weight
        launch(LAG, how, grid, *graph, n, indices.numel(), width, first, rows, lag)
        for some, of_some in zip(cross.split(MOST_PAIRS), by_column.split(MOST_PAIRS, dim=1)):
            tiles, rows_a_block, blocks = _grid(how_pairs, rows, len(some))
            sums = cross.new_empty(blocks, len(some))
            sizes = rows, width, y_width, len(some), rows_a_block, blocks
            launch(PRODUCTS, how_pairs, (blocks, tiles), lag, y, y_mean, *of_some, *sizes, sums)
            some += sums.sum(0)
        wide = lag.double()
        lags += torch.stack((wide.sum(0), wide.square().sum(0), (x - x_mean).double().square().sum(0)), 1)
        squares += (y - y_mean).double().square().sum(0)
    return cross, lags, squares


def _grid(how: dict[str, int | str], rows: int, columns: int) -> tuple[int, int, int]:
    """Tiles of columns, rows that a block adds up, and blocks along rows."""
    tiles = blocks_for(columns, how["COLUMNS"] * how["WIDE"])
    rows_a_block = max(2 * THREADS // how["COLUMNS"], blocks_for(rows * tiles, MOST_BLOCKS))
    return tiles, rows_a_block, blocks_for(rows, rows_a_block)


def _mean(x: Tensor) -> Tensor:
    return (x.sum(0, dtype=torch.float64) / len(x)).to(x.dtype)


def _rows(indptr: Tensor, indices: Tensor) -> Tensor:
    """(E,) int64 row of each edge."""
    rows = torch.arange(indptr.numel() - 1, device=indptr.device)
    return rows.repeat_interleave(indptr.diff(), output_size=indices.numel())


def _joined(indptr: Tensor, indices: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The graph with ascending columns in every row and the weights of repeated edges added up."""
    n = indptr.numel() - 1
    key = _rows(indptr, indices) * n + indices
    if (key.diff() > 0).all():
        return indptr, indices, weight
    key, order = torch.sort(key, stable=True)
    key, counts = torch.unique_consecutive(key, return_counts=True)
    weight = segment_sum(weight[order], torch.cat((counts.new_zeros(1), counts.cumsum(0))))
    starts = torch.arange(n + 1, device=key.device) * n
    return torch.searchsorted(key, starts), (key % n).to(torch.int32), weight
