"""Finish the copied files: names, choices and a first `.env`; `make run` comes next."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

IMAGE = {"Dockerfile", ".dockerignore", "deploy/image", ".github/workflows/release.yml"}
KEPT = {
    "compose": {"deploy/compose", *IMAGE},
    "kubernetes": {"deploy/kubernetes", "deploy/nginx/kustomization.yaml", *IMAGE},
    "systemd": {"deploy/systemd"},
}
NEXT_STEPS = """
Your service is ready, with a fresh secret key in .env. Next:

    cd {folder}
    git init && git add --all && git commit --message "A new service"
    make run     starts it with a database and reloads while you edit
    make test    runs its tests
    README.md    leads from here to a feature of your own and to a server
"""


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def set_lock_name(slug: str) -> None:
    head, *packages = Path("uv.lock").read_text(encoding="utf-8").split("\n[[package]]\n")
    own = next(package for package in packages if 'source = { editable = "." }' in package)
    packages.remove(own)
    name = slug.replace("_", "-")
    if any(package.startswith(f'name = "{name}"\n') for package in packages):
        sys.exit(f"\nproject_slug cannot be {slug!r}: the service uses a package of that name.\n")
    packages.append(re.sub('^name = ".*"', f'name = "{name}"', own))
    # uv sorts by name: in any other place the next `uv lock` would move it.
    packages.sort(key=lambda package: package.split('"')[1])
    Path("uv.lock").write_text("\n[[package]]\n".join([head, *packages]), "utf-8", newline="\n")


def set_values(file: str, values: dict[str, str]) -> None:
    text = Path(file).read_text(encoding="utf-8")
    for key, value in values.items():
        # Without control characters, which were refused, a JSON string is a TOML string too.
        line = f"{key} = {json.dumps(value, ensure_ascii=False)}"
        text = re.sub(f'^{key} = ".*"$', line.replace("\\", r"\\"), text, count=1, flags=re.M)
    tomllib.loads(text)
    Path(file).write_text(text, encoding="utf-8", newline="\n")


def set_deployment_names(slug: str) -> None:
    """Two services on one machine or cluster must not share containers, volumes or namespaces."""
    own = re.compile(r"^( *(?:name|namespace|newName): )(\S+/)?service(-staging)?$", re.M)
    for pattern in ("compose/compose.yaml", "kubernetes/[ps]*/*.yaml"):
        name = slug if "compose" in pattern else slug.replace("_", "-")  # a DNS label
        for path in Path("deploy").glob(pattern):
            text = own.sub(rf'\1"\2{name}\3"', path.read_text(encoding="utf-8"))
            path.write_text(text, encoding="utf-8", newline="\n")


def is_cruft_scratch(answers: dict[str, str]) -> bool:
    """Cruft compares two scratch projects: a secret in them would end up in the patch."""
    pattern = Path(tempfile.gettempdir()).resolve() / "tmp????????"
    return "_commit" in answers and Path.cwd().parent.match(str(pattern))


def main() -> None:
    answers = json.loads(r"""{{ cookiecutter | tojson }}""")
    leftovers = Path(".leftovers")  # written by the first hook
    for name in leftovers.read_text(encoding="utf-8").splitlines() if leftovers.exists() else ():
        remove(Path(name))
    slug, title, description = (answers[k] for k in ("project_slug", "project_name", "description"))
    set_lock_name(slug)
    set_values("pyproject.toml", {"name": slug, "description": description})
    set_values("app/about.toml", {"title": title, "description": description})
    for name in {leftovers.name}.union(*KEPT.values()) - KEPT[answers["deployment"]]:
        remove(Path(name))
    set_deployment_names(slug)
    if not is_cruft_scratch(answers):
        subprocess.run([sys.executable, "-B", "development/environment.py"], check=True)
        print(NEXT_STEPS.format(folder=shlex.quote(str(Path.cwd()))))


if __name__ == "__main__":
    main()
