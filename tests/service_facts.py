"""Runs in the service's environment; prints what its code says of itself, for `test_docs.py`."""

import inspect
import json
import sys

import click
from opentelemetry.sdk import environment_variables
from uvicorn import Config

from app.main import create_app
from app.settings import Settings
from doctor.settings import AllSettings
from doctor.timeouts import read_table
from manage.cli import main
from server.capacity import plan_capacity
from server.machine import Machine
from server.settings import ServerSettings
from server.uvicorn_options import GUNICORN_SETTINGS, UVICORN_DEFAULTS, UVICORN_OPTIONS

DATABASE = {"database_url": "postgresql://app@127.0.0.1/app", "secret_key": "x" * 32}
# Cores and GiB of the table in docs/growth.md.
HOSTS = ((2, 2), (4, 4), (8, 8), (9, 16), (16, 16), (64, 64))


def settings() -> dict[str, str]:
    fields = AllSettings.model_fields.items()
    return {name.upper(): written(field.default) for name, field in fields}


def written(default: object) -> str:
    """As in `.env`."""
    if default is None or str(default) in {"", "()", "PydanticUndefined"}:
        return "none"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    return str(default).rstrip("/")


def uvicorn_options() -> list[str]:
    return [name for name in inspect.signature(Config).parameters if name != "app"]


def defaults_of(option: str) -> list[str]:
    """Uvicorn's own, and ours."""
    own = inspect.signature(Config).parameters[option].default
    return [written(own), written(UVICORN_DEFAULTS.get(option, own))]


def routes() -> dict[str, dict[str, list[str]]]:
    document = create_app(Settings.model_validate(DATABASE)).openapi()
    return {
        f"{method.upper()} {path}": {
            "statuses": sorted(route["responses"]),
            "scopes": [
                scope
                for scheme in route.get("security", ())
                for scopes in scheme.values()
                for scope in scopes
            ],
        }
        for path, operations in document["paths"].items()
        for method, route in operations.items()
    }


def commands(command: click.Command, name: str = "manage") -> dict[str, list[str]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        children = {
            one: command.get_command(context, one) for one in command.list_commands(context)
        }
        return {
            full: options
            for word, child in children.items()
            for full, options in commands(child, f"{name} {word}").items()
        }
    return {name: [option for parameter in command.params for option in parameter.opts]}


def orders() -> list[list[str]]:
    return [[cell(order.shorter), cell(order.longer), order.why] for order in read_table().orders]


def cell(name: str) -> str:
    timeout = read_table().timeouts[name]
    return f"{timeout.name} {timeout.default_seconds:g} s"


def plans() -> list[list[str]]:
    return [plan_of(cores, gibibytes) for cores, gibibytes in HOSTS]


def reasons() -> list[str]:
    """Of the example in docs/tuning.md."""
    machine = Machine(cores=4, memory_bytes=4 * 2**30)
    return list(plan_capacity(ServerSettings.model_construct(replicas=3), machine).reasons)


def answers() -> list[list[str]]:
    """The first table of docs/tuning.md."""
    laptop, host = Machine(8, memory_bytes=16 * 2**30), Machine(4, memory_bytes=4 * 2**30)
    container, pod = Machine(4, 0.5, 512 * 2**20), Machine(4, 1, 512 * 2**20)
    pods = {"replicas": 50, "database_connection_budget": 1000}
    asked = [(laptop, {}), (host, {}), (container, {}), (pod, pods)]
    plans = [plan_capacity(ServerSettings.model_construct(**given), one) for one, given in asked]
    return [
        [
            str(number)
            for number in (plan.workers, plan.pool_size, plan.connections, plan.connection_budget)
        ]
        for plan in plans
    ]


def plan_of(cores: int, gibibytes: int) -> list[str]:
    machine = Machine(cores=cores, memory_bytes=gibibytes * 2**30)
    plan = plan_capacity(ServerSettings.model_construct(), machine)
    row = (cores, gibibytes, plan.workers, plan.pool_size, plan.connections)
    return [str(number) for number in row]


json.dump(
    {
        "settings": settings(),
        "server_settings": [name.upper() for name in ServerSettings.model_fields],
        "uvicorn_options": uvicorn_options(),
        "otel_variables": [one for one in vars(environment_variables) if one.startswith("OTEL_")],
        "uvicorn_settings": {name: defaults_of(name) for name in UVICORN_OPTIONS},
        "gunicorn_settings": GUNICORN_SETTINGS,
        "routes": routes(),
        "commands": commands(main),
        "orders": orders(),
        "plans": plans(),
        "answers": answers(),
        "reasons": reasons(),
    },
    sys.stdout,
)
