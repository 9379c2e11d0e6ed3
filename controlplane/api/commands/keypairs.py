"""SSH key pairs."""

from __future__ import annotations

from sqlalchemy import select

from controlplane import events
from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.api.command import Params, Response, ScopedListParams, Success, command, param, shown
from controlplane.api.listing import OwnedResponse, owned_by
from controlplane.compute import keypairs
from controlplane.store.models import Account, SshKeyPair


class KeyPairResponse(OwnedResponse):
    """A key pair; the private key only in the answer that made it."""

    id: str = shown("id of the key pair", ...)
    name: str = shown("name of the key pair", ...)
    fingerprint: str = shown("MD5 fingerprint of the public key", ...)
    privatekey: str | None = shown("the private key, shown this once")


class KeyPairParams(Params):
    name: str = param("name of the key pair")
    account: str | None = param("owner of the key pair; needs domainid", default=None)
    domainid: str | None = param("domain of the owner", default=None, entity="Domain")


class RegisterKeyPair(KeyPairParams):
    publickey: str = param("public key, one line in OpenSSH's format", length=5120)


class ListKeyPairs(ScopedListParams):
    id: str | None = param("id of the key pair", default=None, entity="SSHKeyPair")
    name: str | None = param("name of the key pair", default=None)
    fingerprint: str | None = param("fingerprint of the public key", default=None)


def _show(call: Call, pair: SshKeyPair, private: str | None = None) -> KeyPairResponse:
    return KeyPairResponse(
        **owned_by(call.session.get_one(Account, pair.account_id)),
        id=pair.id,
        name=pair.name,
        fingerprint=pair.fingerprint,
        privatekey=private,
    )


@command(
    "createSSHKeyPair",
    description="Makes a key pair and returns the private key, which is not kept",
    params=KeyPairParams,
    response=KeyPairResponse,
    object_name="keypair",
    event="REGISTER.SSH.KEYPAIR",
    # making a key takes long: it must not hold the write lock
    reads=True,
)
def create_key_pair(call: Call, params: KeyPairParams) -> Response:
    owner = call.owner(params.account, params.domainid)
    private, public = keypairs.generate()
    with call.runtime.database.transaction() as session:
        pair = keypairs.add(session, owner, params.name, public)
        events.record(
            session,
            "REGISTER.SSH.KEYPAIR",
            f"created SSH key pair {pair.name}",
            account_id=owner.id,
            user_id=call.user.id,
            resource=("SSHKeyPair", pair.id),
        )
    return _show(call, pair, private)


@command(
    "registerSSHKeyPair",
    description="Keeps a public key under a name",
    params=RegisterKeyPair,
    response=KeyPairResponse,
    object_name="keypair",
    event="REGISTER.SSH.KEYPAIR",
)
def register_key_pair(call: Call, params: RegisterKeyPair) -> Response:
    owner = call.owner(params.account, params.domainid)
    pair = keypairs.add(call.session, owner, params.name, params.publickey)
    call.event(f"registered SSH key pair {pair.name}", ("SSHKeyPair", pair.id), account_id=owner.id)
    return _show(call, pair)


@command(
    "deleteSSHKeyPair",
    description="Deletes a key pair by name; guests that have the key keep it",
    params=KeyPairParams,
    event="DELETE.SSH.KEYPAIR",
)
def delete_key_pair(call: Call, params: KeyPairParams) -> Success:
    owner = call.owner(params.account, params.domainid)
    pair = keypairs.find(call.session, owner, params.name)
    call.session.delete(pair)
    call.event(f"deleted SSH key pair {pair.name}", ("SSHKeyPair", pair.id), account_id=owner.id)
    return Success()


@command(
    "listSSHKeyPairs",
    description="Lists key pairs",
    params=ListKeyPairs,
    response=KeyPairResponse,
    object_name="sshkeypair",
)
def list_key_pairs(call: Call, params: ListKeyPairs) -> tuple[int, list[KeyPairResponse]]:
    statement = select(SshKeyPair).order_by(SshKeyPair.created, SshKeyPair.id)
    statement = listing.scope(call, statement, SshKeyPair.account_id, params, by_id=params.id is not None)
    for column, value in (
        (SshKeyPair.id, params.id),
        (SshKeyPair.name, params.name),
        (SshKeyPair.fingerprint, params.fingerprint),
    ):
        if value is not None:
            statement = statement.where(column == value)
    statement = listing.search(statement, params.keyword, SshKeyPair.name, SshKeyPair.fingerprint)
    return listing.fetch(call, statement, params, lambda rows: [_show(call, pair) for pair in rows])
