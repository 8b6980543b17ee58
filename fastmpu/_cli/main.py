"""The `fastmpu` command: what may be typed, and how it ends. The work is done by the library."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Annotated, Any, NoReturn

try:
    import typer
except ModuleNotFoundError as error:  # the core installs without the command's own dependencies
    raise SystemExit(f"the fastmpu command needs {error.name}: pip install 'fastmpu[cli]'") from error

from .._version import __version__
from ..errors import FastMPUError
from .bench import bench
from .render import Progress, complain, log_to_stderr, say
from .status import INTERRUPTED, Status, status_of

# What verbs do (`commands`, `demo`) is imported by each verb, not up here: that takes 200 ms, and --help needs none.

app = typer.Typer(
    name="fastmpu",
    help="Upload large files to NVIDIA AIStore: fast, in parts, and proved at the end.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=f"Exit codes: {Status.explained()}.",
)

Endpoint = Annotated[
    str | None,
    typer.Option(help="URL of an AIStore proxy.", envvar="AIS_ENDPOINT", show_envvar=True),
]


def _named_by_option(context: typer.Context, value: str | None) -> str | None:
    """What the environment names is left to the library, which looks at AIS_AUTHN_TOKEN first."""
    source = context.get_parameter_source("token_file")
    return value if source is not None and source.name == "COMMANDLINE" else None


TokenFileOption = Annotated[
    str | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="Read the token from FILE, for the owner's eyes only; -: the first line of stdin.",
        envvar="AIS_AUTHN_TOKEN_FILE",
        show_envvar=True,
        callback=_named_by_option,
    ),
]
ProgressChoice = Annotated[Progress, typer.Option(help="auto: a bar on a terminal, else a line every 30 s.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fastmpu {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens, on stderr.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    log_to_stderr(logging.INFO if verbose else logging.WARNING)


@app.command(no_args_is_help=True)
def cp(
    sources: Annotated[list[str], typer.Argument(metavar="SRC...", help="Files to upload.", show_default=False)],
    target: Annotated[
        str,
        typer.Argument(
            metavar="URI",
            help="ais://bucket/name, or ais://bucket/prefix/ to keep the files' names.",
            show_default=False,
        ),
    ],
    part_size: Annotated[
        str | None, typer.Option("--part-size", "-p", help="As in 64MiB; default: chosen by the file's size.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", help="Requests in flight; default 16.")
    ] = None,
    checksum: Annotated[str | None, typer.Option(help="auto, crc32c, xxhash or none.")] = None,
    verify: Annotated[str | None, typer.Option(help="none, size, head (the default), probe or read.")] = None,
    part_checksum: Annotated[
        str | None, typer.Option(help="sha256: the cluster checks each part before it records it.")
    ] = None,
    on_change: Annotated[
        str | None, typer.Option(help="prefix: a file that only grows is fine; error (the default): it is not.")
    ] = None,
    deadline: Annotated[float | None, typer.Option(help="Seconds for each file, at most.")] = None,
    read: Annotated[str | None, typer.Option(help="How files are read: auto, mmap or pread.")] = None,
    engine: Annotated[str | None, typer.Option(help="auto, thread, process or inline.")] = None,
    processes: Annotated[
        int | None, typer.Option(help="Workers of --engine process, after a second; default: one for each other core.")
    ] = None,
    journal: Annotated[
        str | None,
        typer.Option(help="Where uploads are noted, to go on after a crash: auto, required, off, or a path."),
    ] = None,
    resume: Annotated[
        str | None, typer.Option(help="auto: go on with an unfinished upload of the same file; never; require.")
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(help="Most that reading may hold, as in 32MiB: fewer parts are in flight then.")
    ] = None,
    max_bandwidth: Annotated[
        str | None, typer.Option(help="Bytes a second for all bodies together, as in 100MB.")
    ] = None,
    trace: Annotated[
        str | None, typer.Option(help="Write what happened when to this file; open it in Perfetto.", metavar="FILE")
    ] = None,
    no_clobber: Annotated[bool, typer.Option("--no-clobber", "-n", help="Refuse objects that exist.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the parts of a failed upload on the cluster.")] = False,
    json: Annotated[bool, typer.Option("--json", help="A receipt per line on stdout, as JSON.")] = False,
    progress: ProgressChoice = Progress.auto,
    endpoint: Endpoint = None,
    token_file: TokenFileOption = None,
) -> None:
    """Upload files to AIStore.

    The token is read from --token-file, else from AIS_AUTHN_TOKEN; there is no option for the token itself, since
    command lines can be seen by others.
    """
    from . import commands
    from .token import token_of

    options = {
        "part_size": part_size,
        "max_concurrency": concurrency,
        "checksum": checksum,
        "verify": verify,
        "part_checksum": part_checksum,
        "on_change": on_change,
        "deadline": deadline,
        "read": read,
        "engine": engine,
        "journal": journal,
        "resume": resume,
        "processes": processes,
        "max_memory": max_memory,
        "max_bandwidth": max_bandwidth,
        "trace": trace,
        "mode": "create" if no_clobber else None,
        "on_error": "keep" if keep else None,
    }
    _run(
        lambda: commands.copy(sources, target, options, endpoint, token_of(token_file), as_json=json, progress=progress)
    )


JournalPath = Annotated[str, typer.Option(help="The journal: auto, or a path.", envvar="FASTMPU_JOURNAL")]
ClusterBucket = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="BUCKET",
        help="Ask the cluster, as in ais://bucket: lists everybody's uploads, and another job may be at them.",
    ),
]
UploadId = Annotated[str, typer.Argument(metavar="ID", help="An upload id.", show_default=False)]


@app.command("resume")
def resume_command(
    upload_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="An upload id; default: all.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="A receipt per line on stdout, as JSON.")] = False,
    progress: ProgressChoice = Progress.auto,
    journal: JournalPath = "auto",
    endpoint: Endpoint = None,
    token_file: TokenFileOption = None,
) -> None:
    """Go on with uploads whose process ended before they were done."""
    from . import unfinished
    from .token import token_of

    _run(
        lambda: unfinished.resume_uploads(
            upload_id, endpoint, token_of(token_file), journal, as_json=json, progress=progress
        )
    )


uploads = typer.Typer(help="Uploads that did not come to their end.", no_args_is_help=True)
app.add_typer(uploads, name="uploads")


@uploads.command("ls")
def uploads_ls(
    cluster: ClusterBucket = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    journal: JournalPath = "auto",
    endpoint: Endpoint = None,
    token_file: TokenFileOption = None,
) -> None:
    """List this user's unfinished uploads, those under way included."""
    from . import unfinished
    from .token import token_of

    if cluster is None:
        _run(lambda: unfinished.list_uploads(journal, as_json=json))
    _run(lambda: unfinished.list_cluster(cluster, endpoint, token_of(token_file), journal, as_json=json))


