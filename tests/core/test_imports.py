"""The core is light: no Prefect, in a fresh interpreter."""

import subprocess
import sys

CORE = (
    "bridge client delivery download engine errors http journal media models pace places"
    " providers providers.evolink providers.oxen redaction sandbox sources transport wire"
)
SCRIPT = f"""
import sys
for name in {CORE.split()!r}:
    __import__(f"prefect_topaz.{{name}}")
print(*sorted({{name.partition(".")[0] for name in sys.modules}}))
"""


def test_the_core_does_not_import_prefect():
    command = [sys.executable, "-W", "error", "-c", SCRIPT]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "prefect" not in loaded
    assert {"prefect_topaz", "httpx", "fsspec", "av"} <= set(loaded)


def test_the_package_itself_imports_next_to_nothing():
    script = "import sys, prefect_topaz; print(*{n.partition('.')[0] for n in sys.modules})"
    command = [sys.executable, "-c", script]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"prefect", "httpx", "fsspec", "av", "pydantic"} & set(loaded)
