"""Tests of SCRAM-SHA-256, with messages as a client makes them (RFC 5802)."""

import base64
import hashlib
import hmac

import pytest

from audiotext.embedded.scram import AuthenticationError, Conversation, credentials

KNOWN = credentials("audiotext", "the password")


def proof(password: str, first: str, reply: str) -> tuple[bytes, bytes]:
    """Returns the client's last message and the server's signature that the client expects."""
    fields = dict(part.split("=", 1) for part in reply.split(","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    without_proof = f"c=biws,r={fields['r']}"
    signed = f"{first},{reply},{without_proof}".encode()
    signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
    text = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()
    server = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
    return f"{without_proof},p={text}".encode(), b"v=" + base64.b64encode(server)


def test_both_sides_prove_that_they_know_the_password() -> None:
    """Authenticates with the right password: the server's last message is the signature that the client expects."""
    conversation = Conversation(KNOWN)
    reply = conversation.begin(b"n,,n=audiotext,r=abc").decode()
    assert reply.startswith("r=abc")
    last, expected = proof("the password", "n=audiotext,r=abc", reply)
    assert conversation.finish(last) == expected


def test_a_wrong_password_and_a_repeated_proof_are_refused() -> None:
    """Sends the proof of a wrong password, and in a second conversation a proof that was valid in the first."""
    conversation = Conversation(KNOWN)
    reply = conversation.begin(b"n,,n=audiotext,r=abc").decode()
    with pytest.raises(AuthenticationError):
        conversation.finish(proof("another password", "n=audiotext,r=abc", reply)[0])
    valid = proof("the password", "n=audiotext,r=abc", reply)[0]
    second = Conversation(KNOWN)
    second.begin(b"n,,n=audiotext,r=abc")
    with pytest.raises(AuthenticationError):
        second.finish(valid)


@pytest.mark.parametrize(
    "message", [b"", b"n,,", b"n,,n=audiotext", b"n,,n=other,r=x", b"p=tls,,n=audiotext,r=x", b"\xff,,n=audiotext,r=x"]
)
def test_an_invalid_first_message_is_refused(message: bytes) -> None:
    """Sends messages without user or nonce, of another user, and with channel binding, which is not supported."""
    with pytest.raises(AuthenticationError):
        Conversation(KNOWN).begin(message)


@pytest.mark.parametrize("message", [b"", b"c=biws,r=,p=", b"c=biws,r=%s,p=!!", b"c=biws,r=%s,p=YWJj"])
def test_an_invalid_last_message_is_refused(message: bytes) -> None:
    """Sends last messages without nonce, and with proofs that are not 32 bytes of base64. One comes without a first."""
    with pytest.raises(AuthenticationError):
        Conversation(KNOWN).finish(message.replace(b"%s", b""))
    conversation = Conversation(KNOWN)
    nonce = conversation.begin(b"n,,n=audiotext,r=abc").partition(b",")[0].removeprefix(b"r=")
    with pytest.raises(AuthenticationError):
        conversation.finish(message.replace(b"%s", nonce))
