"""What every provider must keep: subclass `ProviderContract` and state the provider's facts."""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from prefect_topaz import errors
from prefect_topaz.models import MediaFacts, Order
from prefect_topaz.transport import Transport
from tests.providers.answers import thorough
from tests.providers.live import LiveContract
from tests.providers.reading import ReadingContract
from tests.providers.samples import KEY, SOURCE, Samples, every_call, foreign_imports

MEDIA = MediaFacts(
    width=64, height=36, fps=10, duration=600.0, has_audio=True, codec="h264", frames=6000
)


class ProviderContract(ReadingContract, LiveContract):
    """The promises; each provider's test file subclasses this and adds its own facts."""

    samples: ClassVar[Samples]

    # Money.

    def test_submit_is_never_repeatable_and_everything_else_is(self):
        for order in self.samples.all_orders():
            calls = every_call(self.samples.make(), order)
            assert "submit" in calls
            paid = {name for name, some in calls.items() if not all(c.repeatable for c in some)}
            assert paid == {"submit"}
            (submit,) = calls["submit"]
            assert (submit.method, submit.repeatable) == ("POST", False)

    def test_an_estimate_says_where_it_comes_from_and_never_guesses(self):
        for order in self.samples.all_orders():
            known = self.samples.make().estimate(order, MEDIA)
            assert known.basis
            assert known.estimate is None or known.estimate > 0
            assert self.samples.make().estimate(order, None).estimate is None
            endless = MEDIA.model_copy(update={"duration": None})
            assert self.samples.make().estimate(order, endless).estimate is None

    # Where the key goes.

    def test_every_call_stays_with_the_provider(self):
        dialect = self.samples.make()
        for calls in every_call(dialect, self.samples.order()).values():
            for call in calls:
                parts = urlsplit(call.url)
                assert f"{parts.scheme}://{parts.netloc}" in dialect.origins
                assert KEY not in repr(call)
                assert "CANARY" not in repr(call)

    def test_an_id_from_outside_stays_one_piece_of_a_path(self):
        dialect, hostile = self.samples.make(), "../../x?y=1#z@evil.example/"
        plain, strange = dialect.status("job").url, dialect.status(hostile).url
        assert urlsplit(strange).query == urlsplit(strange).fragment == ""
        assert strange.count("/") == plain.count("/")

    @thorough
    @given(url=st.text() | st.from_regex(r"https?://[a-z.@:\\/?#\[\]0-9]{1,30}", fullmatch=True))
    def test_the_key_goes_nowhere_else(self, url):
        dialect = self.samples.make()
        transport = Transport(SecretStr(KEY), dialect.origins)
        host = urlsplit(dialect.base_url).netloc
        for whole in (url, f"{dialect.base_url}{url}", f"https://{url}{host}", f"https://{url}"):
            try:
                target = httpx.URL(whole)
            except (httpx.InvalidURL, ValueError):
                continue
            if transport_key(transport, whole):
                assert f"{target.scheme}://{target.netloc.decode()}" in dialect.origins

    @pytest.mark.parametrize(
        "url",
        [
            *("http://api.example.com", "ftp://api.example.com", "api.example.com", "", "https://"),
            *("https://api.example.com/v1", "https://api.example.com?x=1"),
            *("https://me:pw@api.example.com", "https://[bad", "https://api.example.com:port"),
            *("http://10.0.0.1", "http://127.0.0.1.example.com", "http://localhost.example.com"),
            *("file:///etc/passwd", "https://good.example\\@evil.example"),
        ],
    )
    def test_an_address_that_would_expose_the_key_is_refused(self, url):
        if not url:
            assert self.samples.make("").base_url == self.samples.dialect.home
            return
        with pytest.raises(errors.InvalidRequest, match="give an https origin") as caught:
            self.samples.make(url)
        assert "pw" not in str(caught.value)

    @pytest.mark.parametrize(
        ("url", "origin", "realm"),
        [
            ("https://api.example.com/", "https://api.example.com", "https://api.example.com"),
            ("https://API.example.com:443", "https://api.example.com", "https://api.example.com"),
            (
                "https://api.example.com:8443",
                "https://api.example.com:8443",
                "https://api.example.com:8443",
            ),
            ("http://127.0.0.1:8089", "http://127.0.0.1:8089", "loopback"),
            ("http://localhost:80/", "http://localhost", "loopback"),
            ("http://[::1]:8089", "http://[::1]:8089", "loopback"),
            (" https://api.example.com ", "https://api.example.com", "https://api.example.com"),
        ],
    )
    def test_an_address_is_its_origin(self, url, origin, realm):
        dialect = self.samples.make(url)
        assert (dialect.base_url, dialect.realm) == (origin, realm)
        assert origin in dialect.origins

    def test_the_vendors_own_address_has_no_realm(self):
        home = self.samples.dialect.home
        assert self.samples.make().realm == self.samples.make(f"{home}:443/").realm == ""

    # Options and sources.

    def test_orders_are_plain_values_of_this_provider(self):
        for order in self.samples.all_orders():
            assert order.provider == self.samples.dialect.name
            assert order.label
            assert "/" not in order.label
            assert Order.model_validate_json(order.model_dump_json()) == order or order.callback_url

    def test_every_wrong_option_is_one_clear_error(self):
        for options, words in self.samples.refused:
            with pytest.raises(errors.InvalidRequest) as caught:
                self.samples.options(**options).order()
            assert caught.value.billed == "no"
            for word in words:
                assert word in str(caught.value), (options, str(caught.value))

    def test_a_source_that_cannot_be_read_is_refused_by_its_name(self):
        self.samples.make().check_source(SOURCE)
        for source in self.samples.unreadable:
            with pytest.raises(errors.UnusableSource) as caught:
                self.samples.make().check_source(source)
            assert "CANARY" not in str(caught.value)

    # The dialect itself.

    def test_a_dialect_does_no_io(self):
        assert foreign_imports(self.samples.dialect) == set()

    def test_a_dialect_is_a_value(self):
        one = self.samples.make()
        assert one == self.samples.make()
        assert hash(one) == hash(self.samples.make())
        with pytest.raises(AttributeError):
            one.base_url = "https://evil.example"

    def test_cancelling_is_a_call_or_none(self):
        call = self.samples.make().cancel("job")
        assert (call is not None) == self.samples.dialect.can_cancel


def transport_key(transport: Transport, url: str) -> dict[str, str]:
    """Ask for the key's header; a URL that cannot be read gets none."""
    try:
        return transport.key_for(url)
    except ValueError:
        return {}
