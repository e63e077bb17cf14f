"""All settings of the service, of the application and of the server, as the checks compare them."""

from pydantic import Field

from app.settings import Settings
from server.settings import ServerSettings


class AllSettings(ServerSettings, Settings):
    """What the environment of this machine says."""

    # How long a load balancer in front of nginx waits, and keeps idle connections. 60 is what most
    # have, AWS and nginx among them.
    load_balancer_timeout_seconds: float = Field(default=60, gt=0)
