"""`manage keys rotate`: makes the keys that sign access tokens, and keeps their ring."""

import json
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from dotenv import set_key
from pydantic import SecretStr

from app.keys import RSA_KEY_BITS_MIN, Algorithm, SigningKey
from app.security_events import SecurityEvent, record_event
from app.settings import Settings
from server.logs import configure_logging

Ring = tuple[SigningKey, ...]


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
    settings = Settings.load()
    configure_logging(settings, for_good=False)
    ring = settings.token_key_ring
    ring = _promoted(ring) if promote else _with(generate_key(algorithm), ring, stage)
    _write(ring[:keep], path)
    kids = [key.kid for key in ring[:keep]]
    record_event(SecurityEvent.TOKEN_KEYS_ROTATED, signs=kids[0], verify=kids)
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


def generate_key(algorithm: Algorithm) -> SigningKey:
    private_key: EllipticCurvePrivateKey | RSAPrivateKey
    match algorithm:
        case "HS256":
            text = secrets.token_urlsafe(48)
        case "ES256":
            private_key = generate_ec_key(SECP256R1())
            text = _pem(private_key)
        case "RS256":
            private_key = generate_rsa_key(public_exponent=65537, key_size=RSA_KEY_BITS_MIN)
            text = _pem(private_key)
    return SigningKey(kid=secrets.token_hex(4), alg=algorithm, key=SecretStr(text))


def dump_keys(ring: Sequence[SigningKey]) -> str:
    """One line, as JWT_KEYS takes it; it holds the secrets."""
    return json.dumps(
        [{"kid": key.kid, "alg": key.alg, "key": key.key.get_secret_value()} for key in ring]
    )


def _pem(private_key: EllipticCurvePrivateKey | RSAPrivateKey) -> str:
    pem = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode()
