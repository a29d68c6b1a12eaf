"""What can go wrong, by name. Every message says what was expected, what was found, where, and how to fix it."""


class MetanicheError(Exception):
    """Base of every error that metaniche raises on purpose."""


class InputError(MetanicheError):
    """A file, table or AnnData that cannot be used as it is."""


class GraphError(MetanicheError):
    """A CellGraph, or a request for one, that breaks the contract in `metaniche.graph`."""


class SplitError(MetanicheError):
    """A split that would put one patient, slide or matched pair on two sides."""


class ConfigError(MetanicheError):
    """A configuration key, group or target that is unknown or not allowed."""


class CheckpointError(MetanicheError):
    """A training checkpoint or a bundle that is incomplete, damaged or of another kind."""


class KernelError(MetanicheError):
    """An operation that the requested backend cannot run."""


class TrainingError(MetanicheError):
    """Training that cannot go on, such as a loss that is not finite."""
