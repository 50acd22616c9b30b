"""Reads the metrics of a running service, by name and labels."""

from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Flow, asgi

HOST = "127.0.0.1:9464"


async def scrape_samples(flow: Flow, **headers: str):
    return await asgi(flow.service.operator, "GET", "/metrics", {"host": HOST} | headers)


class SampleIndex(dict):
    """Samples by name and labels: `told["atlas_exports_total", "accepted"]`."""

    def __init__(self, text: bytes) -> None:
        self.families = list(text_string_to_metric_families(text.decode()))
        for family in self.families:
            for sample in family.samples:
                self[(sample.name, *sample.labels.values())] = sample.value

    def __missing__(self, _key):
        return 0.0


async def told(flow: Flow) -> SampleIndex:
    return SampleIndex((await scrape_samples(flow)).body)
