"""The list of metrics: complete, well named, and what the documentation says."""

from pathlib import Path

from prometheus_client import CollectorRegistry

from core import metrics

_DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_made_from_the_list() -> None:
    """docs/metrics.md must be what the list says now: `python -m core.metrics > docs/metrics.md`."""
    assert (_DOCS / "metrics.md").read_text() == "\n".join(metrics.page()) + "\n"


def test_every_metric_is_listed_and_named_as_prometheus_wants() -> None:
    """A metric that is defined and not listed would be in no documentation; one name twice, or a unit in no name, would
    mislead whoever draws it."""
    defined = [value for value in vars(metrics).values() if isinstance(value, metrics.Metric)]
    assert sorted(one.name for one in defined) == sorted(one.name for one in metrics.every())
    assert len({one.name for one in defined}) == len(defined)
    for one in defined:
        assert one.name.startswith("audiotext_")
        assert not one.name.endswith("_total")  # prometheus_client adds it
        assert one.help.endswith(".")
        if isinstance(one, metrics.HistogramMetric):
            assert one.name.endswith("_seconds")
            assert list(one.buckets) == sorted(set(one.buckets))


def test_the_names_on_the_page_are_those_that_are_served() -> None:
    """Makes each metric and looks what it is called when it is scraped: the page must say the same."""
    for one in metrics.every():
        assert isinstance(one, metrics.CounterMetric | metrics.GaugeMetric | metrics.HistogramMetric)
        registry = CollectorRegistry()
        made = one.on(registry)
        if one.labels:
            made.labels(*one.labels)
        samples = {sample.name for family in registry.collect() for sample in family.samples}
        assert one.exposed in {name.removesuffix("_count") for name in samples}
