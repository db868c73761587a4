"""``virtual-kubelet up``: a dev cluster and one virtual node in this process, to try things and to run examples."""

from __future__ import annotations

import argparse
import asyncio
import gc
import ipaddress
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from virtual_kubelet.cli import arguments as types
from virtual_kubelet.cli.arguments import Address, add_logging, exit_code_table, from_environment
from virtual_kubelet.cli.exit_codes import ExitCode
from virtual_kubelet.cli.run import provider_factory
from virtual_kubelet.cli.run_options import add_provider_options
from virtual_kubelet.errors import ConfigurationError

if TYPE_CHECKING:
    from virtual_kubelet.cli.manifests import Manifest
    from virtual_kubelet.devcluster import DevCluster
    from virtual_kubelet.kubelet import KubeletConfig

__all__ = ["add_parser"]

_DESCRIPTION: Final = """\
Start a dev cluster inside this process and a virtual node in it, and show what happens. Nothing else is needed; the
pods are processes of this machine (--provider process), of your user, with no isolation: their images are not pulled,
only their commands are run. Ctrl-C ends everything, the pods too.

  virtual-kubelet up                               then, in another terminal, use the KUBECONFIG it names with kubectl
  virtual-kubelet up --run examples/hello.yaml     apply a file, wait for its pods, print their logs, end
  virtual-kubelet up --provider mock               pods that only pretend to run: for load and for trying out
  virtual-kubelet up --data-dir DIR                everything is there again the next time

The dev cluster is an API server good enough for nodes, pods and real kubectl. It is not Kubernetes: no Deployments or
Jobs (their kinds answer 404), no network between pods, no server-side apply, three simple roles instead of RBAC, one
process that is not for production. Without --data-dir it keeps everything in memory, and all is gone at the end. What it
is and what it is not in full: docs/dev-cluster.md. A real cluster takes the same node: virtual-kubelet run --help."""

#: First line of the kubeconfigs written here: only those are overwritten.
_MARK: Final = "# Written by virtual-kubelet up; it works only while that runs.\n"
#: Longest grace period that pods get on Ctrl-C: somebody waits.
_DRAIN_SECONDS: Final = 5.0


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "up",
        help="try it: a dev cluster and a virtual node in this process",
        description=_DESCRIPTION,
        epilog=exit_code_table(),
    )
    group = parser.add_argument_group("run files and end")
    group.add_argument(
        "--run",
        type=types.file_name,
        nargs="+",
        action="extend",
        metavar="FILE",
        help="apply these YAML files (- is stdin), wait until their pods have finished, print their logs to stdout, and "
        "end: 0 if all succeeded, 1 if one failed, 124 after --timeout",
    )
    group.add_argument(
        "--timeout",
        type=types.positive_duration,
        default=300.0,
        metavar="D",
        help="how long --run waits, such as 90s (default 5m)",
    )
    group = parser.add_argument_group("cluster and node")
    group.add_argument(
        "--listen",
        type=types.address,
        default=Address("127.0.0.1", None),
        metavar="ADDR:PORT",
        help="of the dev cluster's API server (default: a free port of 127.0.0.1)",
    )
    group.add_argument("--port", type=types.port, default=None, metavar="PORT", help="only the port of it")
    group.add_argument(
        "--kubeconfig-out", type=types.file_name, metavar="FILE", help="write the kubeconfig there and leave it there"
    )
    group.add_argument(
        "--data-dir",
        type=types.file_name,
        metavar="DIR",
        help="keep the cluster's state, keys and port there for the next start; the pods' processes then go on after "
        "Ctrl-C, and are found again (default: everything is gone at the end)",
    )
    group.add_argument(
        "--service-account-tokens",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="give new pods the service account default and mount its token, as a real cluster does (default: with the "
        "provider process); without, pods have the service account that they name, or none",
    )
    name = group.add_argument("--nodename", metavar="NAME", help="(default virtual-kubelet; env DEFAULT_NODE_NAME)")
    from_environment(parser, name, "DEFAULT_NODE_NAME", str, "virtual-kubelet")
    add_provider_options(parser, default="process")
    add_logging(parser, level="warn")
    parser.set_defaults(command=_up)


