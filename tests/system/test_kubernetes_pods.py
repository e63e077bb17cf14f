"""The Kubernetes base as pods of `podman kube play`, the nearest to a kubelet without a cluster."""

import json
import re
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
import yaml

from tests.conftest import Bake
from tests.manifests import kustomizer, look, mapping, of_kind
from tests.servers import answers, wait_until
from tests.system.container_images import POSTGRES, make_images
from tests.system.systemd_container import Podman, podman

pytestmark = [pytest.mark.slow(3), pytest.mark.usefixtures("root")]

Require = Callable[[str], str]

DOMAIN = "shop.example.com"
SECRET_KEY = "Zk3vQ1xT8mLw0PbYc5RfJ7sHdN2aGu9E"
NETWORK = "cluster"


@dataclass(frozen=True)
class Pod:
    podman: Podman
    name: str
    objects: list[object]

    @property
    def address(self) -> str:
        infra = self.podman("pod", "inspect", "--format", "{{.InfraContainerID}}", self.name)
        networks = json.loads(self.podman("inspect", infra))[0]["NetworkSettings"]["Networks"]
        return str(networks[NETWORK]["IPAddress"])

    def url(self, path: str, port: int = 8080) -> str:
        return f"http://{self.address}:{port}{path}"

    def run(self, container: str, *command: str) -> str:
        return self.podman("exec", f"{self.name}-{container}", *command)

    def container(self, name: str) -> object:
        containers = look(
            of_kind(self.objects, "Deployment", "service"), "spec.template.spec.containers"
        )
        assert isinstance(containers, list)
        return next(item for item in containers if look(item, "name") == name)


@pytest.fixture(scope="module")
def engine(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with podman(require, tmp_path_factory.mktemp("pods")) as engine:
        make_images(engine, require)
        engine("network", "create", NETWORK)
        yield engine


@pytest.fixture(scope="module")
def pod(
    engine: Podman, require: Require, bake_once: Bake, tmp_path_factory: pytest.TempPathFactory
) -> Pod:
    """By the steps of the README, with the commands of Podman in place of kubectl's."""
    project = bake_once("pods", deployment="kubernetes", domain_name=DOMAIN, project_slug="shop")
    name_the_balancer(project, engine)
    objects = kustomizer(require, tmp_path_factory.mktemp("kubectl"))(project)
    job = mapping(of_kind(objects, "Job"), "spec.template.spec")
    image = str(look(job, "containers.0.image"))
    engine("build", "--pull=never", "--network=host", "--layers=false", "--tag", image, project)
    addresses = start_database(engine, project / "deploy/database")
    make_secrets(engine, addresses)
    migrate(engine, job, objects)
    template = mapping(of_kind(objects, "Deployment", "service"), "spec.template.spec")
    # What ends in a pod that is deleted, no kubelet starts again; Podman would.
    template["restartPolicy"] = "Never"
    volumes = template["volumes"]
    assert isinstance(volumes, list)
    [nginx] = [volume for volume in volumes if volume["name"] == "nginx"]
    del nginx["configMap"]
    nginx["hostPath"] = {"path": str(project / "deploy/nginx/nginx.conf"), "type": "File"}
    play(engine, [*config_maps(objects), of_kind(objects, "Deployment", "service")])
    # Podman 4.3 numbers the pods of a Deployment, later ones do not.
    names = engine("pod", "ps", "--format", "{{.Name}}").split()
    pod = Pod(engine, next(name for name in names if name.startswith("service-pod")), objects)
    wait_until(lambda: answers(pod.url("/readyz")), "the pod")
    return pod


def name_the_balancer(project: Path, engine: Podman) -> None:
    subnet = json.loads(engine("network", "inspect", NETWORK))[0]["subnets"][0]["subnet"]
    file = project / "deploy/kubernetes/base/nginx-site/balancer.conf"
    file.write_text(file.read_text().replace("192.0.2.0/24", subnet))


def start_database(engine: Podman, scripts: Path) -> dict[str, str]:
    """The two addresses that `roles.sh` prints."""
    password = engine.folder / "password"
    password.write_text("correct-horse-battery-staple")
    password.chmod(0o444)
    engine(
        *("run", "--detach", "--name", "database", "--network", NETWORK, "--user", "999:999"),
        *("--volume", f"{password}:/run/password:ro", "--volume", f"{scripts}:/database:ro"),
        *("--env", "POSTGRES_PASSWORD_FILE=/run/password"),
        *("--env", "POSTGRES_INITDB_ARGS=--auth=scram-sha-256", POSTGRES, "postgres"),
    )
    ready = ("exec", "database", "pg_isready", "--quiet", "--host=127.0.0.1")
    wait_until(lambda: engine.attempt(*ready).returncode == 0, "the database")
    variables = {
        "PGHOST": "database",
        "PGUSER": "postgres",
        "PASSWORD_FILE": "/run/password",
        "DATABASE": "shop",
    }
    options = [option for name in variables.items() for option in ("--env", "=".join(name))]
    said = engine("exec", *options, "database", "sh", "/database/roles.sh")
    return dict(re.findall(r"^(\w+)=(.+)$", said, re.MULTILINE))


def make_secrets(engine: Podman, addresses: dict[str, str]) -> None:
    """Podman keeps the whole object under the name of the Secret; 4.3 does not decode it."""
    version = engine("version", "--format", "{{.Client.Version}}")
    is_decoded = [int(part) for part in version.split(".")[:2]] > [4, 3]
    app = {"database_url": addresses["DATABASE_URL"], "secret_key": SECRET_KEY}
    owner = app | {"database_owner_url": addresses["DATABASE_OWNER_URL"]}
    for name, values in {"service": app, "service-migration": owner}.items():
        encoded = {key: b64encode(value.encode()).decode() for key, value in values.items()}
        data = encoded if is_decoded else values
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
        file = engine.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(secret))
        engine("secret", "create", name, file)


