"""`thalweg simulate`: what placement would have made of a trace, before a topology is rolled out."""

import gc
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from controlplane.adapters.topology_yaml import TopologyError, parse_topology
from controlplane.cli.output import CommandError, Output, OutputOption, command, show, stderr
from controlplane.cli.simulate_report import compared, print_comparison, print_summary
from controlplane.core.model import Topology
from controlplane.errors import InvalidInputError
from controlplane.simulation.inputs import (
    Remarks,
    bounded_lines,
    read_client_rtts,
    read_region_rtts,
    read_trace,
)
from controlplane.simulation.replay import Settings, Step
from controlplane.simulation.run import Measured, Outcome
from controlplane.simulation.run import simulate as run
from controlplane.simulation.summary import Scope

MAX_REMARKS = 10
"""Kinds of oddities that are told; the rest come from the same cause."""

GC_THRESHOLD = 100_000
"""New objects between two looks for garbage cycles, instead of 700: a tenth of the time went there."""

LINES_PER_UPDATE = 256
"""Lines of the trace between two movements of the progress bar."""


def simulate(  # noqa: PLR0913 - one parameter per option
    *,
    topology: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Topology YAML.")],
    trace: Annotated[
        Path,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Joins and leaves in order of time, a JSON object a line.",
        ),
    ],
    client_rtt: Annotated[
        Path,
        typer.Option(
            exists=True, dir_okay=False, help="The truth that probes see: client,region,rtt_ms."
        ),
    ],
    region_rtt: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            show_default=False,
            help="Round trips between regions: src,dst,rtt_ms. Without it (and for pairs it does not have) "
            "the topology's links count, then distance.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            show_default=False, help="Where to write what came of each line, as JSON lines."
        ),
    ] = None,
    compare: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            show_default=False,
            help="Another topology: what would it change?",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            show_default=False,
            help="Where to draw a picture; needs matplotlib, which the extra `plot` brings.",
        ),
    ] = None,
    report_interval: Annotated[
        float,
        typer.Option(
            min=0, max=86_400, help="Seconds between the nodes' reports: how stale load is."
        ),
    ] = 10.0,
    noise_ms: Annotated[
        float, typer.Option(min=0, max=1000, help="What queues add to a measurement, in the mean.")
    ] = 0.0,
    baselines: Annotated[
        Scope, typer.Option(help="Rooms that other ways of placing are computed for.")
    ] = Scope.SAMPLE,
    seed: Annotated[int, typer.Option(help="Of the dice for noise and samples.")] = 0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Replay a trace of joins through placement, with a virtual clock, and say how good the rooms were.

    The decisions are made by the code that `thalweg serve` runs. Of a client it
    knows what its probes and earlier calls of its network have shown, no more.
    Beside it stand one SFU per room, the nearest SFU for everybody, and the best
    that full knowledge could do, each for the same rooms.

    What if we add Mumbai?

    thalweg simulate --trace monday.jsonl --client-rtt clients.csv \\
    --region-rtt regions.csv --topology now.yaml --compare mumbai.yaml
    """
    with command("simulate"), _input_errors():
        files = [topology, trace, client_rtt, region_rtt, compare]
        _refuse_overwriting(
            [file for file in files if file], [file for file in (out, plot) if file]
        )
        if compare is not None and compare.samefile(topology):
            raise CommandError("--compare names the topology itself", "name another file")
        draw = _plotter(plot)
        asked = _Asked(
            Settings(report_interval_s=report_interval, noise_ms=noise_ms, seed=seed),
            trace, client_rtt, region_rtt, baselines, out,
        )  # fmt: skip
        remarks = Remarks()
        topologies = {file: _topology(file) for file in (topology, compare) if file}
        found = _simulate(asked, topologies, remarks)
        draw(found)
        _tell(found, remarks, output)


Found = Mapping[Path, Outcome]
"""By topology file; the first is the one that the other is compared with."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is the same for every topology."""

    settings: Settings
    trace: Path
    client_rtt: Path
    region_rtt: Path | None
    scope: Scope
    out: Path | None
    """Gets what came of the first topology."""


# --- reading ------------------------------------------------------------------------------------


@contextmanager
def _input_errors() -> Iterator[None]:
    """Turn what is wrong with a file into the words of a command."""
    try:
        yield
    except TopologyError as error:
        raise CommandError(
            f"a topology with {len(error.problems)} problems",
            "",
            [str(one) for one in error.problems],
        ) from error
    except InvalidInputError as error:
        raise CommandError(error.detail, error.hint) from error
    except BrokenPipeError:
        raise  # the reader of the answer has seen enough
    except OSError as error:
        raise CommandError(str(error)) from error


