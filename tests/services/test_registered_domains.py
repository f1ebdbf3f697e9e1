"""By which part of a name a CA counts."""

from __future__ import annotations

import pytest

from certbroker.services.issuers.registered_domains import registered_domain


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("www.example.com", "example.com"),
        ("*.example.com", "example.com"),
        ("new.blog.example.co.uk", "example.co.uk"),
        ("a.b.github.io", "b.github.io"),
        ("github.io", "github.io"),
        ("*.github.io", "github.io"),
        ("a.b.corp.internal", "corp.internal"),
        ("localhost", "localhost"),
        ("a.xn--85x722f.xn--55qx5d.cn", "xn--85x722f.xn--55qx5d.cn"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
    ],
)
def test_registered_domains(name: str, domain: str) -> None:
    assert domain == registered_domain(name)
