"""What docs/serving.md prints runs against a server, as printed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from running_server import Running

PAGE = Path(__file__).parents[2] / "docs/serving.md"
BLOCK = re.compile(r"<!-- server -->\n```python\n(.*?)```", re.DOTALL)


def test_the_programs_run_as_printed(server: Running) -> None:
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) >= 6
    code = "\n".join(blocks).replace("http://127.0.0.1:8000", server.address).replace('"KEY"', repr(server.key))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    known = [int(number) for number in re.findall(r"of which (\d+) were known", result.stdout)]
    assert len(known) == 2
    assert known[0] < known[1]
    assert "completed" in result.stdout or "incomplete" in result.stdout


@pytest.mark.parametrize("word", ["keys add", "keys list", "keys limit", "keys revoke"])
def test_the_commands_have_the_options_that_are_printed(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    from rxlm.cli import main

    line = re.search(rf"^rxlm {word} .*", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert line is not None
    assert main([*word.split(), "--help"]) == 0
    assert set(re.findall(r"--[a-z-]+", line[0])) <= set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
