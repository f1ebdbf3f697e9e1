"""How to connect to the demo's broker, ready to be pasted."""

from __future__ import annotations

import shlex
import sys
from typing import Final

from rich.console import Console
from rich.markup import escape

from certbroker.cli.demo.stage import Stage

_SDK: Final = """\
{python} - <<'END'
import os
from azure.identity import DefaultAzureCredential
from azure.keyvault.certificates import CertificateClient
from azure.keyvault.secrets import SecretClient

url, credential = os.environ["KEYVAULT_URL"], DefaultAzureCredential()
for certificate in CertificateClient(url, credential).list_properties_of_certificates():
    print(certificate.name, certificate.expires_on)
SecretClient(url, credential).set_secret("greeting", "hello from the SDK")
END
"""

_CURL: Final = """\
token=$(curl -sf --cacert "$SSL_CERT_FILE" "$AZURE_AUTHORITY_HOST/$AZURE_TENANT_ID/oauth2/v2.0/token" \\
  -d grant_type=client_credentials -d "client_id=$AZURE_CLIENT_ID" -d "client_secret=$AZURE_CLIENT_SECRET" \\
  -d scope=https://vault.azure.net/.default | sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')
curl -sf --cacert "$SSL_CERT_FILE" -H "Authorization: Bearer $token" "$KEYVAULT_URL/certificates?api-version=7.6"
"""

_AZ: Final = """\
az cloud register -n certbroker --endpoint-resource-manager "$AZURE_AUTHORITY_HOST" \\
  --endpoint-active-directory "$AZURE_AUTHORITY_HOST" \\
  --endpoint-active-directory-resource-id "$AZURE_AUTHORITY_HOST" \\
  --suffix-keyvault-dns .vault.localhost --skip-endpoint-discovery
az cloud set -n certbroker
az login --service-principal -u "$AZURE_CLIENT_ID" -p "$AZURE_CLIENT_SECRET" --tenant adfs --skip-subscription-discovery
az keyvault certificate show --id "$KEYVAULT_URL/certificates/self-signed"
az cloud set -n AzureCloud && az cloud unregister -n certbroker     # when you are done
"""

_OURS: Final = """\
{python} -m certbroker certificate list
{python} -m certbroker certificate show self-signed
"""


def tell_how_to_connect(stage: Stage, console: Console) -> None:
    """Print it all, unwrapped, so that it survives copying."""
    python = shlex.quote(sys.executable)

    def part(title: str, text: str) -> None:
        console.print(f"\n[bold]{title}[/bold]")
        console.print(escape(text.rstrip()), soft_wrap=True)

    part("It goes on running. In another shell, first:", f"set -a; . {shlex.quote(str(stage.env_file))}; set +a")
    part("# its own command line", _OURS.format(python=python))
    part("# Azure SDK for Python", _SDK.format(python=python))
    part("# Azure CLI", _AZ)
    part("# curl", _CURL)
    console.print("\nCtrl-C stops everything and removes its data.")
