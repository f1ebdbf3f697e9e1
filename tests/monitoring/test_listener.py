"""What is told to whoever watches a real broker, over plain HTTP and without a token."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pebble.loopback import free_ports
from tests.support.broker import DevBroker
from tests.support.command_line import CommandLine
from tests.support.serving import Installation

OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevBroker]:
    with DevBroker(tmp_path_factory.mktemp("monitoring") / "broker") as running:
        yield running


@pytest.fixture(scope="module")
def http(broker: DevBroker) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=broker.env["CERTBROKER_MONITORING_URL"]) as client:
        yield client


def test_it_is_alive_and_ready(http: httpx.Client) -> None:
    for path in ("/healthz", "/readyz"):
        reply = http.get(path)

        assert (200, {"status": "ok"}) == (reply.status_code, reply.json())


@pytest.mark.parametrize("path", ["/", "/admin/status", "/metrics/", "/secrets/x"])
def test_nothing_else_is_there(http: httpx.Client, path: str) -> None:
    assert 404 == http.get(path).status_code
    assert 405 == http.post("/metrics").status_code


def test_metrics_are_not_on_the_public_listener(broker: DevBroker) -> None:
    with httpx.Client(verify=ssl.create_default_context(cafile=broker.ca_path)) as client:
        reply = client.get(broker.env["CERTBROKER_ADMIN_URL"] + "/metrics")

    assert 404 == reply.status_code


def test_metrics_come_in_both_forms_that_prometheus_asks_for(http: httpx.Client) -> None:
    plain, modern = http.get("/metrics"), http.get("/metrics", headers=OPENMETRICS)

    assert plain.headers["content-type"].startswith("text/plain")
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    assert modern.text.endswith("# EOF\n")
    assert {family.name for family in text_string_to_metric_families(plain.text)} > {
        "certbroker_build_info",
        "certbroker_ready",
        "certbroker_certificates",
        "certbroker_engine_beat_age_seconds",
        "certbroker_sweep_seconds",
        "certbroker_audit_write_failures",
        "process_start_time_seconds",
    }


def test_a_certificate_is_told_with_the_labels_of_the_usual_exporter(
    broker: DevBroker, tmp_path_factory: pytest.TempPathFactory
) -> None:
    certbroker = CommandLine(broker)
    certbroker.ok("certificate", "create", "told", "--issuer", "Self", "--dns", "told.example", "--wait")
    # What is counted is kept for half a minute; a restart counts anew.
    broker.restart()
    text = httpx.get(broker.env["CERTBROKER_MONITORING_URL"] + "/metrics").text

    found = re.search(r"^x509_cert_not_after\{(.*)\} (.*)$", text, re.MULTILINE)
    assert found is not None
    labels = dict(re.findall(r'(\w+)="([^"]*)"', found[1]))
    serial = labels.pop("serial_number")
    shown = certbroker.json("certificate", "show", "told")
    assert {
        "certificate": "told", "vault": "demo", "subject_CN": "told.example", "issuer_CN": "told.example"
    } == labels  # fmt: skip
    assert serial.isdecimal()
    assert shown["attributes"]["exp"] == float(found[2])


def test_a_broker_without_its_key_is_alive_and_not_ready(tmp_path: Path) -> None:
    place, (port,) = Installation(tmp_path), free_ports(1)
    place.configure(f'[monitoring]\nlisten = "127.0.0.1:{port}"')
    with place.serve() as broker:
        broker.wait("ok")
        broker.stop()
    (place.data / "seal.key").rename(tmp_path / "away")

    with place.serve() as broker, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        broker.wait("sealed")
        alive, ready, metrics = (client.get(path) for path in ("/healthz", "/readyz", "/metrics"))
        (tmp_path / "away").rename(place.data / "seal.key")
        broker.wait("ok")

        assert (200, "sealed") == (alive.status_code, alive.json()["status"])
        assert 503 == ready.status_code
        assert "seal" in ready.json()["reasons"][0]
        assert "certbroker_sealed 1.0" in metrics.text
        assert "certbroker_ready 0.0" in metrics.text
