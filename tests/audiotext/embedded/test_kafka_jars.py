"""Whether Apache Kafka can run here, and that nothing but the pinned jars ever does. Fake programs on a PATH of their
own stand for Java and Maven."""

from pathlib import Path

import pytest

from audiotext.embedded import kafka_jars
from audiotext.embedded.kafka_jars import KafkaMissingError


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory on the PATH besides the shell's, and an empty cache."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return directory


def install(programs: Path, name: str, script: str) -> None:
    program = programs / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def install_java(programs: Path, version: str = "17.0.15") -> None:
    install(programs, "java", f"echo 'openjdk version \"{version}\" 2025-04-15' >&2")


def test_what_is_missing_is_named_with_its_cure(programs: Path) -> None:
    """Nothing there, a Java of long ago, Java but no Maven, both: each sentence says what to install."""
    assert "openjdk-17-jre-headless" in (kafka_jars.unavailable() or "")
    install_java(programs, "1.8.0_402")
    assert "Java 17 or newer" in (kafka_jars.unavailable() or "")
    assert "is 8" in (kafka_jars.unavailable() or "")
    install_java(programs)
    assert "apt-get install maven" in (kafka_jars.unavailable() or "")
    with pytest.raises(KafkaMissingError, match="apt-get install maven"):
        kafka_jars.fetch()
    install(programs, "mvn", "true")
    assert kafka_jars.unavailable() is None


def test_jars_in_the_cache_need_no_maven(programs: Path) -> None:
    """The directory is there, hence complete: it is used, and Maven is not missed."""
    install_java(programs)
    kafka_jars.directory().mkdir(parents=True)
    assert kafka_jars.unavailable() is None
    assert kafka_jars.fetch() == kafka_jars.directory()


def test_other_jars_than_the_pinned_ones_are_refused(programs: Path) -> None:
    """Maven brings something else: it says so, and nothing is left that a later run would take for the jars."""
    install_java(programs)
    install(programs, "mvn", 'for last; do :; done; /bin/mkdir "${last#*=}"; echo evil > "${last#*=}/kafka.jar"')
    with pytest.raises(KafkaMissingError, match="other jars"):
        kafka_jars.fetch()
    assert list(kafka_jars.directory().parent.iterdir()) == []


def test_maven_s_own_words_are_passed_on(programs: Path) -> None:
    """Maven fails, as without a network: its first error is in the message."""
    install_java(programs)
    install(programs, "mvn", "echo '[ERROR] Could not transfer artifact'; exit 1")
    with pytest.raises(KafkaMissingError, match="Could not transfer artifact"):
        kafka_jars.fetch()


def test_the_digest_is_what_sha256sum_would_give(tmp_path: Path) -> None:
    """Two files with known contents: the digest of their list, in the order of their names."""
    (tmp_path / "b.jar").write_bytes(b"")
    (tmp_path / "a.jar").write_bytes(b"abc")
    # printf abc > a.jar; : > b.jar; sha256sum * | sha256sum
    assert kafka_jars.digest(tmp_path) == "6dcaf3564e5a6ceec672b3cf7ff7d6f358fe994d6bbdc93d7144a2f3d45d181d"
