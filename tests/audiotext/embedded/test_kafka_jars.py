"""Tests of the download of Apache Kafka, with small programs in place of Java and Maven."""

from pathlib import Path

import pytest

from audiotext.embedded import kafka_jars
from audiotext.embedded.kafka_jars import KafkaMissingError

pytestmark = pytest.mark.server


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


def test_missing_program_is_named_with_its_fix(programs: Path) -> None:
    """Removes Java and Maven, and installs an old Java: each error must name what to install."""
    assert "openjdk-17-jre-headless" in (kafka_jars.unavailable_reason() or "")
    install_java(programs, "1.8.0_402")
    assert "Java 17 or newer" in (kafka_jars.unavailable_reason() or "")
    assert "is 8" in (kafka_jars.unavailable_reason() or "")
    install_java(programs)
    assert "apt-get install maven" in (kafka_jars.unavailable_reason() or "")
    with pytest.raises(KafkaMissingError, match="apt-get install maven"):
        kafka_jars.fetch()
    install(programs, "mvn", "true")
    assert kafka_jars.unavailable_reason() is None


def test_jars_in_the_cache_need_no_maven(programs: Path) -> None:
    """Creates the directory of the jars: it must be used without Maven, because it exists only if it is complete."""
    install_java(programs)
    kafka_jars.directory().mkdir(parents=True)
    assert kafka_jars.unavailable_reason() is None
    assert kafka_jars.fetch() == kafka_jars.directory()


def test_other_jars_than_the_pinned_ones_are_rejected(programs: Path) -> None:
    """Lets Maven download other files: the error must say so, and no directory may remain."""
    install_java(programs)
    install(programs, "mvn", 'for last; do :; done; /bin/mkdir "${last#*=}"; echo evil > "${last#*=}/kafka.jar"')
    with pytest.raises(KafkaMissingError, match="not the pinned ones"):
        kafka_jars.fetch()
    assert list(kafka_jars.directory().parent.iterdir()) == []


def test_error_of_maven_is_reported(programs: Path) -> None:
    """Lets Maven fail, as without a network: its first error must be in the message."""
    install_java(programs)
    install(programs, "mvn", "echo '[ERROR] Could not transfer artifact'; exit 1")
    with pytest.raises(KafkaMissingError, match="Could not transfer artifact"):
        kafka_jars.fetch()


def test_digest_equals_sha256sum(tmp_path: Path) -> None:
    """Computes the digest of two known files: it must be that of their list in the order of names."""
    (tmp_path / "b.jar").write_bytes(b"")
    (tmp_path / "a.jar").write_bytes(b"abc")
    # printf abc > a.jar; : > b.jar; sha256sum * | sha256sum
    assert kafka_jars.digest(tmp_path) == "6dcaf3564e5a6ceec672b3cf7ff7d6f358fe994d6bbdc93d7144a2f3d45d181d"
