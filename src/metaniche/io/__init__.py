"""Files <-> AnnData, checked.

In: h5ad, AnnData zarr, SpatialData zarr, cohort manifests, and the named public cohorts of `io.datasets`.
Out: AnnData with raw values, a cell table and `obsm["spatial"]` in the units of its source; sample and patient tables.
May import: metaniche.errors. Nothing here knows graphs, tensors or models.
"""
