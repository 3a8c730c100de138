"""What EvoLink would correct silently, or refuse too late, is refused here."""

import pytest

from prefect_topaz.errors import InvalidRequest
from prefect_topaz.providers.evolink import EvoLinkOptions, check_factor

FACTORS = [("1", "1"), ("2", "2"), ("4", "4"), (1, "1"), (2, "2"), (4, "4"), (2.0, "2")]


@pytest.mark.parametrize(("given", "sent"), FACTORS)
def test_a_factor_is_sent_as_the_vendor_writes_it(given, sent):
    order = EvoLinkOptions(upscale_factor=given).order()
    assert order.options == {"upscale_factor": sent}
    assert (order.factor, order.label) == (int(sent), f"{sent}x")


def test_the_default_is_the_vendors():
    assert EvoLinkOptions().order().options == {"upscale_factor": "2"}


@pytest.mark.parametrize("value", [True, False, None, 3, "3", float("nan"), float("inf"), [2], {}])
def test_no_value_becomes_two_silently(value):
    """[seed] The server would take 2 for each of these, and bill it."""
    with pytest.raises(InvalidRequest, match="allowed: 1, 2, 4"):
        check_factor(value)
    with pytest.raises(ValueError, match="upscale_factor"):
        EvoLinkOptions(upscale_factor=value).order()


GOOD = [
    "https://example.com/hook",
    "https://example.com:8443/hook?token=x",
    "https://93.184.216.34/hook",
    "https://[2606:4700:4700::1111]/hook",
    "https://EXAMPLE.com",
    "https://example.com./hook",
    "https://127.0.0.1.nip.example/hook",
    "https://example.com/" + "x" * (2048 - len("https://example.com/")),
]


@pytest.mark.parametrize("url", GOOD)
def test_a_public_callback_is_taken(url):
    assert EvoLinkOptions(callback_url=url).order().callback_url.reveal() == url


BAD = [
    ("http://example.com/hook", "not an https URL"),
    ("ftp://example.com/hook", "not an https URL"),
    ("example.com/hook", "not an https URL"),
    ("https://", "not an https URL"),
    ("https:///hook", "not an https URL"),
    ("https://[::1", "not an https URL"),
    ("", "not an https URL"),
    ("https://10.0.0.1/hook", "internal"),
    ("https://127.0.0.1/hook", "internal"),
    ("https://127.255.255.254/hook", "internal"),
    ("https://172.16.0.1/hook", "internal"),
    ("https://172.31.255.255/hook", "internal"),
    ("https://192.168.1.1/hook", "internal"),
    ("https://169.254.169.254/latest/meta-data", "internal"),
    ("https://0.0.0.0/", "internal"),
    ("https://100.64.0.1/", "internal"),
    ("https://[::1]/hook", "internal"),
    ("https://[::ffff:10.0.0.1]/hook", "internal"),
    ("https://[::ffff:127.0.0.1]/hook", "internal"),
    ("https://[fd00::1]/hook", "internal"),
    ("https://[fe80::1]/hook", "internal"),
    ("https://[fe80::1%25eth0]/hook", "internal"),
    ("https://localhost/hook", "internal"),
    ("https://localhost./hook", "internal"),
    ("https://LOCALHOST/hook", "internal"),
    ("https://app.localhost/hook", "internal"),
    ("https://printer.local/hook", "internal"),
    ("https://db.internal/hook", "internal"),
    ("https://intranet/hook", "internal"),
    ("https://127.1/hook", "internal"),
    ("https://0x7f.1/hook", "internal"),
    ("https://0x7f000001/hook", "internal"),
    ("https://2130706433/hook", "internal"),
    ("https://10.0.0.1./hook", "internal"),
    ("https://example.com/" + "x" * (2049 - len("https://example.com/")), "2049 characters"),
]


@pytest.mark.parametrize(("url", "reason"), BAD)
def test_a_callback_that_the_vendor_refuses_is_refused_here(url, reason):
    with pytest.raises(InvalidRequest, match=reason) as caught:
        EvoLinkOptions(callback_url=url).order()
    assert "allowed: an https URL of at most 2048 characters" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_refused_callback_is_shown_without_its_query():
    with pytest.raises(InvalidRequest) as caught:
        EvoLinkOptions(callback_url="http://me:CANARY@example.com/?token=CANARY").order()
    assert "CANARY" not in str(caught.value)


def test_a_second_sending_is_off_until_somebody_asks_for_it():
    assert not EvoLinkOptions().order().resend_unknown
    assert EvoLinkOptions(resend_unknown=True).order().resend_unknown


def test_an_unknown_option_is_refused():
    with pytest.raises(ValueError, match="resolution"):
        EvoLinkOptions(resolution="4k")