def _with_tokens(arguments: argparse.Namespace) -> bool:
    # Many a provider that is being written cannot mount anything yet: it shall not refuse all pods for that.
    wanted: bool | None = arguments.service_account_tokens
    return arguments.provider == "process" if wanted is None else wanted


def _up(arguments: argparse.Namespace) -> int:
    from virtual_kubelet.cli.program import Interrupted, configure_logs, run_until_signal

    configure_logs(arguments)
    gc.disable()  # until all is up: what is imported stays, and looking through it for garbage takes a tenth of a start
    _import_side_by_side()
    # What the user got wrong is said before anything is started.
    manifests: list[Manifest] = []
    if arguments.run:
        from virtual_kubelet.cli.finished_pods import check_pods
        from virtual_kubelet.cli.manifests import read_manifests

        manifests = [manifest for path in arguments.run for manifest in read_manifests(path)]
        check_pods(manifests)
    if arguments.kubeconfig_out:
        arguments.kubeconfig_out = Path(arguments.kubeconfig_out).absolute()
        _check_ours(arguments.kubeconfig_out)
    if arguments.data_dir:
        arguments.data_dir = Path(arguments.data_dir).absolute()
    try:
        return run_until_signal(_run(arguments, manifests))
    except Interrupted:
        return ExitCode.INTERRUPTED if arguments.run else ExitCode.OK
    finally:
        gc.enable()


def _import_side_by_side() -> None:
    """Most of a start is imports, and a good part of the longest needs no Python: OpenSSL reads the machine's CAs."""
    Thread(target=import_module, args=("aiohttp",), name="import of aiohttp").start()
    import_module("virtual_kubelet.devcluster")  # has no use for it


async def _run(arguments: argparse.Namespace, manifests: Sequence[Manifest]) -> int:
    from virtual_kubelet.cli.activity import Activity, Screen
    from virtual_kubelet.cli.finished_pods import FinishedPods
    from virtual_kubelet.cli.program import begin_collecting_garbage
    from virtual_kubelet.devcluster import DevCluster
    from virtual_kubelet.kube.client import ApiClient
    from virtual_kubelet.kube.kubeconfig import load_kubeconfig
    from virtual_kubelet.kubelet import Kubelet

    # With --run, stdout is for the logs alone.
    screen = Screen(sys.stderr if arguments.run else sys.stdout)
    port = arguments.port if arguments.listen.port is None else arguments.listen.port
    async with AsyncExitStack() as stack:
        data_dir: Path | None = arguments.data_dir
        if data_dir is not None:
            folder = data_dir
        else:
            folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="virtual-kubelet-"))
            stack.push_async_callback(asyncio.to_thread, shutil.rmtree, folder, ignore_errors=True)
        cluster = await stack.enter_async_context(
            DevCluster(
                host=arguments.listen.host or "",
                port=port or 0,
                data_dir=data_dir,
                service_account_admission=_with_tokens(arguments),
            )
        )
        if not _is_loopback(arguments.listen.host):
            screen.say("The dev cluster listens beyond this machine. It is meant for development: do not expose it.")
        kubeconfig = arguments.kubeconfig_out or folder / "kubeconfig"
        await asyncio.to_thread(_write_private, kubeconfig, _MARK + cluster.kubeconfig())
        config = await asyncio.to_thread(_kubelet_config, arguments, cluster, folder)
        admin_config = await asyncio.to_thread(load_kubeconfig, kubeconfig)
        admin = await stack.enter_async_context(ApiClient(admin_config))
        finished = FinishedPods(admin, screen, Screen(sys.stdout))
        activity = Activity(admin, screen, finished.pod_changed)
        kubelet = Kubelet(config)
        shown = False
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(activity.run(), name="activity")
            node = tasks.create_task(kubelet.run(), name="node")
            try:
                await kubelet.wait_ready()
                await activity.wait_synced()
                begin_collecting_garbage()
                if arguments.run:
                    return await finished.run(manifests, arguments.timeout)
                screen.say(_next_steps(arguments, cluster.url, kubeconfig))
                shown = True
                await asyncio.get_running_loop().create_future()  # until a signal
            finally:
                if shown:
                    screen.say(_farewell(arguments))
                # The node first, so that its end is shown too; the API server stays until it has gone.
                node.cancel()
                await asyncio.wait({node})
                watching.cancel()
    raise AssertionError("unreachable")


