"""Two flow runs with one job: the hook of either finds it, though only one of them bought it."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_client
from prefect.states import Cancelling, Crashed

from prefect_topaz import (
    OxenUpscaler,
    cancel_upscales_on_cancellation,
    note_upscales_on_crash,
    submit_upscale,
)
from prefect_topaz.sandbox import Sandbox
from tests.prefect.cancel_support import deletes, scene


@flow(name="goes-on")
def goes_on(source: str, destination: str, upscaler: OxenUpscaler) -> None:
    submit_upscale(source, upscaler, destination)


def test_the_hooks_of_the_second_run_find_the_job_of_the_first(api, clip, tmp_path) -> None:
    with Sandbox() as sandbox:
        sandbox.fault("job", "delay", seconds=60)
        it = scene(api, sandbox, "oxen", clip, tmp_path)
        runs: list[Any] = []
        for _ in range(2):
            state = goes_on(**it.parameters, return_state=True)
            with get_client(sync_client=True) as client:
                run = client.read_flow_run(state.state_details.flow_run_id)
            runs.append(run.model_copy(update={"parameters": dict(it.parameters)}))
        second = runs[1]
        note_upscales_on_crash(goes_on, second, Crashed())
        assert it.job_id in it.said(str(second.id), "job ")
        cancel_upscales_on_cancellation(goes_on, second, Cancelling())
        assert it.status == "cancelled"
        assert len(deletes(sandbox)) == 1
