"""nginx on this machine: a folder made from deploy/nginx, checked before anything starts."""

import grp
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from development import DevelopmentError
from development.ports import loopback_hosts

SOURCE = Path(__file__).resolve().parent.parent / "deploy" / "nginx"

# Debian keeps it in sbin, which is not on a user's PATH; Homebrew where only login shells look.
_MORE_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin")

_PROCESS = "pid nginx.pid;\nerror_log logs/error.log error;\nworker_processes auto;\n"
# Relative paths: nginx looks below its prefix, so no folder name ever needs quoting. All five, or
# nginx creates the others in compiled-in places that only root may write.
_HTTP = """\
access_log logs/access.log json;
client_body_temp_path temporary/client_body;
proxy_temp_path temporary/proxy;
fastcgi_temp_path temporary/fastcgi;
scgi_temp_path temporary/scgi;
uwsgi_temp_path temporary/uwsgi;
"""
# The whole machine is one client here, load generator included; production has site/limits.conf.
_LIMITS = """\
limit_req_zone $limited_client zone=requests:1m rate=100000r/s;
limit_req zone=requests burst=100000 nodelay;
limit_req_zone $login_client zone=logins:1m rate=100000r/s;
limit_req zone=logins burst=100000 nodelay;
limit_conn_zone $limited_client zone=connections:1m;
limit_conn connections 10000;
"""


def find_binary() -> str:
    folders = os.pathsep.join((os.environ.get("PATH", os.defpath), *_MORE_FOLDERS))
    binary = shutil.which("nginx", path=folders)
    if binary is None:
        raise DevelopmentError(
            "nginx is not installed: get it with `sudo apt-get install nginx-light`"
            " (Debian, Ubuntu) or `brew install nginx` (macOS)."
        )
    return binary


def prepare(folder: Path, http_port: int, app_port: int) -> None:
    """Write deploy/nginx into `folder`, with a site for this machine: loopback, any user."""
    try:
        for file in SOURCE.rglob("*.conf"):
            _write(folder / file.relative_to(SOURCE), file.read_text(encoding="utf-8"))
        for name, text in _site(http_port, app_port).items():
            _write(folder / "site" / name, text)
        for name in ("logs", "temporary"):
            (folder / name).mkdir(exist_ok=True)
    except OSError as error:
        raise DevelopmentError(f"{folder} cannot be written: {error.strerror}.") from error


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _site(http_port: int, app_port: int) -> dict[str, str]:
    addresses = [f"{host}:{http_port}" for host in loopback_hosts()]
    return {
        "process.conf": _user() + _PROCESS,
        "http.conf": _HTTP,
        "limits.conf": _LIMITS,
        "listen.conf": "".join(f"listen {address};\n" for address in addresses),
        "listen_default.conf": "".join(
            f"listen {address} default_server;\n" for address in addresses
        ),
        "redirect.conf": "",
        "server_name.conf": "server_name localhost 127.0.0.1 [::1];\n",
        "upstream.conf": f"server 127.0.0.1:{app_port};\n",
    }


def _user() -> str:
    # Root's workers would become `nobody`, who may not enter a project below /root.
    if os.geteuid() != 0:
        return ""
    user = pwd.getpwuid(0)
    return f"user {user.pw_name} {grp.getgrgid(user.pw_gid).gr_name};\n"


def check(binary: str, folder: Path) -> None:
    command = [binary, "-t", "-q", "-e", "stderr", *_where(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        lines = result.stderr.strip().splitlines() or ["no reason given"]
        reason = next((line for line in lines if "[emerg]" in line), lines[-1])
        raise DevelopmentError(f"nginx refuses its configuration: {reason}")


def command(binary: str, folder: Path) -> list[str]:
    """In the foreground, for a supervisor."""
    return [binary, "-e", "logs/error.log", *_where(folder), "-g", "daemon off;"]


def _where(folder: Path) -> list[str]:
    return ["-p", str(folder), "-c", str(folder / "nginx.conf")]


def last_log_lines(folder: Path, count: int = 10) -> list[str]:
    try:
        return (folder / "logs" / "error.log").read_text(errors="replace").splitlines()[-count:]
    except OSError:
        return []
