"""Files of `deploy/`: they parse, and say to `rxlm serve` what it understands."""

import configparser
import json
import re
from pathlib import Path

import pytest
import yaml

from rxlm.cli import main

FOLDER = Path(__file__).parents[2] / "deploy"


def read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(read("rxlm.service"))
    return parser


def dockerfile(word: str) -> str:
    """Return what follows a word at the beginning of a line, with its continuations, the last time that it stands."""
    joined = re.sub(r"\\\n\s*", "", read("Dockerfile"))
    return re.findall(rf"^{word} (.*)$", joined, re.MULTILINE)[-1]


def compose() -> dict:
    return yaml.safe_load(read("compose.yaml"))


def commands() -> dict[str, list[str]]:
    """Return the words after `rxlm` by the file that has them."""
    unit_words = unit()["Service"]["ExecStart"].split()
    return {
        "Dockerfile": json.loads(dockerfile("CMD")),
        "compose.yaml": compose()["services"]["server-1"]["command"],
        "rxlm.service": unit_words[1:],
    }


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", "rxlm.service"])
def test_every_option_is_one_of_the_server(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = commands()[name]
    assert words[0] == "serve"
    assert main(["serve", "--help"]) == 0
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    given = {word for word in words if word.startswith("--")}
    assert "--store" in given
    assert given <= known


def test_the_image_runs_without_root_and_fetches_nothing() -> None:
    assert int(dockerfile("USER")) > 0
    assert "HF_HUB_OFFLINE=1" in dockerfile("ENV")
    assert json.loads(dockerfile("ENTRYPOINT")) == ["rxlm"]
    assert "/health" in dockerfile("HEALTHCHECK")
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", read("Dockerfile"), re.MULTILINE)
    ignored = read("Dockerfile.dockerignore")
    for name in " ".join(copied).split():
        assert (FOLDER.parent / name).exists()
        assert f"!{name}\n" in ignored


def test_both_servers_are_one_to_clients() -> None:
    services = compose()["services"]
    assert services["server-1"] == services["server-2"]
    server, redis = services["server-1"], services["redis"]
    assert "redis://redis:6379/0" in server["command"]
    assert "RXLM_API_KEY" in server["environment"]
    words = " ".join(redis["command"])
    assert "--appendonly yes" in words
    assert "--maxmemory-policy noeviction" in words
    assert "ports" not in redis
    assert [name for name, each in services.items() if "ports" in each] == ["nginx"]
    for name in ("server-1", "server-2"):
        assert f"server {name}:8000" in read("nginx.conf")
    listened = re.findall(r"^\s+listen (\d+);", read("nginx.conf"), re.MULTILINE)
    assert services["nginx"]["ports"][0].endswith(f":{listened[0]}")


def test_nginx_passes_tokens_on_and_writes_no_key() -> None:
    text = re.sub(r"#.*", "", read("nginx.conf"))
    assert text.count("{") == text.count("}")
    assert "proxy_buffering off;" in text
    form = re.search(r"log_format rxlm(.*?);", text, re.DOTALL)
    assert form is not None
    written = set(re.findall(r"\$\w+", form[1]))
    assert not written & {"$request", "$request_uri", "$args", "$http_authorization", "$request_body", "$http_referer"}


def test_the_service_is_hardened_and_reads_its_key_from_a_file() -> None:
    parser = unit()
    assert parser.sections() == ["Unit", "Service", "Install"]
    service = parser["Service"]
    assert service["EnvironmentFile"].startswith("/etc/")
    assert "RXLM_API_KEY" not in service["ExecStart"]
    for name, value in [("NoNewPrivileges", "yes"), ("ProtectSystem", "strict"), ("UMask", "0077"), ("User", "rxlm")]:
        assert service[name] == value
    assert f"/var/lib/{service['StateDirectory']}/" in service["ExecStart"]
