"""Jars of an Apache Kafka broker: downloaded once by Maven, verified, and stored in the user's cache.

No Python package contains them, so this is the only download at run time. The files must be identical, byte for byte,
to those of the pinned version.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from core.errors import UserError

VERSION = "4.4.0"
_LOG4J_BINDING = (
    "2.25.5"  # same version as the broker's log4j-core; Kafka's pom omits it, and without it the broker logs no errors
)
# Digest of all names and contents, see `digest`. For a new version: download it and compare the release's checksums.
_SHA256 = "bda063de6f84a36e8fa0e31196934eba54905640b2dddd4e50f6a64c8fe4ffec"
_OLDEST_JAVA = 17
_FETCH_TIMEOUT_S = 600

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>audiotext</groupId><artifactId>kafka-broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
    </dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
      <version>{_LOG4J_BINDING}</version></dependency>
  </dependencies>
</project>
"""
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


class KafkaMissingError(UserError):
    """This machine cannot run an Apache Kafka broker; the message names the missing part and the fix."""


def unavailable_reason() -> str | None:
    """Returns the reason why this machine cannot run a broker, in one sentence, or None. Downloads nothing."""
    java = java_binary()
    if java is None:
        return f"Apache Kafka needs Java {_OLDEST_JAVA} or newer: apt-get install openjdk-17-jre-headless"
    version = _java_version(java)
    if version < _OLDEST_JAVA:
        return f"Apache Kafka {VERSION} needs Java {_OLDEST_JAVA} or newer, {java} is {version}: set JAVA_HOME"
    if not directory().exists() and shutil.which("mvn") is None:
        return f"Maven is needed to download the jars of Apache Kafka {VERSION}: apt-get install maven"
    return None


def java_binary() -> str | None:
    """Returns the path of `java`: from JAVA_HOME or PATH, or None if Java is missing."""
    home = os.environ.get("JAVA_HOME")
    return shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")


def directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Returns the directory of the jars. It is created atomically, so it is complete if it exists."""
    cache = environment.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "audiotext" / f"kafka-{VERSION}"


def fetch() -> Path:
    """Returns the directory of the jars; Maven downloads them (about 45 MB) if needed. Raises KafkaMissingError."""
    if reason := unavailable_reason():
        raise KafkaMissingError(reason)
    complete = directory()
    if complete.exists():
        return complete
    complete.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=complete.parent, prefix=f"{complete.name}-") as work:
        jars = Path(work) / "jars"
        _run_maven(Path(work), jars)
        if (found := digest(jars)) != _SHA256:
            raise KafkaMissingError(f"the downloaded jars of Apache Kafka {VERSION} are not the pinned ones: {found}")
        try:
            jars.rename(complete)
        except OSError:
            if not complete.exists():
                raise
            # Otherwise another process was faster; its jars have the same digest.
    return complete


def digest(jars: Path) -> str:
    """Returns the SHA-256 of the output of `LC_ALL=C sha256sum *` in that directory."""
    lines = [f"{hashlib.sha256(jar.read_bytes()).hexdigest()}  {jar.name}\n" for jar in sorted(jars.iterdir())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _run_maven(work: Path, jars: Path) -> None:
    (work / "pom.xml").write_text(_POM)
    command = ["mvn", "--quiet", "--batch-mode", "--strict-checksums", _COPY, "-DincludeScope=runtime"]
    try:
        maven = subprocess.run(
            [*command, f"-DoutputDirectory={jars}"],
            cwd=work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_FETCH_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise KafkaMissingError(f"Maven did not download Apache Kafka {VERSION} within {_FETCH_TIMEOUT_S} s") from None
    if maven.returncode != 0:
        reason = next((line for line in maven.stdout.splitlines() if "ERROR" in line), maven.stderr.strip())
        raise KafkaMissingError(f"Maven cannot download Apache Kafka {VERSION}: {reason}")


def _java_version(java: str) -> int:
    """Returns Java's feature version (such as 17), or 0 if it is unknown."""
    output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    match = re.search(r'version "(?:1\.)?(\d+)', output)
    return int(match[1]) if match else 0
