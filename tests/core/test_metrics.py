"""Tests of the list of metrics: complete, well named, and equal to the documentation."""

from pathlib import Path

from prometheus_client import CollectorRegistry

from core import metrics

_DOCS = Path(__file__).parents[2] / "docs"


def test_docs_page_is_up_to_date() -> None:
    """Compares docs/metrics.md with the list; if it differs, run `python -m core.metrics > docs/metrics.md`."""
    assert (_DOCS / "metrics.md").read_text() == "\n".join(metrics.page()) + "\n"


def test_every_metric_is_listed_and_follows_prometheus_naming() -> None:
    """Compares the module's metrics with its list and checks each name.

    An unlisted metric would be missing from the documentation. A duplicate name, or a histogram without its unit, would
    mislead the author of a dashboard.
    """
    defined = [value for value in vars(metrics).values() if isinstance(value, metrics.Metric)]
    assert sorted(one.name for one in defined) == sorted(one.name for one in metrics.all_metrics())
    assert len({one.name for one in defined}) == len(defined)
    for one in defined:
        assert one.name.startswith("audiotext_")
        assert not one.name.endswith("_total")  # prometheus_client adds it
        assert one.help.endswith(".")
        if isinstance(one, metrics.HistogramMetric):
            assert one.name.endswith("_seconds")
            assert list(one.buckets) == sorted(set(one.buckets))


def test_documented_names_are_the_served_names() -> None:
    """Creates each metric and reads the name that a scrape returns: the page must show the same one."""
    for one in metrics.all_metrics():
        assert isinstance(one, metrics.CounterMetric | metrics.GaugeMetric | metrics.HistogramMetric)
        registry = CollectorRegistry()
        made = one.on(registry)
        if one.labels:
            made.labels(*one.labels)
        samples = {sample.name for family in registry.collect() for sample in family.samples}
        assert one.exposed_name in {name.removesuffix("_count") for name in samples}
