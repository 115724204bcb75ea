"""Models that do not exist are refused early: folders, files, adapters and names on the hub."""

import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from agents.generation import model_files
from agents.generation.model_files import check_model
from longvideo_env.errors import InputError

constants = pytest.importorskip("huggingface_hub.constants")


class Hub(BaseHTTPRequestHandler):
    """A hub that has one model, and trouble with another."""

    def do_HEAD(self) -> None:
        trouble = {"none": 404, "gated": 403, "busy": 503}
        name = self.path.split("/")[2]
        self.send_response(trouble.get(name, 200))
        if name in ("none", "gated"):
            self.send_header("X-Error-Code", "RepoNotFound" if name == "none" else "GatedRepo")
        self.send_header("ETag", '"1"')
        self.send_header("X-Repo-Commit", "1")
        self.send_header("Content-Length", "2")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def use(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Put another address in place of the hub's, as HF_ENDPOINT does in a new process."""
    path = "".join(constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("{repo_id}")[1:])
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{path}")


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    server = HTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    use(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    model_files._check_hub.cache_clear()
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", ["lab/model", "lab/busy"])
def test_a_model_on_the_hub_may_be_loaded(name: str) -> None:
    check_model(name)


@pytest.mark.parametrize("name", ["lab/none", "lab/gated"])
def test_a_model_that_the_hub_does_not_give_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"the hub has none, or requires a token .* Fix:"):
        check_model(name)


def test_a_model_in_the_cache_needs_no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(InputError, match="the hub cannot be reached"):
        check_model("lab/cached")
    (tmp_path / "cache" / "models--lab--cached").mkdir(parents=True)
    model_files._check_hub.cache_clear()
    check_model("lab/cached")


def test_offline_nothing_is_asked() -> None:
    code = "from agents.generation.model_files import check_model\ncheck_model('lab/model')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "HF_HUB_OFFLINE forbids downloads" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("none.gguf", "there is no GGUF file"),
        ("a/b/c", "not a valid hub id"),
        ("{folder}", "expected a config.json"),
        ("mini-starter+{folder}", "expected an adapter_config.json"),
    ],
)
def test_what_is_no_model_is_named(path: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        check_model(path.format(folder=tmp_path))
