"""Dashboard of the running services, from Prometheus. Metrics: docs/metrics.md."""

from deploy.grafana.panels import Json, Panel, Row, dashboard

_RATE = "[$__rate_interval]"
_LATENCIES = f"rate(audiotext_stage_latency_seconds_bucket{_RATE})"
_RED_ABOVE_ZERO = ((None, "green"), (0.000001, "red"))

_AUDIO = Row(
    "Audio",
    [
        Panel(
            "Live streams",
            "Open media streams of all gateways.",
            [("streams", "sum(audiotext_gateway_streams_live)")],
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Audio lost at gateways",
            "Dropped in the last day because a buffer was full. A value above 0 is lost audio.",
            [("lost", "sum(increase(audiotext_gateway_dropped_audio_ms_total[24h]))")],
            kind="stat",
            unit="ms",
            width=4,
            height=4,
            steps=_RED_ABOVE_ZERO,
        ),
        Panel(
            "Dead letters",
            "New in the last day: audiotext dlq list.",
            [("letters", "sum(increase(audiotext_dead_letters_total[24h]))")],
            kind="stat",
            width=4,
            height=4,
            steps=_RED_ABOVE_ZERO,
        ),
        Panel(
            "Fullest buffer",
            "Share of the limit of a gateway's buffer. A full buffer drops audio.",
            [("full", "max(audiotext_gateway_buffer_bytes / audiotext_gateway_buffer_limit_bytes)")],
            kind="stat",
            unit="percentunit",
            width=4,
            height=4,
            steps=((None, "green"), (0.1, "orange"), (0.5, "red")),
        ),
        Panel(
            "Calls being recorded",
            "Open parts of the recorder.",
            [("calls", "sum(audiotext_recorder_open_calls)")],
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Services down",
            "Services that do not answer Prometheus.",
            [("down", 'count(up{job="audiotext"} == 0) or vector(0)')],
            kind="stat",
            width=4,
            height=4,
            steps=((None, "green"), (1, "red")),
        ),
        Panel(
            "Frames received",
            "Media frames per second by carrier. Usual: 50 per track and second.",
            [("{{carrier}}", f"sum by (carrier) (rate(audiotext_gateway_frames_total{_RATE}))")],
            unit="pps",
        ),
        Panel(
            "Streams ended",
            "Per second, by reason. protocol-error and socket-closed: a carrier or the network.",
            [("{{reason}}", f"sum by (reason) (rate(audiotext_gateway_streams_ended_total{_RATE}))")],
        ),
        Panel(
            "Buffered for the log",
            "Bytes not acknowledged, by gateway. Rising: the log is slower than the calls, or unavailable.",
            [("{{instance}}", "audiotext_gateway_buffer_bytes")],
            unit="bytes",
            width=8,
        ),
        Panel(
            "Refused",
            "Refused sockets and webhooks per second, by reason.",
            [
                ("socket: {{reason}}", f"sum by (reason) (rate(audiotext_gateway_refused_sockets_total{_RATE}))"),
                ("webhook: {{reason}}", f"sum by (reason) (rate(audiotext_gateway_refused_webhooks_total{_RATE}))"),
                (
                    "malformed: {{carrier}}",
                    f"sum by (carrier) (rate(audiotext_gateway_malformed_messages_total{_RATE}))",
                ),
            ],
            width=8,
        ),
        Panel(
            "Missing in recordings",
            "Share of recorded audio that is gaps, by reason.",
            [
                (
                    "{{reason}}",
                    f"sum by (reason) (rate(audiotext_recorder_gap_audio_ms_total{_RATE})) / ignoring(reason) "
                    f"group_left sum(rate(audiotext_recorder_recorded_audio_ms_total{_RATE}))",
                )
            ],
            unit="percentunit",
            width=8,
        ),
    ],
)

