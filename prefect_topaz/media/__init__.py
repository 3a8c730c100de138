"""Facts about a video, its comparison with the order and the source, and a preview (PyAV)."""

from .comparison import Verdict, compare
from .completeness import check_complete
from .picture import Picture, join, preview
from .reading import NotAVideo, probe
from .sampling import Comparison, compare_frames

__all__ = [
    "Comparison",
    "NotAVideo",
    "Picture",
    "Verdict",
    "check_complete",
    "compare",
    "compare_frames",
    "join",
    "preview",
    "probe",
]
