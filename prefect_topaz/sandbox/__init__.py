"""A real local stand-in for Oxen.ai and EvoLink, for demos and for tests."""

from .choices import Choices
from .client import SandboxClient
from .clip import make_clip
from .ledger import Purchase
from .server import Sandbox

__all__ = ["Choices", "Purchase", "Sandbox", "SandboxClient", "make_clip"]
