"""What a block refuses: what was wrong, what is allowed, and never the key beside it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError

from prefect_topaz import EvoLinkCredentials, EvoLinkUpscaler, OxenCredentials, OxenUpscaler
from prefect_topaz.blocks import AnyUpscaler
from prefect_topaz.errors import InvalidRequest

CANARY = "sk-canary-a3f91c"

OXEN_REFUSED: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"target_fps": 0}, ("target_fps", "1")),
    ({"target_fps": 61}, ("target_fps", "60")),
    ({"target_fps": float("nan")}, ("target_fps",)),
    ({"resolution": "8k"}, ("resolution", "720p", "1080p", "2k", "4k")),
    ({"resolution": "720p"}, ("resolution", "1080p, 2k, 4k")),
    ({"num_generations": 0}, ("num_generations", "1")),
    ({"num_generations": 5}, ("num_generations", "4")),
    ({"num_generations": 2, "mode": "sync"}, ("num_generations", "1 with mode='sync'")),
    ({"mode": "later"}, ("mode", "queue", "sync")),
    ({"response_format": "b64_json"}, ("response_format", "'url' with mode='queue'")),
    ({"model": "topaz"}, ("model", "topazlabs-upscale-starlight-2-5-video")),
    ({"model_params": {"noise": 0.1}}, ("model_params", "noise", "none")),
    (
        {"model": "topazlabs-proteus-video", "model_params": {"grain": 2}},
        ("grain", "0 to 0.1"),
    ),
    ({"model": "topazlabs-hyperion-2-video", "target_fps": 30}, ("target_fps", "none")),
]
EVOLINK_REFUSED: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"upscale_factor": 3}, ("upscale_factor", "1, 2, 4")),
    ({"upscale_factor": 2.5}, ("upscale_factor", "1, 2, 4")),
    ({"upscale_factor": True}, ("upscale_factor",)),
    ({"upscale_factor": "3"}, ("upscale_factor", "1", "2", "4")),
    ({"upscale_factor": [2]}, ("upscale_factor",)),
    ({"callback_url": "http://example.com/done"}, ("callback_url", "https")),
    ({"callback_url": "https://10.0.0.1/done"}, ("callback_url", "internal")),
    ({"callback_url": "https://localhost/done"}, ("callback_url", "internal")),
    ({"callback_url": "https://example.com/" + "a" * 2048}, ("callback_url", "2048")),
]


@pytest.mark.parametrize(("options", "said"), OXEN_REFUSED)
def test_oxen_says_what_is_wrong_and_what_is_allowed(options, said) -> None:
    with pytest.raises(ValidationError) as caught:
        OxenUpscaler(credentials=OxenCredentials(api_key=CANARY), **options)
    assert all(part in str(caught.value) for part in said), str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(("options", "said"), EVOLINK_REFUSED)
def test_evolink_says_what_is_wrong_and_what_is_allowed(options, said) -> None:
    with pytest.raises(ValidationError) as caught:
        EvoLinkUpscaler(credentials=EvoLinkCredentials(api_key=CANARY), **options)
    assert all(part in str(caught.value) for part in said), str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("block", "needed"),
    [
        (OxenCredentials, {"api_key": CANARY}),
        (EvoLinkCredentials, {"api_key": CANARY}),
        (OxenUpscaler, {"credentials": {"api_key": CANARY}}),
        (EvoLinkUpscaler, {"credentials": {"api_key": CANARY}}),
    ],
)
def test_a_misspelt_option_is_refused_and_not_ignored(block: Any, needed: dict[str, Any]) -> None:
    """Prefect's blocks take any name: `resolutoin="1080p"` would order 4k."""
    block(**needed)
    with pytest.raises(ValidationError) as caught:
        block(**needed, resolutoin=f"{CANARY}-1080p")
    said = str(caught.value)
    assert all(name in said for name in ("resolutoin", block.__name__, *block.model_fields)), said
    assert CANARY not in said


def test_values_of_one_provider_never_pass_for_the_other() -> None:
    """A key would go to the wrong vendor: unions of blocks try every member."""
    either = TypeAdapter(AnyUpscaler)
    for block, value in (
        (OxenUpscaler, {"resolution": "1080p"}),
        (EvoLinkUpscaler, {"upscale_factor": "4"}),
    ):
        given = {"credentials": {"api_key": CANARY}, **value}
        assert type(either.validate_python(given)) is block
        whole = block(**given).model_dump(context={"include_secrets": True})
        assert type(either.validate_python(whole)) is block
    with pytest.raises(ValidationError) as caught:
        either.validate_python({"credentials": {"api_key": CANARY}, "resolution": "8k"})
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("factor", ["2", 2, 2.0])
def test_the_factor_is_taken_as_text_and_as_a_number(factor: Any) -> None:
    block = EvoLinkUpscaler(credentials=EvoLinkCredentials(api_key="k"), upscale_factor=factor)
    assert block.order().options == {"upscale_factor": "2"}


@pytest.mark.parametrize("block", [OxenCredentials, EvoLinkCredentials])
@pytest.mark.parametrize(
    "address",
    [
        "http://example.com",
        f"http://user:{CANARY}@example.com",
        f"https://user:{CANARY}@example.com",
        f"https://example.com/?key={CANARY}",
        "https://example.com/v1",
        "ftp://example.com",
        "https://[bad",
    ],
)
def test_an_address_that_would_expose_the_key_is_refused(block: Any, address: str) -> None:
    with pytest.raises(ValidationError) as caught:
        block(api_key=SecretStr(CANARY), base_url=address)
    assert "https" in str(caught.value)
    assert CANARY not in str(caught.value)


def test_a_wrong_value_never_shows_the_key_beside_it() -> None:
    wrong = {"api_key": CANARY, "base_url": "http://example.com"}
    for make in (
        lambda: OxenUpscaler(credentials=wrong),
        lambda: OxenUpscaler(credentials=CANARY),
        lambda: OxenCredentials(api_key=[CANARY]),
        lambda: EvoLinkCredentials(api_key=CANARY, files_url=f"http://me:{CANARY}@x"),
        lambda: EvoLinkUpscaler(
            credentials=EvoLinkCredentials(api_key=CANARY),
            callback_url=f"http://x/?token={CANARY}",
        ),
    ):
        with pytest.raises(ValidationError) as caught:
            make()
        assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("block", "variable"),
    [(OxenCredentials, "OXEN_API_KEY"), (EvoLinkCredentials, "EVOLINK_API_KEY")],
)
def test_from_env_reads_the_key_or_names_the_variable(block: Any, variable, monkeypatch) -> None:
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(InvalidRequest, match=variable):
        block.from_env()
    monkeypatch.setenv(variable, "  ")
    with pytest.raises(InvalidRequest, match=variable):
        block.from_env()
    monkeypatch.setenv(variable, f"{CANARY}\n")
    assert block.from_env().api_key.get_secret_value() == CANARY
