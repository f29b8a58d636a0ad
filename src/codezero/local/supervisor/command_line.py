"""The arguments of `czsupervisor`, and what a run of it comes to."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from codezero.kit import logs
from codezero.kit.service_manager import ServiceManager
from codezero.local.host.detect import AUTO, Capture, Names
from codezero.local.host.programs import command, installation
from codezero.local.supervisor import guard
from codezero.local.supervisor.host_agent import HostSettings
from codezero.local.supervisor.log_file import Forgiving, LogFile
from codezero.local.supervisor.supervisor import Supervisor, SupervisorSettings
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire.local_api import DEFAULT_RUN_FOLDER, DEFAULT_STATE_FOLDER


def run(arguments: Sequence[str]) -> int:
    """Run the Supervisor until it is stopped; gives the exit code."""
    options = _parser().parse_args(arguments)
    sys.stderr = LogFile(options.log_file) if options.log_file else Forgiving(sys.stderr)
    logs.configure(level=options.log_level, json=not sys.stderr.isatty())
    manager = ServiceManager()
    has_guard = options.guard and not manager.is_present
    settings = SupervisorSettings(
        owner=options.owner,
        run_folder=options.run_folder,
        host=HostSettings(
            state_folder=options.state_folder,
            capture=options.capture,
            names=options.names,
            resolv_conf=options.resolv_conf,
            hosts=options.hosts,
        ),
        log_level=options.log_level,
        restart=(*command("czsupervisor"), *arguments) if has_guard else None,
        revived=options.revived,
        daemon=(sys.executable, "-I", str(options.daemon)) if options.daemon else None,
    )
    try:
        if os.geteuid() != 0:
            raise CodezeroError(problems.NEEDS_ROOT, "czsupervisor changes the machine as root", fix="czctl start")
        asyncio.run(_run(settings, manager))
    except CodezeroError as error:
        return _told(error)
    except OSError as error:
        return _told(CodezeroError(problems.HOST_CHANGE_FAILED, f"the Supervisor cannot work: {error}"))
    return 0


def _told(error: CodezeroError) -> int:
    print(f"codezero: {error}" + (f"\nfix: {error.fix}" if error.fix else ""), file=sys.stderr)
    return error.problem.exit_code


async def _run(settings: SupervisorSettings, manager: ServiceManager) -> None:
    await Supervisor(settings, manager).run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="czsupervisor",
        description="Keeps the Codezero Daemon healthy and puts the machine back when it ends. Started by `czctl start`.",
        allow_abbrev=False,
    )
    parser.add_argument("--run-folder", type=_path, default=Path(DEFAULT_RUN_FOLDER), help="socket and state file")
    parser.add_argument("--state-folder", type=_path, default=Path(DEFAULT_STATE_FOLDER), help="journal and rules")
    parser.add_argument("--owner", type=_user, default=_default_owner(), help="user id that may use the Daemon")
    parser.add_argument("--capture", choices=[AUTO, *Capture], default=AUTO, help="how packets are captured")
    parser.add_argument("--names", choices=[AUTO, *Names], default=AUTO, help="how names are published")
    parser.add_argument("--resolv-conf", type=_path, default=HostSettings().resolv_conf, help=argparse.SUPPRESS)
    parser.add_argument("--hosts", type=_path, default=HostSettings().hosts, help=argparse.SUPPRESS)
    parser.add_argument("--log-level", choices=logs.LEVELS, default="info")
    parser.add_argument("--log-file", type=_path, help="write the log there, at most twice 5 MB, instead of stderr")
    parser.add_argument(
        "--guard",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="a small process that starts the Supervisor again when it is killed; never under systemd, which does that",
    )
    parser.add_argument(guard.REVIVED, type=_times, default=(), help=argparse.SUPPRESS)
    if installation() is None:
        # An installed Supervisor runs the installed Daemon and nothing else.
        parser.add_argument("--daemon", type=_path, help=argparse.SUPPRESS)
    parser.set_defaults(daemon=None)
    return parser


def _path(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise argparse.ArgumentTypeError(f"{text!r} is not an absolute path")
    return path


def _user(text: str) -> int:
    # The highest number stands for "leave it" in chown(2).
    if not text.isdecimal() or int(text) >= 2**32 - 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a user id")
    return int(text)


def _times(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _default_owner() -> int:
    user = os.environ.get("SUDO_UID") or os.environ.get("PKEXEC_UID") or ""
    return int(user) if user.isdigit() else os.getuid()