def _refuse_overwriting(inputs: Sequence[Path], outputs: Sequence[Path]) -> None:
    for file in outputs:
        if not file.parent.is_dir():
            raise CommandError(f"{file}: there is no folder {file.parent}", "make it first")
        if file.exists() and any(file.samefile(one) for one in inputs):
            raise CommandError(f"{file} is an input", "name another file to write to")


def _topology(file: Path) -> Topology:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CommandError(f"{file} is not UTF-8 text") from error
    return parse_topology(text, str(file))


def _measured(asked: _Asked, topologies: Iterable[Topology], remarks: Remarks) -> Measured:
    known = {region for topology in topologies for region in topology.regions}
    regions = {}
    if asked.region_rtt:
        with asked.region_rtt.open(encoding="utf-8", newline="") as stream:
            name = str(asked.region_rtt)
            regions = read_region_rtts(bounded_lines(stream, name), name, known, remarks)
    with asked.client_rtt.open(encoding="utf-8", newline="") as stream:
        name = str(asked.client_rtt)
        clients = read_client_rtts(bounded_lines(stream, name), name, known, remarks)
    answering = {region for row in clients.values() for region in row}
    for region in sorted(known - answering):
        remarks.note(f"{name}: no client has a round trip to {region}, so it never answers a probe")
    return Measured(regions, clients)


# --- running ------------------------------------------------------------------------------------


def _simulate(
    asked: _Asked, topologies: Mapping[Path, Topology], remarks: Remarks
) -> dict[Path, Outcome]:
    measured = _measured(asked, topologies.values(), remarks)
    # What is alive stays alive in a replay: looking through it for cycles again and again finds none.
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    found: dict[Path, Outcome] = {}
    console = stderr()
    with ExitStack() as stack:
        progress = stack.enter_context(_progress(console))
        sink = stack.enter_context(asked.out.open("w", encoding="utf-8")) if asked.out else None
        for number, (file, topology) in enumerate(topologies.items()):
            # The trace is read again for every topology; its oddities are told once.
            own = remarks if number == 0 else Remarks()
            stream = stack.enter_context(asked.trace.open(encoding="utf-8"))
            task = progress.add_task(f"{file.name}: replay", total=asked.trace.stat().st_size)
            lines = _watched(bounded_lines(stream, str(asked.trace)), progress, task)
            rooms = progress.add_task(f"{file.name}: baselines", total=None, visible=False)
            found[file] = run(
                topology,
                measured,
                read_trace(lines, str(asked.trace), own),
                asked.settings,
                scope=asked.scope,
                on_step=_writer(sink if number == 0 else None),
                on_room=_counter(progress, rooms),
            )
    return found


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _watched(lines: Iterable[str], progress: Progress, task: TaskID) -> Iterator[str]:
    """Yield the lines, and move the bar every few of them."""
    seen = 0
    for number, line in enumerate(lines):
        seen += len(line)
        if number % LINES_PER_UPDATE == 0:
            progress.update(task, completed=seen)
        yield line
    progress.update(task, completed=seen, total=seen)


def _counter(progress: Progress, task: TaskID) -> Callable[[int, int], None]:
    def count(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total, visible=True)

    return count


def _writer(sink: TextIO | None) -> Callable[[Step], None]:
    if sink is None:
        return lambda _: None
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    return lambda step: print(encode(step.record()), file=sink)


# --- telling ------------------------------------------------------------------------------------


def _plotter(file: Path | None) -> Callable[[Found], None]:
    """Return what draws the picture; says at once, not after an hour, when it cannot."""
    if file is None:
        return lambda _: None
    try:
        # Its import takes a second, and few want a picture.
        from controlplane.cli.simulate_plot import draw  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise CommandError(
            f"--plot needs {error.name}, which is not installed", "pip install 'thalweg[plot]'"
        ) from error

    def picture(found: Found) -> None:
        stems = {one: one.stem for one in found}
        different = len(set(stems.values())) == len(stems)
        draw({stems[one] if different else str(one): found[one] for one in found}, file)

    return picture


def _tell(found: Found, remarks: Remarks, output: Output) -> None:
    console = stderr()
    for sentence in remarks.sentences()[:MAX_REMARKS]:
        console.print(f"[yellow]![/] {escape(sentence)}")
    names = [str(file) for file in found]
    summaries = [outcome.summary for outcome in found.values()]
    data = {"topology": names[0], **summaries[0].data()}
    if len(found) > 1:
        other = {"topology": names[1], **summaries[1].data()}
        data = {"before": data, "after": other, "difference": compared(*summaries)}

    def table(console: Console) -> None:
        for name, summary in zip(names, summaries, strict=True):
            print_summary(console, name, summary)
        if len(summaries) > 1:
            print_comparison(console, names, summaries)

    show(data, output, table)
