"""Addresses of control planes: what they mean, and which of them are refused."""

from __future__ import annotations

import pytest

from jettyctl.core.model import Target
from jettyctl.core.targets import control_origin, looks_like_destination, origin_of, parse_destination, target_of
from jettyctl.errors import UsageError


@pytest.mark.parametrize(
    ("text", "authority", "key"),
    [
        ("jetty:", "", ""),
        ("jetty:a/b.tar", "", "a/b.tar"),
        ("jetty:/photos/", "", "photos/"),
        ("jetty://host/", "host", ""),
        ("jetty://Host:8443/a/b", "host:8443", "a/b"),
        ("jetty://127.0.0.1:53777/x", "127.0.0.1:53777", "x"),
        ("jetty://[::1]:9/x", "[::1]:9", "x"),
    ],
)
def test_destinations(text: str, authority: str, key: str) -> None:
    """`jetty:` is the configured control plane, `jetty://host/` another one."""
    assert looks_like_destination(text)
    found = parse_destination(text)
    assert (found.scheme, found.bucket, found.authority, found.key) == ("jetty", "", authority, key)


@pytest.mark.parametrize("text", ["jetty://", "jetty:///key", "jetty://user@host/k", "jetty://host:0/k", "jetty://h:99999/k"])
def test_addresses_without_a_host(text: str) -> None:
    """What names no host is refused: a user name or a port that cannot be is none."""
    with pytest.raises(UsageError, match="names no host"):
        parse_destination(text)


@pytest.mark.parametrize("authority", ["localhost", "localhost:80", "127.0.0.1:53777", "127.8.9.1", "[::1]:1"])
def test_this_machine_is_spoken_to_in_the_clear(authority: str) -> None:
    """Loopback needs no TLS."""
    assert origin_of(authority) == f"http://{authority}"


@pytest.mark.parametrize("authority", ["example.com", "127.0.0.1.example.com", "localhost.example.com", "10.0.0.1:80"])
def test_others_are_spoken_to_by_tls(authority: str) -> None:
    """Everything else gets https, names that begin like loopback's too."""
    assert origin_of(authority) == f"https://{authority}"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://host", "https://host"),
        ("https://Host:8443/", "https://host:8443"),
        ("http://127.0.0.1:53777", "http://127.0.0.1:53777"),
        ("https://localhost:1", "https://localhost:1"),
    ],
)
def test_control_origins(url: str, origin: str) -> None:
    """A control plane is configured by its origin."""
    assert control_origin(url) == origin


@pytest.mark.parametrize("url", ["http://host", "http://10.0.0.1:53777", "http://127.0.0.1.evil.com"])
def test_a_key_does_not_cross_a_network_in_the_clear(url: str) -> None:
    """Plain HTTP to another machine is refused, and there is no option for it."""
    with pytest.raises(UsageError, match="not encrypted") as caught:
        control_origin(url)
    assert "https://" in caught.value.hint


@pytest.mark.parametrize("url", ["", "host", "ftp://host", "https://", "https://a/b", "https://u:p@host", "https://host?x=1"])
def test_what_is_no_origin(url: str) -> None:
    """Paths, queries, user names and other schemes make no origin."""
    with pytest.raises(UsageError, match="not the address of a control plane"):
        control_origin(url)


def test_the_url_that_people_read_works_as_a_destination() -> None:
    """A target's URL names the control plane, and leads back to the same object."""
    target = target_of(parse_destination("jetty:a/"), "https://host", "f", several=False)
    assert target == Target("jetty", "https://host", "", "a/f")
    assert target.url == "jetty://host/a/f"
    again = parse_destination(target.url)
    assert (origin_of(again.authority), again.key) == ("https://host", "a/f")


def test_destination_url() -> None:
    """A destination is shown as it was typed."""
    assert parse_destination("jetty:a/").url == "jetty:a/"
    assert parse_destination("jetty://host/a/").url == "jetty://host/a/"


def test_a_password_in_the_address_is_not_repeated() -> None:
    """It would be in the log of a CI system."""
    with pytest.raises(UsageError) as refused:
        control_origin("https://me:hunter2@control.example.com")
    assert "hunter2" not in f"{refused.value.message} {refused.value.hint}"
