"""Nothing that signs a URL is ever shown."""

import json
import pickle
import string

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from prefect_topaz.redaction import SignedUrl, redact, redact_url

CANARY = "CANARYxSECRETx"
# All that a URL may hold, and what sloppy servers leave unescaped.
URL_CHARACTERS = string.ascii_letters + string.digits + "-._~:/?#[]@!$&'()*+,;=%{}|^`"
TAIL = st.text(URL_CHARACTERS, max_size=30)
PATH = st.text(string.ascii_letters + string.digits + "-._~!$&'()*+,;=:%/[]{}", max_size=30)
HOST = st.sampled_from(["host", "a.example.com:8443", "127.0.0.1:80", "[::1]:8080"])
SCHEME = st.sampled_from(["https", "http", "s3", "HTTPS", "memory", "s3+https"])


@st.composite
def signed(draw):
    """A URL whose query, fragment and user info hold the canary."""
    user = draw(st.sampled_from(["", f"{CANARY}@", f"me:{CANARY}@"]))
    query = draw(st.sampled_from(["", f"?{draw(TAIL)}X-Amz-Signature={CANARY}{draw(TAIL)}"]))
    fragment = draw(st.sampled_from(["", f"#{CANARY}"]))
    path = draw(PATH)
    return f"{draw(SCHEME)}://{user}{draw(HOST)}/{path}{query}{fragment}"


class Holder(BaseModel):
    link: SignedUrl


@given(signed())
def test_a_signed_url_shows_no_signature_in_any_form(url):
    link = SignedUrl(url)
    holder = Holder(link=link)
    shown = [
        repr(link),
        str(link),
        f"{link}",
        repr(holder),
        holder.model_dump_json(),
        json.dumps(holder.model_dump(mode="json")),
        str(holder.model_dump()),
        pickle.dumps(link).decode("latin-1"),
        cloudpickle.dumps(holder).decode("latin-1"),
        redact_url(url),
    ]
    assert not [text for text in shown if CANARY in text]
    assert link.reveal() == url


@given(signed(), st.sampled_from(["", "'", '"', "(", "<", "cannot fetch ", "url=", "x_", "1"]))
def test_no_signature_stays_in_a_text(url, before):
    after = {"'": "'", '"': '"', "(": ")", "<": ">"}.get(before, " ")
    text = redact(f"no {before}{url}{after}: 403 Forbidden")
    assert CANARY not in text
    assert text.startswith("no ")
    assert text.endswith(": 403 Forbidden")


@given(signed())
def test_no_signature_stays_in_json_with_escaped_slashes(url):
    text = json.dumps({"message": url, "code": 1}).replace("/", "\\/")
    assert CANARY not in redact(text)
    assert redact(text).endswith('", "code": 1}')


@given(st.text())
def test_redacting_any_text_never_raises_and_has_an_end(text):
    once = redact(text)
    assert redact(once) == once


@given(st.text(), st.text())
def test_redacting_anything_that_looks_like_a_url_never_raises(host, path):
    url = f"https://{host}/{path}"
    assert str(SignedUrl(url)) == redact_url(url)
    redact(url)


@pytest.mark.parametrize("url", ["https://[bad/a.mp4?sig=S", "https://]/?sig=S"])
def test_a_malformed_url_is_shown_as_such(url):
    assert redact_url(url) == "<unreadable URL>"
    assert "sig" not in redact(f"no {url} there")


def test_a_text_without_urls_stays_as_it_is():
    text = "HTTP 400 (bad_request): 'fps' must be 1/60 to 60, e.g. {fps: 24}. See [docs]; a://"
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://host/a.mp4.", "see https://host/a.mp4."),
        ("('https://host/a.mp4?sig=S')", "('https://host/a.mp4')"),
        ("https://host/clip(1).mp4?sig=S, failed", "https://host/clip(1).mp4, failed"),
        ("two: https://a/b?c https://d/e?f", "two: https://a/b https://d/e"),
    ],
)
def test_what_is_around_a_url_stays_readable(text, shown):
    assert redact(text) == shown


def test_a_long_text_is_redacted_in_linear_time():
    text = "a" * 1_000_000 + "-." * 200_000
    assert redact(text) == text


def test_signed_urls_are_equal_only_as_a_whole():
    one, other = SignedUrl("https://h/a?sig=1"), SignedUrl("https://h/a?sig=2")
    assert one == SignedUrl("https://h/a?sig=1")
    assert one != other
    assert one != "https://h/a?sig=1"
    assert len({one, other, SignedUrl("https://h/a?sig=1")}) == 2
    assert one.digest != other.digest
    assert len(one.digest) == 64


def test_a_signed_url_is_read_from_text_and_from_itself():
    adapter = TypeAdapter(SignedUrl)
    link = adapter.validate_python("https://h/a?sig=1")
    assert link.reveal() == "https://h/a?sig=1"
    assert adapter.validate_python(link) is link
    assert adapter.validate_json(adapter.dump_json(link)).reveal() == "https://h/a"
