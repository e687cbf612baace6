"""The format of states: this module reads keys and values as Quix writes them."""

import threading

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from hypothesis import given
from hypothesis import strategies as st
from quixstreams.utils.json import dumps

from core.settings import KafkaSettings
from pipelines.recorder.state_codec import call_of, key_of, read_changelog
from pipelines.recorder.state_machine import CallState, OpenPart, to_json
from pipelines.recorder.streams import Streams
from redpanda.client import connection_config, producer_config


@given(st.text(), st.text())
def test_a_key_names_its_call(tenant: str, call_id: str) -> None:
    """Encodes and decodes calls and tenants with any characters, including separators and quotes."""
    for call in ((tenant, call_id), (f'a|"{tenant}', f'|"{call_id}|"')):
        assert call_of(key_of(call)) == call


def test_the_changelog_has_the_latest_state(kafka: KafkaSettings) -> None:
    """Reads the states of some calls. There must be no other calls, and a call without a state must be missing."""
    topic = "changelog-of-test-states"
    admin = AdminClient(connection_config(kafka))
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
    before, after = CallState(1, OpenPart(1, 0, 3, "twilio", Streams({"MZ1": False}))), CallState(1)
    producer = Producer(producer_config(kafka))
    for call_id, state in (("CA", before), ("CB", before), ("CA", after)):
        producer.produce(topic, key=key_of(("acme", call_id)), value=dumps(to_json(state)))
    assert producer.flush(10) == 0
    found = read_changelog(kafka, topic, 0, {("acme", "CA"), ("acme", "CC")}, threading.Event())
    assert found == {("acme", "CA"): after}