@uploads.command("abort")
def uploads_abort(
    upload_id: UploadId,
    cluster: ClusterBucket = None,
    journal: JournalPath = "auto",
    endpoint: Endpoint = None,
    token_file: TokenFileOption = None,
) -> None:
    """Clear an unfinished upload away, on the cluster too. One that the journal does not know only with --cluster: a
    job that is still at it, on another machine, fails."""
    from . import unfinished
    from .token import token_of

    _run(lambda: unfinished.abort(upload_id, endpoint, token_of(token_file), journal, cluster))


@uploads.command("gc")
def uploads_gc(
    older_than: Annotated[
        str | None,
        typer.Option(
            help="As in 30m, 2h, 1d: of which nothing was noted for so long (default 2h); with --cluster, which were "
            "begun so long ago (default 1d)."
        ),
    ] = None,
    cluster: ClusterBucket = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else it is only shown.")] = False,
    journal: JournalPath = "auto",
    endpoint: Endpoint = None,
    token_file: TokenFileOption = None,
) -> None:
    """Abort all unfinished uploads that are older. With --cluster, those that the cluster lists and the journal does
    not know instead: jobs that are still at them, on other machines, fail, so take a long time."""
    from . import unfinished
    from .token import token_of

    if cluster is None:
        _run(lambda: unfinished.collect(older_than or "2h", endpoint, token_of(token_file), journal, yes=yes))
    _run(
        lambda: unfinished.collect_cluster(
            cluster, older_than or "1d", endpoint, token_of(token_file), journal, yes=yes
        )
    )


