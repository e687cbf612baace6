"""TLS contexts for the clients of the stores."""

import ssl

from core.settings import SettingsError
from core.settings.base import Tls


def client_context(tls: Tls) -> ssl.SSLContext:
    """Returns the context that verifies the store's server and presents the client certificate.

    Raises SettingsError if a file cannot be read as a certificate or key.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except OSError as error:
        raise SettingsError(f"{tls.ca_file} does not contain a PEM certificate: {error}") from None
    if tls.cert_file and tls.key_file:
        try:
            context.load_cert_chain(tls.cert_file, tls.key_file)
        except OSError as error:
            raise SettingsError(
                f"{tls.cert_file} and {tls.key_file} are not a PEM certificate and its key: {error}"
            ) from None
    return context
