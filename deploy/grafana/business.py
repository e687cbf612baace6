"""Dashboard of calls and money, from ClickHouse.

Every sum counts each item once: minutes and money come from the view `bill`, words from `current_segments` (the current
transcripts), and events from `call_events`.
"""

from deploy.grafana.panels import Json, Panel, Row, dashboard, variable

_TENANTS = "tenant IN (${tenant:singlequote})"
_CALLS = f"FROM calls WHERE $__timeFilter(started_at) AND {_TENANTS}"
_PROVIDERS = "provider IN (${provider:singlequote})"
_LEDGER = f"FROM bill AS l WHERE $__timeFilter(call_started_at) AND {_TENANTS} AND {_PROVIDERS}"
_SEGMENTS = f"FROM current_segments AS s WHERE $__timeFilter(call_started_at) AND {_TENANTS}"
_FAILED = f"FROM call_events WHERE type = 'stage.failed' AND $__timeFilter(occurred_at) AND {_TENANTS}"
_STAGES = f"FROM stage_latencies WHERE $__timeFilter(hung_up_at) AND {_TENANTS}"
# The tracks of each part's latest recording, with their gaps.
_TRACKS = f"""
    SELECT started_at, arrayJoin(JSONExtractArrayRaw(event, 'tracks')) AS track
    FROM (
        SELECT started_at, event FROM call_events
        WHERE type = 'recording.ready' AND $__timeFilter(started_at) AND {_TENANTS}
        ORDER BY occurred_at DESC LIMIT 1 BY tenant, call_id, part
    )
"""
_STEPS = (
    ("recorded", "hang_up_to_recorded_ms"),
    ("transcribed", "recorded_to_transcribed_ms"),
    ("summarized", "transcribed_to_summarized_ms"),
    ("embedded", "transcribed_to_embedded_ms"),
)


def _over_time(at: str, columns: str, source: str, by: str = "") -> str:
    """Returns a query with one series for each value of `by`, or for each column."""
    named, grouped = (f", {by}", f", {by.rpartition(' AS ')[2]}") if by else ("", "")
    return f"SELECT $__timeInterval({at}) AS time{named}, {columns} {source} GROUP BY time{grouped} ORDER BY time"


def _percentiles(column: str) -> str:
    return ", ".join(f"quantile({share / 100})({column}) / 1000 AS p{share}" for share in (50, 95, 99))


_CALLS_ROW = Row(
    "Calls",
    [
        Panel(
            "Calls",
            "Calls that began in this period.",
            [f"SELECT count() AS calls {_CALLS}"],
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Minutes charged",
            "Audio on the bill. Each recording counts once, even if it is transcribed again.",
            [f"SELECT round(sum(audio_ms) / 60000, 1) AS minutes {_LEDGER}"],
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Not complete",
            "Calls of this period that are not complete, live calls included. Should fall to the live calls.",
            [f"SELECT countIf(status != 'complete') AS calls {_CALLS}"],
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Failed",
            "Calls with a failed stage, without a later result or a running retry: audiotext dlq list.",
            [f"SELECT countIf(status = 'failed') AS calls {_CALLS}"],
            kind="stat",
            width=4,
            height=4,
            steps=((None, "green"), (1, "red")),
        ),
        Panel(
            "Margin",
            "Price minus the cost of providers, in the most frequent currency.",
            [
                "SELECT toFloat64(sum(l.price) - sum(l.provider_cost)) AS margin "
                f"{_LEDGER} GROUP BY currency ORDER BY count() DESC LIMIT 1"
            ],
            kind="stat",
            width=4,
            height=4,
            steps=((None, "red"), (0, "green")),
        ),
        Panel(
            "Words",
            "Words in the current transcripts.",
            [f"SELECT sum(s.words) AS words {_SEGMENTS}"],
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Calls by carrier",
            "By the call's start.",
            [_over_time("started_at", "count() AS calls", _CALLS, "carrier")],
            stacked=True,
        ),
        Panel(
            "Calls by status",
            "By the call's start. A call that stays incomplete is stuck.",
            [_over_time("started_at", "count() AS calls", _CALLS, "status")],
            stacked=True,
        ),
    ],
)

