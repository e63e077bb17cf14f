"""Bakes a clean copy of the template, once for those who only read and anew for the others."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from cookiecutter.main import cookiecutter
from xdist.remote import Producer
from xdist.scheduler.loadscope import LoadScopeScheduling

from demo.process import INHERITED

REPOSITORY = Path(__file__).parents[1]
SERVICE = "{{cookiecutter.project_slug}}"
# Debian keeps servers in sbin, which is not on a user's PATH.
SEARCHED = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

EACH_BY_ITSELF = ("tests/test_demo.py", "tests/test_feature.py", "tests/test_generated_service.py")
# One browser; one image.
TOGETHER = {
    "tests/browser/test_admin": "browser",
    "tests/browser/test_second_factor.py": "browser",
    "tests/browser/test_docs_page.py": "browser",
    "tests/browser/test_site.py": "browser",
    "tests/system/test_image.py": "image",
}

Bake = Callable[..., Path]


def git_known_files(folder: Path) -> list[str]:
    """Tracked or new, but not ignored: what a clone would hold after a commit."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    names = listing.stdout.rstrip("\0").split("\0")
    return sorted(name for name in set(names) if (folder / name).is_file())


def copy_template(target: Path) -> Path:
    for name in git_known_files(REPOSITORY):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, target / name)
    return target


def generate(
    source: Path, output: Path, config: Path, answers: dict[str, str], *, overwrite: bool = False
) -> Path:
    project = cookiecutter(
        str(source),
        no_input=True,
        extra_context=answers,
        config_file=str(config),
        output_dir=str(output),
        overwrite_if_exists=overwrite,
    )
    return Path(project)


def find_uv() -> str:
    """`uv run` says where it lies itself; it need not be on the PATH."""
    return os.environ.get("UV") or shutil.which("uv") or pytest.fail("run this with `make test`")


def own_environment() -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if key not in INHERITED}
    # Found there, uv is not fetched once more for every generated service.
    return own | {"PATH": f"{Path(find_uv()).parent}{os.pathsep}{own['PATH']}"}


class SharedByFile(LoadScopeScheduling):
    """Tests of a file run in one process, and so do files that share what is dear to make."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if file in EACH_BY_ITSELF:
            return nodeid
        return next((group for place, group in TOGETHER.items() if file.startswith(place)), file)


# By file: pytest-xdist's own groups (3.8) are lost on pytest 9.2, which has no `Item._nodeid`.
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> SharedByFile:
    return SharedByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that none is left over when the others are done."""
    items.sort(key=lambda item: -sum(mark.args[0] for mark in item.iter_markers("slow")))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed"):
        for name, figure in report.user_properties:
            terminalreporter.write_line(f"{name}: {figure}")


@pytest.fixture(scope="session", autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Cookiecutter leaves every hook it runs in the temporary folder."""
    folder = tmp_path_factory.mktemp("scratch")
    former, tempfile.tempdir = tempfile.tempdir, str(folder)
    yield folder
    tempfile.tempdir = former


@pytest.fixture(scope="session")
def uv() -> str:
    return find_uv()


@pytest.fixture(scope="session")
def require() -> Callable[[str], str]:
    """What a machine lacks is skipped, or fails where it must not."""

    def find(binary: str) -> str:
        found = shutil.which(binary, path=SEARCHED)
        if found is None:
            lack(f"{binary} is not installed")
        return found

    return find


@pytest.fixture(scope="session")
def root() -> None:
    if os.geteuid() != 0:
        lack("this is not root, who alone can start containers")


def lack(reason: str) -> NoReturn:
    if os.environ.get("REQUIRE_SYSTEM") == "1":
        pytest.fail(f"{reason}, and REQUIRE_SYSTEM=1 asks for it")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_template(tmp_path_factory.mktemp("source") / "template")


@pytest.fixture(scope="session")
def user_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keeps cookiecutter out of the home directory of whoever runs the tests."""
    folder = tmp_path_factory.mktemp("config")
    config = folder / "cookiecutter.yaml"
    config.write_text(f'replay_dir: "{folder}"\ncookiecutters_dir: "{folder}"\n')
    return config


@pytest.fixture
def bake(template: Path, user_config: Path, tmp_path: Path) -> Bake:
    def bake_into(
        folder: str = "bakes", *, source: Path = template, overwrite: bool = False, **answers: str
    ) -> Path:
        output = tmp_path / folder
        return generate(source, output, user_config, answers, overwrite=overwrite)

    return bake_into


@pytest.fixture(scope="session")
def bake_once(template: Path, user_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Bake:
    """For services that several tests share, each under a name of its own."""

    def bake_into(folder: str, **answers: str) -> Path:
        return generate(template, tmp_path_factory.mktemp(folder), user_config, answers)

    return bake_into


@pytest.fixture(scope="session")
def default_bake(bake_once: Bake) -> Path:
    """The default service; read it, change nothing."""
    return bake_once("default")