_STAGES = Row(
    "Stages",
    [
        Panel(
            "Lag",
            "Unprocessed records on the log, by stage. Recorder: audio waits. Other stages: results are late.",
            [("{{stage}}", "sum by (stage) (audiotext_consumer_lag_records)")],
        ),
        Panel(
            "Latency, 95th percentile",
            "Seconds from the input event of a stage to its result, retries included.",
            [
                (
                    "{{stage}}",
                    f"histogram_quantile(0.95, sum by (stage, le) ({_LATENCIES}))",
                )
            ],
            unit="s",
        ),
        Panel(
            "Attempts",
            "Per second, by stage and outcome.",
            [("{{stage}} {{result}}", f"sum by (stage, result) (rate(audiotext_stage_attempts_total{_RATE}))")],
            width=8,
        ),
        Panel(
            "Retries",
            "Failed attempts that are retried, per second, by error class.",
            [
                (
                    "{{stage}} {{error_class}}",
                    f"sum by (stage, error_class) (rate(audiotext_stage_retries_total{_RATE}))",
                )
            ],
            width=8,
        ),
        Panel(
            "Dead letters",
            "New dead letters per second.",
            [("{{stage}} {{error_class}}", f"sum by (stage, error_class) (rate(audiotext_dead_letters_total{_RATE}))")],
            width=8,
        ),
        Panel(
            "Provider unavailable",
            "1 while a stage waits for its provider.",
            [("{{stage}}", "max by (stage) (audiotext_stage_provider_away)")],
            width=8,
        ),
        Panel(
            "Running and waiting",
            "Running attempts, and jobs that wait for their turn or time.",
            [
                ("{{stage}} running", "sum by (stage) (audiotext_stage_attempts_running)"),
                ("{{stage}} held", "sum by (stage) (audiotext_stage_jobs_held)"),
            ],
            width=8,
        ),
        Panel(
            "Omitted text",
            "Share of recorded audio whose text is omitted, by reason. repetition: the engine repeated itself.",
            [
                (
                    "{{reason}}",
                    f"sum by (reason) (rate(audiotext_transcribe_omitted_audio_ms_total{_RATE})) / ignoring(reason) "
                    f"group_left sum(rate(audiotext_recorder_recorded_audio_ms_total{_RATE}))",
                )
            ],
            unit="percentunit",
            width=8,
        ),
        Panel(
            "Last read",
            "Seconds since the last poll of a stage. A minute or more: it hangs.",
            [("{{stage}} {{instance}}", "audiotext_consumer_poll_age_seconds")],
            unit="s",
            width=8,
        ),
    ],
)

_STORES = Row(
    "Recorder, stores and API",
    [
        Panel(
            "Recordings not uploaded",
            "Rising: object storage is unavailable or slow.",
            [
                ("waiting", "sum(audiotext_recorder_unfinished_recordings)"),
                ("failures per minute", f"60 * sum(rate(audiotext_recorder_finish_failures_total{_RATE}))"),
            ],
            width=8,
        ),
        Panel(
            "Recorder's disk",
            "Free bytes for the spool.",
            [("{{instance}}", "audiotext_recorder_disk_free_bytes")],
            unit="bytes",
            width=8,
        ),
        Panel(
            "Delayed checkpoints",
            "Per second: ClickHouse, S3 or the log was unavailable.",
            [("{{stage}}", f"sum by (stage) (rate(audiotext_sink_backpressure_total{_RATE}))")],
            width=8,
        ),
        Panel(
            "API requests",
            "Per second, by status.",
            [("{{status}}", f"sum by (status) (rate(audiotext_api_requests_total{_RATE}))")],
            width=8,
        ),
        Panel(
            "API latency, 95th percentile",
            "By route.",
            [
                (
                    "{{route}}",
                    f"histogram_quantile(0.95, sum by (route, le) (rate(audiotext_api_request_seconds_bucket{_RATE})))",
                )
            ],
            unit="s",
            width=8,
        ),
        Panel(
            "Memory",
            "Resident memory by service.",
            [("{{service}} {{instance}}", 'process_resident_memory_bytes{job="audiotext"}')],
            unit="bytes",
            width=8,
        ),
    ],
)


def operations() -> Json:
    """Returns the dashboard."""
    return dashboard(
        "audiotext-operations",
        "AudioText: operations",
        "Gateway load, lag, retries, dead letters, dropped audio. What to do: docs/troubleshooting.md",
        [_AUDIO, _STAGES, _STORES],
    )
