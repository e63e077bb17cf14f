"""`make bench`, `make bench-compare`, `make bench-conformance`: all measure a generated service."""

import argparse
import sys
import tempfile
from pathlib import Path

from bench.pages import DATA, write_all
from bench.variants import COMPARISONS
from demo.__main__ import generate
from demo.machine import DemoError
from demo.process import UV, UV_RUN, run

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--compare", choices=COMPARISONS)
    parser.add_argument("--observability", action="store_true")
    parser.add_argument("--conformance", action="store_true")
    parser.add_argument("--streams", action="store_true")
    parser.add_argument("--into", type=Path, help="instead of docs/data, and no page is written")
    options, others = parser.parse_known_args()
    name = options.compare or ("conformance" if options.conformance else "")
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        # Root's database runs as another user, who has to get there.
        Path(folder).chmod(0o711)
        project = Path(folder).resolve() / "my-service"
        measure = [*UV_RUN, "python", str(HERE / "compare.py"), *others]
        try:
            generate(project.parent)
            run("set up", ["make", "--no-print-directory", "migrate"], project)
            if name:
                script = HERE / ("interleave.py" if options.compare else "conformance.py")
                output = (options.into or DATA).resolve() / f"{name}.json"
                measure = [*UV_RUN, "python", str(script), str(output), comparisons_python()]
                measure += others
            elif options.observability:
                measure = [*UV_RUN, "python", str(HERE / "observability.py"), *others]
            elif options.streams:
                measure = [*UV_RUN, "python", str(HERE / "streams.py"), *others]
            run("measured", measure, project, PYTHONPATH=f"{project}:{REPOSITORY}:{HERE}")
        except DemoError as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            if (project / ".local").exists():
                run("stopped", [*UV_RUN, "manage", "database", "stop"], project, quiet=True)
    if name and not options.into:
        write_all()
    return 0


def comparisons_python() -> str:
    """Of an environment with the servers that the service does not need."""
    environment = REPOSITORY / ".cache" / "comparisons"
    sync = [str(UV), "sync", "--quiet", "--locked", "--only-group", "comparisons"]
    sync += ["--python", sys.executable]
    run("compared", sync, REPOSITORY, UV_PROJECT_ENVIRONMENT=str(environment))
    return str(environment / "bin" / "python")


if __name__ == "__main__":
    sys.exit(main())
