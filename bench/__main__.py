"""`make bench`: measures, prints the tables, and leaves them with plots and raw numbers in build/bench.

python -m bench [--rounds 5] [--only path,router,names,catalog,scale,times]
python -m bench --docs          the newest run into the documents, without measuring
"""

import argparse
import importlib
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from bench import machine, plots, report
from bench.report import Run
from bench.results import Result

PARTS = ("path", "router", "names", "catalog", "scale", "times")
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
        _into_documents(Run.read(OUTPUT / "results.json"))
        return
    parts = options.only.split(",")
    unknown = [part for part in parts if part not in PARTS]
    if unknown or options.rounds < 1:
        parser.error(f"there is no part {unknown[0]!r}" if unknown else "at least one round")
    run = _measure(parts, options.rounds)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    run.write(OUTPUT / "results.json")
    (OUTPUT / "table.md").write_text(report.whole(run))
    plots.draw(run.results, OUTPUT)
    print(report.whole(run))
    print(f"tables, plots and raw numbers: {OUTPUT.relative_to(ROOT)}", file=sys.stderr)
    if run.missing:
        sys.exit("NOT COMPLETE\n" + "\n".join(f"{name}: {why}" for name, why in run.missing.items()))


def _measure(parts: Sequence[str], rounds: int) -> Run:
    facts = {**machine.facts(), "rounds": rounds, "load_before": machine.load()}
    results: list[Result] = []
    missing: dict[str, str] = {}
    for part in parts:
        print(f"{part} ...", file=sys.stderr, flush=True)
        try:
            for result in importlib.import_module(f"bench.{part}").measure(rounds):
                results.append(result)  # noqa: PERF402 - what was found before a failure counts
        except Exception as error:  # noqa: BLE001 - of whatever kind: the other parts go on
            traceback.print_exc()
            missing[part] = " ".join(str(error).split()) or type(error).__name__
    return Run({**facts, "load_after": machine.load()}, tuple(results), missing)


def _into_documents(run: Run) -> None:
    SHOWN.mkdir(parents=True, exist_ok=True)
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
