"""What a flow refuses: at once, without a retry, and before anything is asked for money."""

from __future__ import annotations

import pytest
from prefect.exceptions import ParameterTypeError

from prefect_topaz import TopazError, aupscale_video, upscale_video
from prefect_topaz.errors import CostRefused, InvalidRequest, UnusableDestination, UnusableSource
from tests.prefect.support import FAST


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"source": ""}, UnusableSource),
        ({"source": "/nowhere/clip.mp4"}, UnusableSource),
        ({"source": "s3://bucket/clip.mp4"}, UnusableSource),
        ({"destination": ""}, UnusableDestination),
        ({"destination": "nonsense://x/"}, UnusableDestination),
        ({"max_cost": 0.001}, CostRefused),
    ],
)
def test_bad_input_fails_at_once_without_a_request(  # noqa: PLR0917  # fixtures
    change, kind, oxen, sandbox, clip, tmp_path, api
) -> None:
    given = {"source": sandbox.host(clip), "destination": f"{tmp_path}/", "upscaler": oxen}
    state = upscale_video(**given | change, **FAST, return_state=True)
    with pytest.raises(kind) as caught:
        state.result()
    assert isinstance(caught.value, InvalidRequest)
    assert caught.value.billed == "no"
    tasks = api.task_runs(state.state_details.flow_run_id)
    assert {name: run["run_count"] for name, run in tasks.items()} == {"submit_upscale": 1}
    # Only the source may have been looked at.
    assert not [one for one in sandbox.requests() if one.path.startswith(("/api", "/v1"))]


@pytest.mark.parametrize(
    "change",
    [
        {"source": None},
        {"source": ["a.mp4", "b.mp4"]},
        {"again": -1},
        {"max_cost": 0},
        {"verify": "hardly"},
        {"deadline_seconds": 0},
        {"poll_seconds": -1},
        {"upscaler": {"credentials": {"api_key": "sk-canary"}, "resolution": "8k"}},
    ],
)
def test_wrong_parameters_are_refused_before_any_task(change, oxen, sandbox, tmp_path) -> None:
    given = {"source": "clip.mp4", "destination": f"{tmp_path}/", "upscaler": oxen}
    with pytest.raises(ParameterTypeError) as caught:
        upscale_video(**given | change)
    assert next(iter(change)) in str(caught.value)
    assert "sk-canary" not in str(caught.value)
    assert not sandbox.requests()


async def test_a_mov_is_refused_for_evolink_and_a_local_file_for_oxen(
    oxen, evolink, sandbox, clip, tmp_path
) -> None:
    moved = tmp_path / "clip.mov"
    moved.write_bytes(clip.read_bytes())
    for source, upscaler, said in ((moved, evolink, ".mp4"), (clip, oxen, "reads URLs only")):
        with pytest.raises(TopazError, match=said) as caught:
            await aupscale_video(str(source), f"{tmp_path}/", upscaler)
        assert caught.value.billed == "no"
    assert not sandbox.requests()
