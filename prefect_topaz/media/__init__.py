"""Facts about a video, their comparison with what was ordered, and a preview picture (PyAV)."""

from .comparison import Verdict, compare
from .completeness import check_complete
from .picture import preview
from .reading import NotAVideo, probe

__all__ = ["NotAVideo", "Verdict", "check_complete", "compare", "preview", "probe"]