def migrate(engine: Podman, job: dict[str, object], objects: list[object]) -> None:
    """The Job's own pod: Podman knows neither Jobs nor projected volumes."""
    secret: dict[str, object] = {"name": "secrets", "secret": {"secretName": "service-migration"}}
    volumes = [secret, {"name": "tmp", "emptyDir": {}}]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "migration"},
        "spec": job | {"volumes": volumes, "restartPolicy": "Never"},
    }
    play(engine, [*config_maps(objects), pod])
    status = engine("wait", "migration-migrate")
    assert status == "0", engine.attempt("logs", "migration-migrate")


def config_maps(objects: list[object]) -> list[object]:
    return [item for item in objects if look(item, "kind") == "ConfigMap"]


def play(engine: Podman, objects: list[object]) -> None:
    file = engine.folder / "play.yaml"
    text = yaml.safe_dump_all(objects)
    # Podman 4.3 ends with a panic where `optional` is not said, and knows no `subPath`.
    text = re.sub(r"^( *)(secretName: .*)$", r"\1\2\n\1optional: false", text, flags=re.M)
    text = re.sub(r"^ *subPath: .*\n", "", text, flags=re.M)
    file.write_text(text)
    engine("kube", "play", "--network", NETWORK, file)


def test_pod_answers_through_its_nginx(pod: Pod) -> None:
    assert httpx2.get(pod.url("/admin/login")).status_code == 403
    assert httpx2.get(pod.url("/metrics")).status_code == 404
    created = httpx2.post(
        pod.url("/api/v1/users"), json={"email": "a@example.com", "password": SECRET_KEY}
    )
    assert created.status_code in (201, 202)
    log = pod.podman("logs", f"{pod.name}-nginx")
    assert '"path":"/api/v1/users"' in log


def test_probes_of_both_containers_pass(pod: Pod) -> None:
    """Podman would run them by systemd's timers, so they are asked here as a kubelet asks."""
    service = pod.container("service")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert answers(pod.url(str(look(service, f"{probe}.httpGet.path")), port=8000))
    for probe in ("livenessProbe", "readinessProbe"):
        command = look(pod.container("nginx"), f"{probe}.exec.command")
        assert isinstance(command, list)
        pod.run("nginx", *command)


def test_way_in_for_the_machine_is_inside_the_pod(pod: Pod) -> None:
    status = ("--silent", "--output", "/dev/null", "--write-out", "%{http_code}")
    assert pod.run("nginx", "curl", *status, "http://localhost:8081/admin/login") == "200"
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(pod.url("/admin/login", port=8081))


@pytest.mark.parametrize(("container", "user"), [("service", "10001"), ("nginx", "10002")])
def test_container_is_locked_down(pod: Pod, container: str, user: str) -> None:
    status = pod.run(container, "cat", "/proc/1/status")
    for line in (f"Uid:\t{user}", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"):
        assert line in status
    assert "NoNewPrivs:\t1" in status
    touch = pod.podman.attempt("exec", f"{pod.name}-{container}", "touch", "/etc/x")
    assert "Read-only file system" in touch.stderr


def test_settings_and_secrets_reach_the_service_and_the_owner_does_not(pod: Pod) -> None:
    assert pod.run("service", "sh", "-c", "echo $ENVIRONMENT $DATABASE_POOL_SIZE") == "production 5"
    assert pod.run("service", "ls", "/run/secrets").split() == ["database_url", "secret_key"]
    assert "512 MiB" in pod.run("service", "manage", "capacity")


def test_client_address_is_taken_from_the_ingress_alone(pod: Pod) -> None:
    """The network of the pods is named in balancer.conf, and the test stands in it: one hop."""
    forged = {"X-Forwarded-For": "127.0.0.1, 203.0.113.9"}
    assert httpx2.get(pod.url("/admin/login"), headers=forged).status_code == 403
    assert '"client":"203.0.113.9"' in pod.podman("logs", f"{pod.name}-nginx")


def test_pod_ends_in_order_with_its_pre_stop_hooks(pod: Pod) -> None:
    """As a kubelet does: both hooks at once, and each container is told when its own is over."""
    with ThreadPoolExecutor() as pool:
        ends = [pool.submit(stop, pod, name) for name in ("service", "nginx")]
        # The cluster still sends requests for some seconds.
        time.sleep(3)
        assert httpx2.get(pod.url("/readyz")).status_code == 200
        assert [end.result() for end in ends] == [0, 0]


def stop(pod: Pod, container: str) -> int:
    hook = look(pod.container(container), "lifecycle.preStop.exec.command")
    assert isinstance(hook, list)
    pod.podman.attempt("exec", f"{pod.name}-{container}", *hook)
    pod.podman("stop", "--time", "38", f"{pod.name}-{container}")
    return int(pod.podman("wait", f"{pod.name}-{container}"))
