"""TLS of the stores, from their settings."""

import ssl

from core.settings import SettingsError
from core.settings.base import Tls


def client_context(tls: Tls) -> ssl.SSLContext:
    """What a client of that store verifies the server with, and the certificate it shows. Raises SettingsError."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except OSError as error:
        raise SettingsError(f"{tls.ca_file} holds no certificate in PEM: {error}") from None
    if tls.cert_file and tls.key_file:
        try:
            context.load_cert_chain(tls.cert_file, tls.key_file)
        except OSError as error:
            raise SettingsError(f"{tls.cert_file} and {tls.key_file} are no certificate and its key: {error}") from None
    return context
