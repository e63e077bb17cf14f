"""All settings of the service, of the application and of the server, as the checks compare them."""

from app.settings import Settings
from server.settings import ServerSettings


class AllSettings(ServerSettings, Settings):
    """What the environment of this machine says."""
