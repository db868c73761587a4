"""The real command as a process: output, errors, exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from virtual_kubelet import __version__
from virtual_kubelet.cli import build_parser
from virtual_kubelet.cli.exit_codes import ExitCode

CLUSTER = {"clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:9"}}]}
USER = {"users": [{"name": "u", "user": {"token": "planted-secret"}}]}
CONTEXT = {"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "current-context": "c"}


def command(*args: str, directory: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("KUBE", "VKUBELET", "APISERVER", "DEFAULT_"))}
    return subprocess.run(
        [sys.executable, "-m", "virtual_kubelet", *args],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        env={**clean, **environment},
    )


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps({**CLUSTER, **USER, **CONTEXT}))
    return str(path)


def test_version() -> None:
    done = command("version")
    assert done.returncode == 0
    assert done.stdout.startswith(f"virtual-kubelet {__version__} (Python ")
    assert command("--version").stdout == f"virtual-kubelet {__version__}\n"


def test_providers_are_listed_and_described() -> None:
    done = command("providers")
    listed = [line.split()[:2] for line in done.stdout.splitlines()]
    # Other distributions, such as that of docker, bring their own.
    assert [words for words in listed if words[1].startswith("virtual_kubelet.")] == [
        ["mock", "virtual_kubelet.providers.mock:MockProvider"],
        ["process", "virtual_kubelet.providers.process:ProcessProvider"],
    ]
    described = command("providers", "mock")
    assert (described.returncode, described.stderr) == (0, "")
    assert "reports status changes by itself" in described.stdout
    unknown = command("providers", "mokc")
    assert unknown.returncode == ExitCode.CONFIGURATION
    assert "did you mean 'mock'?" in unknown.stderr


def test_a_provider_of_the_current_directory_is_found(tmp_path: Path, kubeconfig: str) -> None:
    (tmp_path / "mine.py").write_text("class Provider:\n    '''Runs pods on paper.'''\n")
    done = command("run", "--provider", "mine:Provider", "--kubeconfig", kubeconfig, directory=tmp_path)
    assert "'Provider' could not be made: TypeError" in done.stderr
    assert "Runs pods on paper." in command("providers", "mine:Provider", directory=tmp_path).stdout


@pytest.mark.parametrize("args", [["--help"], ["run", "--help"], ["up", "--help"], ["version"], ["completion", "bash"]])
def test_help_is_quick_because_it_imports_little(args: list[str]) -> None:
    program = (
        "import sys; from virtual_kubelet.cli import main; code = main(sys.argv[1:])\n"
        "heavy = {'aiohttp', 'cryptography', 'prometheus_client', 'yaml', 'virtual_kubelet.kubelet'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy)); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *args], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_the_dev_cluster_does_without_the_http_client_of_nodes() -> None:
    program = (
        "import sys; from virtual_kubelet.devcluster import DevCluster\n"
        "print(sorted({'aiohttp', 'prometheus_client', 'virtual_kubelet.kubelet'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "[]\n", done.stderr


def test_help_tells_the_exit_codes_and_what_the_dev_cluster_is_not() -> None:
    for args in (["--help"], ["run", "--help"], ["up", "--help"]):
        text = command(*args).stdout
        for code in ExitCode:
            assert re.search(rf"^  {int(code)} ", text, re.MULTILINE)
    assert "It is not Kubernetes" in command("up", "--help").stdout


def test_no_command_shows_the_help() -> None:
    done = command()
    assert done.returncode == 0
    assert done.stdout == build_parser().format_help() or "usage: virtual-kubelet" in done.stdout


class TestErrorsForPeople:
    """What is wrong, what to do, a code of its own, and no traceback."""

    def refused(self, code: ExitCode, *args: str, **environment: str) -> str:
        done = command(*args, directory=None, **environment)
        assert done.returncode == code, done
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        assert "planted-secret" not in done.stderr
        assert "\n  hint: " in done.stderr
        return done.stderr

    def test_usage(self) -> None:
        assert "--provider" in self.refused(ExitCode.USAGE, "run")
        assert "KUBELET_PORT" in self.refused(ExitCode.USAGE, "run", "--provider", "mock", KUBELET_PORT="x")

    def test_a_kubeconfig_that_is_named_and_missing(self, tmp_path: Path) -> None:
        missing = str(tmp_path / "none")
        said = self.refused(ExitCode.CONFIGURATION, "run", "--provider", "mock", "--kubeconfig", missing)
        assert missing in said
        said = self.refused(ExitCode.CONFIGURATION, "run", "--provider", "mock", KUBECONFIG=missing)
        assert missing in said

    def test_no_kubeconfig_at_all(self, tmp_path: Path) -> None:
        said = self.refused(ExitCode.CONFIGURATION, "run", "--provider", "mock", HOME=str(tmp_path))
        assert "--kubeconfig FILE" in said

    def test_a_kubeconfig_without_the_context_it_names(self, tmp_path: Path) -> None:
        path = tmp_path / "k"
        path.write_text(json.dumps({**CLUSTER, **USER, "current-context": "other"}))
        said = self.refused(ExitCode.CONFIGURATION, "run", "--provider", "mock", "--kubeconfig", str(path))
        assert "'other'" in said

    def test_an_unknown_provider(self, kubeconfig: str) -> None:
        said = self.refused(ExitCode.CONFIGURATION, "run", "--provider", "nope", "--kubeconfig", kubeconfig)
        assert "'nope'" in said
        assert "mock, process" in said

    def test_a_provider_whose_import_fails(self, kubeconfig: str, tmp_path: Path) -> None:
        (tmp_path / "needy.py").write_text("import a_library_nobody_has\n")
        said = self.refused(
            ExitCode.CONFIGURATION, "run", "--provider", "needy:P", "--kubeconfig", kubeconfig, PYTHONPATH=str(tmp_path)
        )
        assert "imports 'a_library_nobody_has'" in said

    def test_a_provider_config_that_is_wrong(self, kubeconfig: str, tmp_path: Path) -> None:
        (tmp_path / "p.json").write_text("{not json")
        said = self.refused(
            ExitCode.CONFIGURATION,
            *("run", "--provider", "mock", "--kubeconfig", kubeconfig, "--listen", "127.0.0.1:0"),
            *("--provider-config", str(tmp_path / "p.json"), "--state-dir", str(tmp_path / "s")),
        )
        assert str(tmp_path / "p.json") in said

    def test_host_processes_that_are_not_allowed(self, kubeconfig: str, tmp_path: Path) -> None:
        said = self.refused(
            ExitCode.CONFIGURATION,
            *("run", "--provider", "process", "--kubeconfig", kubeconfig, "--listen", "127.0.0.1:0"),
            *("--state-dir", str(tmp_path / "s")),
        )
        assert "--allow-host-processes" in said

    @pytest.mark.parametrize("more", [[], ["--startup-timeout", "1s"]])
    def test_a_server_that_is_not_there(self, kubeconfig: str, tmp_path: Path, more: list[str]) -> None:
        said = self.refused(
            ExitCode.UNREACHABLE,
            *("run", "--provider", "mock", "--kubeconfig", kubeconfig, "--listen", "127.0.0.1:0"),
            *("--state-dir", str(tmp_path / "s"), *more),
        )
        assert "https://127.0.0.1:9: connection refused" in said

    def test_a_port_that_is_taken(self, kubeconfig: str, tmp_path: Path) -> None:
        import socket

        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            said = self.refused(
                ExitCode.CONFIGURATION,
                *("run", "--provider", "mock", "--kubeconfig", kubeconfig, "--listen", f"127.0.0.1:{port}"),
                *("--state-dir", str(tmp_path / "s")),
            )
        assert f"port {port}: Address already in use" in said

    def test_certificates_that_do_not_work(self, kubeconfig: str, tmp_path: Path) -> None:
        (tmp_path / "tls").write_text("no PEM")
        said = self.refused(
            ExitCode.CONFIGURATION,
            *("run", "--provider", "mock", "--kubeconfig", kubeconfig, "--listen", "127.0.0.1:0"),
            *("--tls-cert-file", str(tmp_path / "tls"), "--tls-private-key-file", str(tmp_path / "none")),
            *("--state-dir", str(tmp_path / "s")),
        )
        assert str(tmp_path / "none") in said

    def test_a_manifest_that_cannot_be_applied(self, tmp_path: Path) -> None:
        path = tmp_path / "bad.yaml"
        path.write_text("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n")
        said = self.refused(ExitCode.CONFIGURATION, "up", "--run", str(path))
        assert "does not serve Deployment" in said

    def test_a_kubeconfig_of_the_user_s_is_not_written_over(self, kubeconfig: str) -> None:
        before = Path(kubeconfig).read_text()
        said = self.refused(ExitCode.CONFIGURATION, "up", "--kubeconfig-out", kubeconfig)
        assert "--kubeconfig-out" in said
        assert Path(kubeconfig).read_text() == before


def test_debug_shows_where_an_error_comes_from(tmp_path: Path) -> None:
    done = command("run", "--provider", "mock", "--log-level", "debug", "--kubeconfig", str(tmp_path / "none"))
    assert done.returncode == ExitCode.CONFIGURATION
    assert "Traceback" in done.stderr
    assert str(tmp_path / "none") in done.stderr.splitlines()[-2]


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    done = subprocess.run(
        f"{sys.executable} -m virtual_kubelet completion bash | true",
        shell=True,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stderr == ""
