"""Every obs, obsm, obsp, layers and uns key that metaniche reads or writes, written once."""

# read
SAMPLE = "sample_id"
PATIENT = "patient_id"
CELL_TYPE = "cell_type"
CLONE = "clone_id"
CNV_CLUSTERS = "cnv_leiden"  # infercnvpy's
MALIGNANT = "is_malignant"
SPATIAL = "spatial"
COUNTS = "counts"
CONNECTIVITIES = "spatial_connectivities"
FILE_ROW = "metaniche_row"
UM_PER_UNIT = "um_per_unit"
FEATURE_KIND = "feature_kind"
FOUND_TYPES = "found_types"

# written
PREFIX = "metaniche"
POTENTIAL = "metaniche_potential"
ATTENTION = "metaniche_attention"
EMBEDDING = "X_metaniche"
SENT = "metaniche_sent"
RECEIVED = "metaniche_received"
LOCAL = "metaniche_local"
COMMUNICATION = "communication"
COMPETITION = "competition"
RELAYS = "relays"
ASSOCIATION = "association"
UNITS = "units"
CLONES = "clones"
PARAMETERS = "parameters"
GRAPH_RELATIONS = "metaniche_connectivities"
GRAPH_DISTANCES = "metaniche_distances_um"
GRAPH_WEIGHTS = "metaniche_weights"
UNS = "metaniche"


def parameters_of(name: str) -> str:
    """Where uns["metaniche"] has what the table of this name was made with."""
    return f"{name}_{PARAMETERS}"


RESEARCH_USE_ONLY = "Research use only. Not a medical device."
