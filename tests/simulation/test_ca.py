"""The simulated CA enforces what it says it enforces, so that a simulation without refusals means something."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.simulation.ca import AlreadyReplaced, Down, Issued, Limited, SimulatedCA
from benchmarks.simulation.limits import Allowed, Counter
from benchmarks.simulation.world import DAY, HOUR, Span
from certbroker.domain.csr import build_csr
from certbroker.domain.policy import CertificatePolicy, SubjectAlternativeNames

START = datetime(2027, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Bench:
    """A CA whose time is moved by hand."""

    def __init__(self, **settings: object) -> None:
        self.now = START
        self.names = [(f"host-{number}.example",) for number in range(1000)]
        lives = dict.fromkeys(self.names, 90 * DAY)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.told: list[Issued] = []
        usual: dict[str, object] = {"suggests": True, "lives": lives, "domain_of": lambda name: name}
        self.ca = SimulatedCA("ca", lambda: self.now, **(usual | settings))  # type: ignore[arg-type]
        self.ca.on_issue = lambda issued, before: self.told.append(issued)

    def issue(self, names: tuple[str, ...], replaces: bytes | None = None, account: str = "one") -> bytes:
        """The leaf of a new certificate."""
        url = self.ca.new_order(account, names, replaces)
        policy = CertificatePolicy(sans=SubjectAlternativeNames(dns_names=names))
        chain = self.ca.finalize(url, build_csr(policy, self.key))
        assert isinstance(chain, tuple)
        return chain[0]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_counter_gives_what_is_allowed_at_once_and_then_one_place_at_a_time() -> None:
    counter = Counter(Allowed(5, 5 * HOUR), START)
    for _ in range(5):
        assert timedelta(0) == counter.wait(START)
        counter.take(START)

    assert HOUR == counter.wait(START)
    assert 20 * MINUTE == counter.wait(START + 40 * MINUTE)
    assert timedelta(0) == counter.wait(START + HOUR)
    counter.take(START + HOUR)
    assert HOUR == counter.wait(START + HOUR)
    # However long nothing is taken, no more than five fit at once.
    for _ in range(5):
        counter.take(START + 100 * HOUR)
    assert HOUR == counter.wait(START + 100 * HOUR)


def test_an_account_has_300_new_orders_in_three_hours(bench: Bench) -> None:
    for names in bench.names[:300]:
        bench.issue(names)

    with pytest.raises(Limited, match="new orders by the account") as refused:
        bench.issue(bench.names[300])
    assert pytest.approx(36) == refused.value.wait.total_seconds()
    assert {"new orders by the account": 1} == bench.ca.refused
    bench.issue(bench.names[300], account="two")
    bench.now += 37 * timedelta(seconds=1)
    bench.issue(bench.names[301])


def test_a_registered_domain_has_50_certificates_in_a_week_by_all_accounts_together() -> None:
    bench = Bench(domain_of=lambda name: "example")
    for number, names in enumerate(bench.names[:50]):
        bench.issue(names, account=f"account-{number % 2}")

    with pytest.raises(Limited, match="registered domain"):
        bench.issue(bench.names[50], account="three")
    bench.now += 7 * DAY / 50
    bench.issue(bench.names[50])
    with pytest.raises(Limited, match="registered domain"):
        bench.issue(bench.names[51])


def test_a_renewal_counts_only_as_a_certificate_for_the_same_names() -> None:
    bench = Bench(domain_of=lambda name: "example")
    for names in bench.names[:50]:
        bench.issue(names)
    for _ in range(4):
        bench.issue(bench.names[0])

    with pytest.raises(Limited, match="exact set of names"):
        bench.issue(bench.names[0])
    bench.now += 7 * DAY / 5
    bench.issue(bench.names[0])


def test_an_order_that_names_what_it_replaces_counts_nowhere_and_is_made_once(bench: Bench) -> None:
    leaf = first = bench.issue(bench.names[0])
    for _ in range(20):
        leaf = bench.issue(bench.names[0], leaf)

    with pytest.raises(AlreadyReplaced):
        bench.issue(bench.names[0], first)
    assert 1 == bench.ca.doubled
    assert 20 == bench.ca.needless  # All of them at once: nobody needs that.


def test_a_certificate_that_is_for_other_names_exempts_nothing() -> None:
    bench = Bench(domain_of=lambda name: "example")
    leaves = [bench.issue(names) for names in bench.names[:50]]

    with pytest.raises(Limited, match="registered domain"):
        bench.issue(bench.names[50], leaves[0])


def test_an_order_in_progress_bars_others_for_the_same_certificate_until_it_is_over(bench: Bench) -> None:
    leaf = bench.issue(bench.names[0])
    bench.ca.new_order("one", bench.names[0], leaf)

    with pytest.raises(AlreadyReplaced):
        bench.ca.new_order("one", bench.names[0], leaf)
    bench.now += 7 * DAY
    bench.ca.new_order("one", bench.names[0], leaf)
    assert 0 == bench.ca.doubled


def test_it_cannot_be_reached_while_it_is_away() -> None:
    bench = Bench(outages=(Span(START + HOUR, START + 2 * HOUR),))
    leaf = bench.issue(bench.names[0])
    url = bench.ca.new_order("one", bench.names[1])
    bench.now += HOUR

    for call in (
        bench.ca.directory,
        lambda: bench.ca.new_order("one", bench.names[2]),
        lambda: bench.ca.finalize(url, b""),
        lambda: bench.ca.window(leaf),
    ):
        with pytest.raises(Down):
            call()
    bench.now += HOUR
    bench.ca.directory()


def test_windows_are_a_fiftieth_of_the_life_around_two_thirds_and_in_the_past_after_an_incident() -> None:
    bench = Bench(incident=START + 10 * DAY)
    leaves = [bench.issue(names) for names in bench.names[:40]]
    usual = bench.ca.window(leaves[0])
    bench.now += 10 * DAY
    windows = [bench.ca.window(leaf) for leaf in leaves]
    struck = [window for window in windows if window is not None and window[2] is not None]

    begin = START - HOUR
    assert (begin + 90 * DAY * (2 / 3 - 0.01), begin + 90 * DAY * (2 / 3 + 0.01), None) == usual
    assert 5 < len(struck) < 35
    assert all(end < bench.now for _, end, _ in struck)


def test_what_it_issues_is_what_was_asked_for(bench: Bench) -> None:
    leaf = x509.load_der_x509_certificate(bench.issue(bench.names[0]))

    assert bench.key.public_key() == leaf.public_key()
    assert ["host-0.example"] == leaf.extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    ).value.get_values_for_type(x509.DNSName)
    assert (START - HOUR, START - HOUR + 90 * DAY) == (leaf.not_valid_before_utc, leaf.not_valid_after_utc)
    assert leaf.not_valid_after_utc == bench.told[0].not_after
