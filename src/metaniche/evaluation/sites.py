"""A task of several organ sites, seen as one binary task per site in which units of unknown label are left out."""

from __future__ import annotations

from dataclasses import replace

from metaniche.data.task import Targets


def per_label(targets: Targets) -> dict[str, Targets]:
    """A task of several sites as one binary task per site with at least one known label; any other task as it is."""
    task = targets.task
    if task.kind != "sites":
        return {"y": targets}
    parts = {}
    for site in task.sites:
        known = targets.table[targets.table[site].notna()]
        binary = replace(task, kind="binary", label=site, positive=(1,), sites=())
        if len(known):
            parts[site] = replace(targets, task=binary, table=known.assign(y=known[site]))
    return parts
