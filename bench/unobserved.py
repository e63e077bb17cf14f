"""The service without logs, metrics and ids, to compare it with: `observability.py` starts it."""

from app.main import create_app as create_service
from app.middleware import RequestMiddleware


def create_app() -> object:
    app = create_service()
    app.user_middleware = [one for one in app.user_middleware if one.cls is not RequestMiddleware]
    return app
