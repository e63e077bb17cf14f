"""`make bench`: generate the default service and compare its cost with a bare FastAPI route."""

import sys
import tempfile
from pathlib import Path

from demo.__main__ import generate
from demo.machine import DemoError
from demo.process import UV_RUN, run

HERE = Path(__file__).resolve().parent


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        # Root's database runs as another user, who has to get there.
        Path(folder).chmod(0o711)
        project = Path(folder).resolve() / "my-service"
        try:
            generate(project.parent)
            run("set up", ["make", "--no-print-directory", "migrate"], project)
            path = f"{project}:{HERE}"
            compare = [*UV_RUN, "python", str(HERE / "compare.py"), *sys.argv[1:]]
            run("measured", compare, project, PYTHONPATH=path)
        except DemoError as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            if (project / ".local").exists():
                run("stopped", [*UV_RUN, "manage", "database", "stop"], project, quiet=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
