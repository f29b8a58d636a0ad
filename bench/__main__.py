"""`make bench`: measures, prints the tables, and leaves them with plots and raw numbers in build/bench.

python -m bench [--rounds 5] [--only path,router,names,catalog,scale,times]
python -m bench --docs          the newest run into the documents, without measuring: a whole one, of at least 5 rounds, of a commit
"""

import argparse
import importlib
import re
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from bench import machine, processes, report
from bench.report import Run
from bench.results import Result

PARTS = ("path", "router", "names", "catalog", "scale", "times")
LEAST_ROUNDS = 5
ROOT = Path(__file__).parent.parent
OUTPUT = ROOT / "build" / "bench"
SHOWN = ROOT / "docs" / "bench"
# What a document has between its markers is written here.
_DOCUMENTS = {
    ROOT / "README.md": ("summary", report.summary),
    ROOT / "docs" / "explanation" / "performance.md": ("whole", report.whole),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured; medians are quoted")
    parser.add_argument("--only", default=",".join(PARTS), help="parts to measure, by commas")
    parser.add_argument(
        "--docs", action="store_true", help="write the newest run into the documents, without measuring"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was started ends too
    if options.docs:
        run = Run.read(OUTPUT / "results.json")
        if reasons := unfit(run):
            sys.exit(f"not for the documents: {'; '.join(reasons)}")
        _into_documents(run)
        return
    parts = options.only.split(",")
    unknown = [part for part in parts if part not in PARTS]
    if unknown or options.rounds < 1:
        parser.error(f"there is no part {unknown[0]!r}" if unknown else "at least one round")
    processes.allow_many_files()
    _empty(OUTPUT)
    run = _measure(parts, options.rounds)
    # Only here: the packages of the tests alone can then import the rest.
    importlib.import_module("bench.plots").draw(run.results, OUTPUT)
    print(report.whole(run))
    print(f"tables, plots and raw numbers: {OUTPUT.relative_to(ROOT)}", file=sys.stderr)
    if run.missing:
        sys.exit("NOT COMPLETE\n" + "\n".join(f"{name}: {why}" for name, why in run.missing.items()))


def _measure(parts: Sequence[str], rounds: int) -> Run:
    """Part by part; after each of them, also one that was interrupted, all that is known so far is written."""
    facts = {**machine.facts(), "rounds": rounds, "parts": list(parts), "load_before": machine.load()}
    results: list[Result] = []
    missing = dict.fromkeys(parts, "the run has ended before it")
    run = Run(facts, (), missing)
    for part in parts:
        print(f"{part} ...", file=sys.stderr, flush=True)
        try:
            for result in importlib.import_module(f"bench.{part}").measure(rounds):
                results.append(result)  # noqa: PERF402 - what was found before a failure counts
            del missing[part]
        except Exception as error:  # noqa: BLE001 - of whatever kind: the other parts go on
            traceback.print_exc()
            missing[part] = plain(error)
        finally:
            run = Run({**facts, "load_after": machine.load()}, tuple(results), dict(missing))
            run.write(OUTPUT / "results.json")
            (OUTPUT / "table.md").write_text(report.whole(run))
    return run


def plain(error: Exception) -> str:
    """What an error says, in one line and without the folders of this machine."""
    text = " ".join(str(error).split()) or type(error).__name__
    for folder, name in ((f"{ROOT}/", ""), (str(Path.home()), "~"), (f"{tempfile.gettempdir()}/", "")):
        text = text.replace(folder, name)
    return text


def unfit(run: Run) -> list[str]:
    """Why a run is none to show: what is in the documents is whole, of five rounds, and of a revision that others can check out."""
    facts = run.facts
    reasons = [f"it has no {part}" for part in PARTS if part not in facts.get("parts", ())]
    reasons += [f"{part} is not complete" for part in run.missing]
    if facts["rounds"] < LEAST_ROUNDS:
        reasons.append(f"{facts['rounds']} rounds are fewer than {LEAST_ROUNDS}")
    if facts["revision"] == machine.UNKNOWN or facts["revision"].endswith("-dirty"):
        reasons.append(f"{facts['revision']} is no commit")
    return reasons


def _empty(folder: Path) -> None:
    """Make a folder for a run, without pictures of an older one."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in folder.glob("*.svg"):
        picture.unlink()


def _into_documents(run: Run) -> None:
    _empty(SHOWN)
    for file in (*OUTPUT.glob("*.svg"), OUTPUT / "results.json"):
        shutil.copy(file, SHOWN / file.name)
    for document, (name, text) in _DOCUMENTS.items():
        begin, end = f"<!-- bench: {name} -->", "<!-- bench: end -->"
        between = re.compile(f"({re.escape(begin)}\n).*?({re.escape(end)})", re.DOTALL)
        written, count = between.subn(
            lambda found, text=text: f"{found[1]}\n{text(run)}\n{found[2]}", document.read_text()
        )
        if count != 1:
            sys.exit(f"{document.relative_to(ROOT)} has no place for it: {begin} and {end}")
        document.write_text(written)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)  # what ran is gone by now, and nothing is left of it
