from tests.interop.hyco.clients import hyco

__all__ = ["hyco"]
