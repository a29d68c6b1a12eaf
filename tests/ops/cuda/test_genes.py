import torch
from simt.cases.ligrec import expression

from metaniche.ops.cuda import genes
from metaniche.ops.expression import Expression


def laid_out(x):
    return torch.sparse_csr_tensor(x.ptr, x.columns, x.values, (x.ptr.numel() - 1, x.genes)).to_dense()


def test_genes_that_pairs_name_are_numbered_anew_and_keep_their_values():
    dense = expression(7, 50, 0.5, torch.Generator().manual_seed(0), sparse=False)
    gene_P = torch.tensor([40, 3, 3, 17, 49], dtype=torch.int32)
    for x in (dense, dense.to_sparse_csr()):
        whole = genes.side(Expression.of(x, "x"), gene_P)
        assert torch.equal(laid_out(whole), dense)
        few = genes.named(whole)
        assert few.gene_P.tolist() == [2, 0, 0, 1, 3]
        assert few.genes == 5
        assert torch.equal(laid_out(few)[:, few.gene_P.long()], dense[:, gene_P.long()])
        assert few.columns.dtype == few.gene_P.dtype == torch.int32


def test_room_comes_in_few_sizes():
    assert [genes.room(n) for n in (0, 1, 64, 65, 700)] == [64, 64, 64, 128, 704]
