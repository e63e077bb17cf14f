"""`manage create-admin`, `keys` and `purge`: what operators do with the accounts."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click
from dotenv import set_key
from pydantic import ValidationError

from app.accounts import service, sessions
from app.accounts.passwords import PasswordHasher
from app.accounts.roles import Role
from app.accounts.schemas import UserCreate
from app.database import Database, create_engine
from app.errors import AppError
from app.keys import Algorithm, SigningKey, dump_keys, generate_key
from app.settings import Settings
from server.settings import describe

Ring = tuple[SigningKey, ...]

# More would hold its locks for too long.
_ROWS_PER_STATEMENT = 1000


@click.command()
@click.option("--email", prompt=True)
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
def create_admin(email: str, password_stdin: bool) -> None:
    """Create a user who may use the admin app."""
    password = _read_password(password_stdin)
    try:
        body = UserCreate.model_validate({"email": email, "password": password})
    except ValidationError as error:
        raise click.ClickException(describe(error)) from error
    try:
        asyncio.run(_create_admin(body))
    except AppError as error:
        raise click.ClickException(str(error.detail)) from error
    click.echo(f"{body.email} may log in at /admin.")


@click.group()
def keys() -> None:
    """The keys that sign access tokens."""


@keys.command()
@click.option(
    "--algorithm",
    type=click.Choice(["HS256", "ES256", "RS256"]),
    default="HS256",
    show_default=True,
)
@click.option(
    "--file",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the ring there, to be mounted as /run/secrets/jwt_keys. Default: JWT_KEYS in .env.",
)
@click.option("--stage", is_flag=True, help="The new key only verifies for now.")
@click.option("--promote", is_flag=True, help="No new key: the second one, staged, signs now.")
@click.option(
    "--keep", type=click.IntRange(min=2), default=3, show_default=True, help="Keys in the ring."
)
def rotate(algorithm: Algorithm, path: Path | None, stage: bool, promote: bool, keep: int) -> None:
    """Give the ring a new first key; the older ones go on to verify.

    On several hosts do it in two steps, each followed by a deployment: --stage, so that every host
    knows the key before a token names it, then --promote.
    """
    if stage and promote:
        raise click.UsageError("--stage and --promote are two steps: give one of them.")
    _refuse_hidden_file(path)
    ring = Settings.load().token_key_ring
    ring = _promoted(ring) if promote else _with(generate_key(algorithm), ring, stage)
    _write(ring[:keep], path)
    for place, key in enumerate(ring[:keep]):
        click.echo(f"{key.kid} {key.alg} {'verifies' if place else 'signs'}")
    click.echo(f"Written to {path or '.env'}. Restart or reload the service to use it.")


def _with(new: SigningKey, ring: Ring, stage: bool) -> Ring:
    return (ring[0], new, *ring[1:]) if stage else (new, *ring)


def _promoted(ring: Ring) -> Ring:
    if len(ring) == 1:
        sentence = f"There is no second key: run `{sys.argv[0]} keys rotate --stage`."
        raise click.ClickException(sentence)
    return (ring[1], ring[0], *ring[2:])


def _refuse_hidden_file(path: Path | None) -> None:
    # What is set further up would win over the line in .env, and nobody would notice.
    if path is None and (os.environ.get("JWT_KEYS") or not Path(".env").exists()):
        raise click.ClickException("The keys are not kept in .env here: say where with --file.")


def _write(ring: Ring, path: Path | None) -> None:
    if path is None:
        Path(".env").chmod(0o600)
        set_key(".env", "JWT_KEYS", dump_keys(ring))
        return
    # Complete or not at all, and never readable for others in between.
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(dump_keys(ring) + "\n")
    new.replace(path)


@click.command()
def purge() -> None:
    """Delete sessions, email tokens and counted attempts that have expired; for a nightly timer."""
    try:
        deleted = asyncio.run(_purge())
    except AppError as error:
        raise click.ClickException(str(error.detail)) from error
    click.echo(f"{deleted} expired rows deleted.")


async def _purge() -> int:
    async with open_database(Settings.load()) as database:
        return await purge_all(database)


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """With one connection, for as long as a command runs."""
    engine = create_engine(settings)
    try:
        yield Database(engine, 1, settings.database_pool_timeout_seconds)
    finally:
        await engine.dispose()


async def purge_all(database: Database) -> int:
    total = 0
    while deleted := await sessions.purge(database, _ROWS_PER_STATEMENT):
        total += deleted
    return total


def _read_password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    prompt = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return str(prompt)


async def _create_admin(body: UserCreate) -> None:
    settings = Settings.load()
    async with open_database(settings) as database:
        await service.register_user(database, PasswordHasher(settings), body, role=Role.ADMIN)
