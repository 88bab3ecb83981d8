"""The settings of GitHub."""

from samcli.yamlhelper import yaml_parse
from samlocal import ROOT


def test_dependabot_reads_every_manifest():
    updates = yaml_parse((ROOT / ".github/dependabot.yml").read_text())["updates"]
    read = {(u["package-ecosystem"], d) for u in updates for d in u.get("directories", [u.get("directory")])}
    manifests = {"gomod": "go.mod", "npm": "package.json", "pip": "requirements*.txt"}
    found = {
        (ecosystem, f"/{path.parent.relative_to(ROOT)}".removesuffix("/."))
        for ecosystem, name in manifests.items()
        for path in [*ROOT.glob(name), *(ROOT / "internal").rglob(name)]
    }
    assert read == {(e, d or "/") for e, d in found} | {("github-actions", "/")}
