"""Revoking a certificate at its CA (RFC 8555 section 7.6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from josepy.json_util import encode_b64jose

from certbroker.domain.errors import Invalid
from certbroker.domain.keys import PrivateKey
from certbroker.domain.revocation import Reason
from certbroker.ports.clock import Clock
from issuers.acme.account import Account, AccountLost
from issuers.acme.problem import CARefused
from issuers.acme.signing import AccountKey
from issuers.acme.transport import Authority

_ADVICE: Final = {
    "badRevocationReason": "Give another reason: this CA keeps that one to itself.",
    "unauthorized": "Name the issuer whose account ordered the certificate, or revoke it in the CA's own way.",
}


class Revoker:
    """Asks one CA to revoke, first by our account there, then with the certificate's own key."""

    def __init__(self, authority: Authority, account: Account, clock: Clock) -> None:
        self._authority = authority
        self._account = account
        self._clock = clock

    def revoke(self, certificate: bytes, reason: int, key: PrivateKey | None) -> None:
        """See the port `Revokes`."""
        own = _signer(key)
        payload = {"certificate": encode_b64jose(certificate), "reason": reason}
        try:
            url = self._authority.directory(self._clock).revoke_cert
            if url is None:
                raise Invalid("The CA offers no revocation by ACME: revoke the certificate in the CA's own way.")
            if own is None:
                self._by_account(url, payload)
            else:
                self._by_either(url, payload, own)
        except CARefused as error:
            if error.kind == "alreadyRevoked":
                return
            if error.transient:
                raise error.unavailable() from error
            advice = _ADVICE.get(error.kind, "")
            raise Invalid(f"The CA refused the revocation: {error.problem.text()} {advice}".rstrip()) from error
        except AccountLost as error:
            raise Invalid("The CA does not know our account, so it will not revoke for it.") from error

    def _by_either(self, url: str, payload: Mapping[str, Any], own: AccountKey) -> None:
        # An account that is made for this would have no right to it.
        if self._account.url is not None:
            try:
                self._account.post(url, payload)
                return
            except AccountLost as lost:
                self._account.forget(str(lost))
            except CARefused as error:
                if error.kind != "unauthorized" and not _is_for_the_key_to_say(error, payload):
                    raise
        self._authority.post(url, payload, own, None, self._clock)

    def _by_account(self, url: str, payload: Mapping[str, Any]) -> None:
        try:
            self._account.post(url, payload)
        except AccountLost as lost:
            self._account.forget(str(lost))
            self._account.post(url, payload)


def _is_for_the_key_to_say(error: CARefused, payload: Mapping[str, Any]) -> bool:
    """Whether only who has the key may go on: Let's Encrypt lets nobody else change an earlier reason to compromise."""
    return error.kind == "alreadyRevoked" and payload["reason"] == Reason.KEY_COMPROMISE.code


def _signer(key: PrivateKey | None) -> AccountKey | None:
    """What signs for the certificate itself; None where ACME has no signature for such a key."""
    try:
        return None if key is None else AccountKey(key)
    except ValueError:
        return None