_MONEY_ROW = Row(
    "Money",
    [
        Panel(
            "By tenant and provider",
            "The bill: minutes, cost of providers, price, margin. Currencies are not added up. Minutes of a recording "
            "are on the line of its first transcription.",
            [
                f"""
                SELECT tenant, provider, model, kind, currency, count() AS lines,
                       round(sum(l.audio_ms) / 60000, 2) AS minutes, sum(l.units) AS all_units,
                       toFloat64(sum(l.provider_cost)) AS cost, toFloat64(sum(l.price)) AS charged,
                       toFloat64(sum(l.price) - sum(l.provider_cost)) AS margin,
                       if(charged = 0, NULL, margin / charged) AS share
                {_LEDGER}
                GROUP BY tenant, provider, model, kind, currency ORDER BY charged DESC, tenant, provider
                """
            ],
            kind="table",
            width=24,
        ),
        Panel(
            "Minutes by tenant",
            "By the call's start.",
            [_over_time("call_started_at", "sum(audio_ms) / 60000 AS minutes", _LEDGER, "tenant")],
            stacked=True,
            unit="m",
            width=8,
        ),
        Panel(
            "Cost and price",
            "Where cost is above price, calls lose money.",
            [
                "SELECT $__timeInterval(call_started_at) AS time, toFloat64(sum(l.provider_cost)) AS cost, "
                f"toFloat64(sum(l.price)) AS charged {_LEDGER} "
                "GROUP BY time ORDER BY time"
            ],
            width=8,
        ),
        Panel(
            "Sold below cost",
            "Ledger lines that cost more than their price. Normally empty, except for free replays.",
            [
                "SELECT tenant, provider, currency, toFloat64(sum(l.provider_cost) - sum(l.price)) AS loss, "
                f"count() AS lines {_LEDGER} GROUP BY tenant, provider, currency "
                "HAVING sum(l.provider_cost) > sum(l.price) ORDER BY loss DESC"
            ],
            kind="table",
            width=8,
        ),
    ],
)

_LATENCY_ROW = Row(
    "Latency",
    [
        Panel(
            f"To be {done}",
            f"Seconds until a part is {done}, by the time of its hang-up: 50th, 95th and 99th percentile.",
            [_over_time("hung_up_at", _percentiles(column), f"{_STAGES} AND {column} IS NOT NULL")],
            unit="s",
            width=6,
        )
        for done, column in _STEPS
    ],
)

_TROUBLE_ROW = Row(
    "Failures",
    [
        Panel(
            "Missing audio by reason",
            "Seconds of gaps inside recordings, the longest 1,000 per track. gateway-buffer-full: lost by the gateway. "
            "missing: never arrived.",
            [
                f"""
                SELECT $__timeInterval(started_at) AS time, JSONExtractString(gap, 'reason') AS reason,
                       sum(JSONExtractInt(gap, 'end_ms') - JSONExtractInt(gap, 'start_ms')) / 1000 AS seconds
                FROM (SELECT started_at, arrayJoin(JSONExtractArrayRaw(track, 'gaps')) AS gap FROM ({_TRACKS}))
                GROUP BY time, reason ORDER BY time
                """
            ],
            stacked=True,
            unit="s",
        ),
        Panel(
            "Failures by stage",
            "Dead letters by stage.",
            [_over_time("occurred_at", "count() AS failures", _FAILED, "JSONExtractString(event, 'stage') AS stage")],
            stacked=True,
        ),
        Panel(
            "Latest failures",
            "Repair the cause, then run audiotext dlq replay.",
            [
                "SELECT occurred_at, tenant, call_id, JSONExtractString(event, 'stage') AS stage, "
                "JSONExtractString(event, 'error_class') AS class, JSONExtractString(event, 'error') AS error "
                f"{_FAILED} ORDER BY occurred_at DESC LIMIT 100"
            ],
            kind="table",
        ),
        Panel(
            "Words by tenant",
            "Words in the current transcripts, by the call's start.",
            [
                _over_time(
                    "call_started_at",
                    "sum(s.words) AS spoken",
                    _SEGMENTS,
                    "tenant",
                )
            ],
            stacked=True,
        ),
    ],
)


def business() -> Json:
    """Returns the dashboard."""
    return dashboard(
        "audiotext-business",
        "AudioText: calls and money",
        "Calls, minutes, cost, price and margin per tenant and provider; latency of stages; failures.",
        [_CALLS_ROW, _MONEY_ROW, _LATENCY_ROW, _TROUBLE_ROW],
        variables=[
            variable("tenant", "Tenant", "SELECT DISTINCT tenant FROM calls ORDER BY tenant"),
            variable("provider", "Provider", "SELECT DISTINCT provider FROM ledger ORDER BY provider"),
        ],
    )
