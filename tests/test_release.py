"""Protects releases: the workflow tries every supported Python with the script that a developer can run."""

from __future__ import annotations

import re
import subprocess
import zipfile
from pathlib import Path

import yaml

from tests.support import ROOT
from tests.test_site import script

WORKFLOWS = ROOT / ".github" / "workflows"


def test_wheel_without_configs_is_refused(tmp_path: Path) -> None:
    tools = script("release_check")
    wheel = tmp_path / "ppdet.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("ppdet/py.typed", "ppdet/zoo/table.yml", "ppdet-0.1.0.dist-info/licenses/LICENSE"):
            archive.writestr(name, "x")
    assert tools.missing_from(wheel) == ["ppdet/configs/quickstart_ppyoloe.yml"]


def test_hashes_can_be_checked(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.whl", "b.tar.gz")]
    for file in files:
        file.write_text(file.name, "utf-8")
    (tmp_path / "SHA256SUMS").write_text(script("release_check").checksums(files), "utf-8")
    check = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True).returncode == 0
    files[0].write_text("changed", "utf-8")
    assert subprocess.run(check, cwd=tmp_path, capture_output=True).returncode != 0


def test_release_tries_every_supported_python() -> None:
    workflow = yaml.safe_load((WORKFLOWS / "release.yml").read_text("utf-8"))
    tried = workflow["jobs"]["try"]["strategy"]["matrix"]["python"]
    supported = re.findall(r"Python :: (3\.\d+)", (ROOT / "setup.py").read_text("utf-8"))
    assert tried == supported
    assert workflow["jobs"]["publish"]["needs"] == "try"


def test_workflows_run_files_that_exist() -> None:
    workflows = sorted(WORKFLOWS.glob("*.yml"))
    assert len(workflows) >= 2
    for path in workflows:
        text = path.read_text("utf-8")
        assert yaml.safe_load(text)["jobs"]
        for name in re.findall(r"(?:python |tests )((?:tools|tests)/[\w/.]+)", text):
            assert (ROOT / name).exists(), f"{path.name}: {name}"


def test_the_citation_has_the_version_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    source = (ROOT / "ppdet" / "__init__.py").read_text("utf-8")
    assert f'__version__ = "{citation["version"]}"' in source
    assert {"cff-version", "title", "message", "authors"} <= citation.keys()