app.command("put", no_args_is_help=True, help="The same as cp.")(cp)


@app.command()
def mock(
    port: Annotated[int, typer.Option(help="The proxy's port; 0 takes a free one.")] = 8080,
    targets: Annotated[int, typer.Option(help="How many targets.", min=1, max=64)] = 3,
    directory: Annotated[
        str | None, typer.Option("--dir", help="Keep objects in this directory, also for the next run.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Most to hold in memory, as in 4GiB; beyond it the answer is 507.")
    ] = None,
    sink: Annotated[bool, typer.Option("--sink", help="Count and hash objects, and keep nothing of them.")] = False,
    quirks: Annotated[str, typer.Option(help="v5.0 loses data where AIStore does; fixed does not.")] = "v5.0",
    fault: Annotated[
        list[str] | None, typer.Option(help="A fault, as in 'lost_response(op=part, part=3)'; may be repeated.")
    ] = None,
    faults: Annotated[str | None, typer.Option(help="A file of faults, one a line.", metavar="FILE")] = None,
    control_port: Annotated[
        int | None, typer.Option(help="Set faults and read the truth log over HTTP, on this port; 0 takes a free one.")
    ] = None,
    round_trip: Annotated[float, typer.Option(help="Seconds that a request and its answer take on the line.")] = 0.0,
    bandwidth: Annotated[
        str | None, typer.Option(help="Bytes a second that a node's line takes, as in 100MB; default: all it can.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed draws the same ids and events.")] = None,
    tls: Annotated[bool, typer.Option("--tls", help="HTTPS, with certificates made for this run.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The first line of stdout tells the addresses as JSON.")] = False,
) -> None:
    """Run a mock AIStore cluster on this machine until Ctrl-C."""
    from . import commands

    options = commands.MockOptions(
        port=port,
        targets=targets,
        directory=directory,
        memory=memory,
        sink=sink,
        quirks=quirks,
        faults=tuple(fault or ()),
        faults_file=faults,
        control_port=control_port,
        round_trip=round_trip,
        bandwidth=bandwidth,
        seed=seed,
        tls=tls,
    )
    _run(lambda: commands.serve_mock(options, as_json=json))


@app.command("demo")
def demo_command(
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="What to upload; default: random data.", show_default=False),
    ] = None,
    size: Annotated[str, typer.Option(help="How much random data to make.")] = "1GiB",
    progress: ProgressChoice = Progress.auto,
) -> None:
    """Upload a file to a mock cluster inside this process, prove it, and show what it cost."""
    from . import demo

    _run(lambda: demo.run(file, size, progress))


@app.command("bench")
@functools.wraps(bench)
def bench_command(**options: Any) -> None:
    _run(lambda: bench(**options))


def _run(command: Callable[[], Status]) -> NoReturn:
    try:
        status = command()
    except FastMPUError as error:
        complain(error)
        status = status_of(error)
    raise typer.Exit(status)


class Stopper:
    """What Ctrl-C and SIGTERM do: the first one stops (attempts end, the upload is aborted), the second leaves at
    once.
    """

    def __init__(self) -> None:
        self._asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            os._exit(INTERRUPTED)
        self._asked = True
        raise KeyboardInterrupt


def main() -> NoReturn:
    """The console script."""
    stopper = Stopper()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stopper)
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        say("interrupted")
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # the status is decided; a signal from here on only spoils it
    sys.exit(INTERRUPTED)
