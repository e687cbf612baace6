"""The bill of materials, and the script that pins images. No registry is contacted here."""

import re
import tomllib
from pathlib import Path

from deploy import pin_images, sbom

ROOT = Path(__file__).parents[2]


def test_the_bill_of_materials_has_every_locked_package() -> None:
    """Makes the document from the lock files: each pinned package is in it once, with its version and hashes. A package
    that is missing would not be found when a vulnerability becomes known."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]
    locks = [(ROOT / name).read_text() for name in ("requirements.lock", "requirements.nodeps.lock")]
    made = sbom.document(project, locks)
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.6")
    components = made["components"]
    assert isinstance(components, list)
    names = {one["name"]: one["version"] for one in components}
    assert len(components) == len(names) > 100
    assert {"aiohttp", "setuptools", "clickhouse-connect"} <= names.keys()
    for line in "\n".join(locks).splitlines():
        if found := re.match(r"([\w.-]+)==(\S+)", line):
            assert names[re.sub(r"[-_.]+", "-", found[1]).lower()] == found[2]
    assert all(one["properties"] for one in components)


def test_images_are_pinned_at_their_digests() -> None:
    """Pins the images of Dockerfile and docker-compose.yml at made-up digests, twice: every image except ours has the
    digest behind its tag, and nothing else changes."""
    for name in ("Dockerfile", "docker-compose.yml"):
        text = (ROOT / name).read_text()
        images = pin_images.images(text)
        assert images
        assert not [image for image in images if image.startswith("audiotext:")]
        digests = {image: f"sha256:{number:064x}" for number, image in enumerate(images)}
        pinned = pin_images.pinned(text, digests)
        for image, digest in digests.items():
            assert f"{image}@{digest}" in pinned
        assert pin_images.pinned(pinned, digests) == pinned
        assert re.sub(r"@sha256:[0-9a-f]{64}", "", pinned) == re.sub(r"@sha256:[0-9a-f]{64}", "", text)
