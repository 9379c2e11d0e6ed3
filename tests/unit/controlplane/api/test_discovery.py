"""listApis: generated from the declarations, complete, in the shape that generators of clients read."""

from __future__ import annotations

import re

from controlplane.api.command import commands
from tests.control import Caller

NEEDED = re.findall(
    r"\w+",
    """
    listApis listCapabilities login logout getUser getUserKeys registerUserKeys listUsers createUser updateUser
    deleteUser listAccounts createAccount updateAccount deleteAccount listDomains createDomain updateDomain
    deleteDomain listRoles listHypervisors listOsTypes listOsCategories listZones createZone updateZone deleteZone
    listPods listClusters listHosts listPhysicalNetworks listTrafficTypes createVlanIpRange listVlanIpRanges
    deleteVlanIpRange listServiceOfferings createServiceOffering updateServiceOffering deleteServiceOffering
    listDiskOfferings listNetworkOfferings createNetworkOffering updateNetworkOffering deleteNetworkOffering
    listTemplates listEvents archiveEvents deleteEvents listEventTypes listConfigurations updateConfiguration
    queryAsyncJobResult listAsyncJobs createTags deleteTags listTags listSupportedNetworkServices
    listNetworkServiceProviders listResourceLimits
    """,
)


def test_what_clients_need_is_there(admin: Caller) -> None:
    names = {api["name"] for api in admin("listApis")["api"]}
    assert set(NEEDED) <= names
    assert names == {item.name for item in commands().values()}


def test_the_shape(admin: Caller) -> None:
    for api in admin("listApis")["api"]:
        assert type(api["isasync"]) is bool
        assert isinstance(api["related"], str)
        for text in (api["description"], *(entry["description"] for entry in api["params"] + api["response"])):
            assert text and "\n" not in text and not text.endswith('"'), f"{api['name']}: {text!r}"
        for entry in api["params"]:
            assert set(entry) == {"name", "description", "type", "length", "required"}
            assert entry["type"] in {"string", "uuid", "boolean", "integer", "long", "list", "map", "date"}
        assert len({entry["name"].lower() for entry in api["params"]}) == len(api["params"])
        assert api["response"], api["name"]


def test_one_api(admin: Caller) -> None:
    answer = admin("listApis", name="CREATEtags")
    assert answer["count"] == 1
    [api] = answer["api"]
    assert (api["name"], api["isasync"]) == ("createTags", True)
    required = {entry["name"]: entry["type"] for entry in api["params"] if entry["required"]}
    assert required == {"resourceids": "list", "resourcetype": "string", "tags": "map"}
    assert admin.error("listApis", name="nothing")["errorcode"] == 431


def test_related_apis_answer_the_same_kind(admin: Caller) -> None:
    [api] = admin("listApis", name="listZones")["api"]
    assert {"createZone", "updateZone"} <= set(api["related"].split(","))


def test_the_capabilities(admin: Caller) -> None:
    capability = admin("listCapabilities")["capability"]
    assert capability["supportELB"] == "false"
    assert re.fullmatch(r"\d+\.\d+\.\d+\.\d+", capability["cloudstackversion"])
    assert {"securitygroupsenabled", "dynamicrolesenabled", "defaultuipagesize", "kvmsnapshotenabled"} <= set(
        capability
    )


def test_every_event_type_of_a_command_is_listed(admin: Caller) -> None:
    listed = {row["name"] for row in admin("listEventTypes")["eventtype"]}
    assert {item.event for item in commands().values() if item.event} <= listed


def test_reading_commands_do_not_write() -> None:
    # these open a short transaction of their own after slow work
    own = ("login", "logout", "createSSHKeyPair")
    for item in commands().values():
        reading = item.name.startswith(("list", "get", "query")) and not item.name.startswith("getUploadParams")
        assert item.reads == (reading or item.name in own), item.name