def _kubelet_config(arguments: argparse.Namespace, cluster: DevCluster, folder: Path) -> KubeletConfig:
    from virtual_kubelet.kube.kubeconfig import load_kubeconfig
    from virtual_kubelet.kubelet import KubeletConfig, OnShutdown
    from virtual_kubelet.provider_binding import provider_label

    name = arguments.nodename
    credentials = folder / "node.kubeconfig"
    _write_private(credentials, cluster.node_kubeconfig(name))
    certificate, key = cluster.serving_certificate([name], ["127.0.0.1"])
    return KubeletConfig(
        node_name=name,
        provider=provider_factory(arguments.provider, allow_host_processes=arguments.provider == "process"),
        provider_name=provider_label(arguments.provider),
        provider_config=Path(arguments.provider_config) if arguments.provider_config else None,
        client_config=load_kubeconfig(credentials),
        node_ips=["127.0.0.1"],
        state_directory=folder / "state",
        listen_host="127.0.0.1",
        listen_port=0,
        tls_certificate=certificate,
        tls_private_key=key,
        client_ca=cluster.ca_pem,
        startup_timeout=60.0,
        on_shutdown=[OnShutdown.KEEP if arguments.data_dir else OnShutdown.DRAIN],
        drain_timeout=_DRAIN_SECONDS,
    )


def _check_ours(path: Path) -> None:
    """Never write over a kubeconfig of the user's."""
    try:
        with path.open() as file:
            ours = file.read(len(_MARK)) == _MARK
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError):
        ours = False
    if not ours:
        raise ConfigurationError(
            f"{path} is there already, and `virtual-kubelet up` has not written it",
            hint="name another file with --kubeconfig-out",
        )


def _write_private(path: Path, text: str) -> None:
    """Readable for this user only, from the first byte on."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        beside.replace(path)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from None


def _next_steps(arguments: argparse.Namespace, url: str, kubeconfig: Path) -> str:
    what = "processes of this machine" if arguments.provider == "process" else f"those of provider {arguments.provider}"
    lines = [
        "",
        f'A dev cluster is up at {url} with the node "{arguments.nodename}", whose pods are {what}.',
    ]
    if shutil.which("kubectl") is None:
        lines += [
            "kubectl is not in your PATH; with it (https://kubernetes.io/docs/tasks/tools/), in another terminal:"
        ]
    else:
        lines += ["In another terminal:"]
    lines += ["", f"  export KUBECONFIG={shlex.quote(str(kubeconfig))}", f"  {_first_pod()}"]
    end = "ends it, all is gone then" if not arguments.data_dir else f"ends it, {arguments.data_dir} keeps its state"
    lines += ["  kubectl get pods -o wide", "  kubectl logs hello", "", f"Ctrl-C {end}. What happens:", ""]
    return "\n".join(lines)


def _farewell(arguments: argparse.Namespace) -> str:
    if not arguments.data_dir:
        return "stopping; everything is gone with it (--data-dir would keep it)"
    return f"stopping; the state is in {arguments.data_dir}, and its pods go on"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _first_pod() -> str:
    """How to make a first pod, with the example if it is here."""
    for example in (Path("examples/hello.yaml"), Path(__file__).parents[3] / "examples" / "hello.yaml"):
        if example.is_file():
            return f"kubectl apply -f {shlex.quote(str(example))}"
    return "kubectl run hello --image=none --restart=Never --command -- sh -c 'echo hello from a virtual node'"
