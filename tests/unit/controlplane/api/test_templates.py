"""Templates, ISOs and image stores through the API; what an SSVM would report is taken in by hand."""

from __future__ import annotations

import hashlib
import json
import logging
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography import x509
from sqlalchemy import select

from controlplane.convergence.compile.memo import Memo
from controlplane.convergence.compile.ssvm import compile_ssvm
from controlplane.convergence.intent import ssvm as intent
from controlplane.core import Core
from controlplane.imagestores import copies, images, jobs, shares, stores
from controlplane.imagestores.outcomes import settle
from controlplane.store.models import Appliance, ImageStore, StorageJob, StorageLink, StoredImage, Zone, now
from controlplane.systemvms import rows as systemvms
from ssvm.document import SsvmDocument
from ssvm.services.storage.model.report import Failure, JobReport, Result, StoreReport
from tests.acting import ActingRuntime, Tenant
from tests.control import caller_for, http_for

URL = "http://198.51.100.80/small.qcow2"
DIGEST = hashlib.sha256(b"").hexdigest()
KVM = {"format": "QCOW2", "hypervisor": "KVM", "displaytext": "t"}


@pytest.fixture
def store(tenant: Tenant) -> str:
    made = tenant.call("addImageStore", provider="Local", name="primary", zoneid=tenant.zone)["imagestore"]
    id: str = made["id"]
    return id


def register(tenant: Tenant, name: str = "small", **more: Any) -> str:
    given = {"name": name, "url": URL, "zoneid": tenant.zone, **KVM} | more
    id: str = tenant.call("registerTemplate", **given)["template"][0]["id"]
    return id


def ssvm(acting: ActingRuntime, zone_id: str) -> str:
    """A running SSVM with the directories that it should have."""
    with acting.database.transaction() as session:
        row = systemvms.create(session, session.get_one(Zone, zone_id), "ssvm")
        row.state, row.shares = "Running", shares.names(session, zone_id)
        return row.id


def core_of(acting: ActingRuntime) -> Core:
    """What documents are made with."""
    names = ("configuration", "secrets", "authority")
    return cast(Core, SimpleNamespace(**{name: getattr(acting, name) for name in names}))


def give(acting: ActingRuntime, appliance_id: str, zone_id: str) -> list[str]:
    """Have the SSVM be given what waits; ids of its jobs."""
    with acting.database.transaction() as session:
        jobs.assign(session, zone_id, [session.get_one(Appliance, appliance_id)], 50)
        rows = select(StorageJob.id).where(StorageJob.appliance_id == appliance_id, StorageJob.ended.is_(None))
        return list(session.scalars(rows))


def report(acting: ActingRuntime, appliance_id: str, **fields: Any) -> None:
    with acting.database.transaction() as session:
        for job in jobs.take(session, appliance_id, [JobReport(**{"attempt": 1, **fields})]):
            settle(session, job)


RESULT = Result(
    checksum=f"sha256:{DIGEST}",
    object_checksum=f"sha256:{DIGEST}",
    physical_size=1000,
    format="qcow2",
    virtual_size=1 << 24,
)


def finish(acting: ActingRuntime, tenant: Tenant, id: str) -> str:
    """The template comes whole; the SSVM's id."""
    vm = ssvm(acting, tenant.zone)
    for job in give(acting, vm, tenant.zone):
        report(acting, vm, id=job, state="done", percent=100, received=1000, result=RESULT)
    return vm


def listed(tenant: Tenant, filter: str = "self", **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tenant.call("listTemplates", templatefilter=filter, **more).get("template", [])
    return found


def names(tenant: Tenant, filter: str) -> set[str]:
    return {one["name"] for one in listed(tenant, filter) if one["templatetype"] != "BUILTIN"}


@pytest.fixture
def carol(acting: ActingRuntime, tenant: Tenant) -> Tenant:
    person = {"password": "secret-1234", "firstname": "C", "lastname": "C", "email": "c@example.org"}
    made = tenant.call("createAccount", accounttype=0, username="carol", **person)
    return Tenant(caller_for(acting, http_for(acting), made["account"]["user"][0]["id"]), acting)


# --- stores ---------------------------------------------------------------------------------------------------------


def test_a_local_store_has_a_place_of_its_own_beside_the_control_plane_s(tenant: Tenant, acting: ActingRuntime) -> None:
    made = tenant.call("addImageStore", provider="local", zoneid=tenant.zone)["imagestore"]
    assert (made["providername"], made["protocol"], made["scope"], made["readonly"]) == ("Local", "file", "ZONE", False)
    assert made["url"] == f"file://{acting.images}/stores/{tenant.zone}"
    for url in ("file:///etc/images", f"file://{acting.data}/x", "file:///", "file:///srv/../etc", "/srv/images"):
        text = tenant.call.error("addImageStore", provider="Local", url=url, zoneid=tenant.zone)["errortext"]
        assert text.startswith("url: ")
    assert "zoneid" in tenant.call.error("addImageStore", provider="Local")["errortext"]
    assert "already" in tenant.call.error("addImageStore", provider="Local", zoneid=tenant.zone)["errortext"]
    assert "Local, NFS, S3, Swift" in tenant.call.error("addImageStore", provider="tape")["errortext"]


def test_keys_of_object_stores_are_sealed_and_in_no_answer_and_no_log(
    tenant: Tenant, acting: ActingRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret, key = "s3cretAccessKey", "sw1ftKey"
    answers = [
        tenant.call(
            "addImageStoreS3", accesskey="AK", secretkey=secret, bucket="images", endpoint="https://198.51.100.7:9000"
        ),
        tenant.call("addSwift", url="https://198.51.100.8/auth/v1.0", account="AUTH", username="gate", key=key),
        tenant.call("listImageStores"),
        tenant.call("listSwifts"),
    ]
    text = json.dumps(answers) + caplog.text
    assert secret not in text and key not in text
    swift = answers[3]["swift"][0]
    assert (swift["account"], swift["username"]) == ("AUTH", "gate")
    with acting.database.reading() as session:
        rows = {row.provider: row for row in session.scalars(select(ImageStore))}
        assert secret.encode() not in (rows["S3"].secret or b"")
        assert acting.secrets.open(rows["S3"].secret or b"") == secret
        assert rows["S3"].zone_id is None
    missing = tenant.call.error("addImageStore", provider="S3", url="https://198.51.100.7")
    assert "secretkey is missing" in missing["errortext"]
    wrong = tenant.call.error("addSwift", url="ftp://x", account="a", username="b", key=key)["errortext"]
    assert "url" in wrong and key not in wrong


def test_a_store_in_use_stays_and_one_that_fails_is_told_of(tenant: Tenant, acting: ActingRuntime, store: str) -> None:
    id = register(tenant)
    assert "1 templates" in tenant.call.error("deleteImageStore", id=store)["errortext"]
    with acting.database.transaction() as session:
        stores.take(session, [StoreReport(id=store, healthy=True, total=1000, free=400)])
    [shown] = tenant.call("listImageStores")["imagestore"]
    assert (shown["disksizetotal"], shown["disksizeused"], shown["healthy"]) == (1000, 600, True)
    [capacity] = tenant.call("listCapacity", type=6)["capacity"]
    assert (capacity["name"], capacity["capacityused"], capacity["capacitytotal"]) == ("SECONDARY_STORAGE", 600, 1000)
    with acting.database.transaction() as session:
        stores.take(session, [StoreReport(id=store, healthy=False, detail="Input/output error")])
    [event] = tenant.call("listEvents", type="IMAGESTORE.HEALTH", listall=True)["event"]
    assert event["level"] == "WARN" and "Input/output error" in event["description"]
    tenant.call("updateImageStore", id=store, readonly=True)
    assert (
        "read-only" in tenant.call.error("registerTemplate", name="x", url=URL, zoneid=tenant.zone, **KVM)["errortext"]
    )
    vm = finish(acting, tenant, id)
    tenant.run("deleteTemplate", id=id)
    assert "worked on" in tenant.call.error("deleteImageStore", id=store)["errortext"]
    for job in give(acting, vm, tenant.zone):
        report(acting, vm, id=job, state="done")
    tenant.call("deleteImageStore", id=store)
    assert tenant.call("listImageStores") == {}


# --- registering ----------------------------------------------------------------------------------------------------


def test_progress_is_shown_and_the_end_is_an_event(tenant: Tenant, acting: ActingRuntime, store: str) -> None:
    id = register(tenant, checksum=f"{{SHA-256}}{DIGEST}")
    [before] = listed(tenant)
    assert (before["isready"], before["downloadstate"], before["status"]) == (False, "NOT_DOWNLOADED", "")
    vm = ssvm(acting, tenant.zone)
    [job] = give(acting, vm, tenant.zone)
    going = {"phase": "receiving", "received": 400, "total": 1000, "percent": 40, "rate": 100, "seconds_left": 6}
    report(acting, vm, id=job, state="running", **going)
    [shown] = listed(tenant)
    assert (shown["status"], shown["downloadpercent"]) == ("40% Downloaded", 40)
    assert (shown["downloadrate"], shown["downloadtimeleft"]) == (100, 6)
    assert shown["downloaddetails"][0]["downloadState"] == "DOWNLOAD_IN_PROGRESS"
    report(acting, vm, id=job, state="retrying", lost=1, detail="reset by peer", **going)
    [lost] = tenant.call("listEvents", type="TEMPLATE.DOWNLOAD.LOST")["event"]
    assert lost["level"] == "WARN" and "reset by peer" in lost["description"]
    assert "reset by peer" in listed(tenant)[0]["status"]
    text = tenant.call.error("deployVirtualMachine", zoneid=tenant.zone, templateid=id, serviceofferingid=tenant.size)[
        "errortext"
    ]
    assert "not ready" in text and "40%" in text
    report(acting, vm, id=job, state="done", result=RESULT)
    [done] = listed(tenant)
    assert (done["isready"], done["status"], done["size"]) == (True, "Download Complete", 1 << 24)
    assert (done["physicalsize"], done["checksum"]) == (1000, f"{{SHA-256}}{DIGEST}")
    assert "downloadrate" not in done
    assert tenant.call("listEvents", type="TEMPLATE.DOWNLOAD.SUCCESS")["event"][0]["level"] == "INFO"


def test_a_failure_says_why(tenant: Tenant, acting: ActingRuntime, store: str) -> None:
    register(tenant)
    vm = ssvm(acting, tenant.zone)
    [job] = give(acting, vm, tenant.zone)
    failure = Failure(cause="http", message="the server answered 404 Not Found")
    report(acting, vm, id=job, state="failed", failure=failure)
    [shown] = listed(tenant)
    assert (shown["isready"], shown["downloadstate"]) == (False, "DOWNLOAD_ERROR")
    assert shown["status"] == failure.message
    [event] = tenant.call("listEvents", type="TEMPLATE.DOWNLOAD.FAILED")["event"]
    assert event["level"] == "WARN" and failure.message in event["description"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"url": "ftp://198.51.100.80/x"}, "url: FTP"),
        ({"url": "http://user:pw@198.51.100.80/x"}, "url: "),
        ({"url": "file:///etc/passwd"}, "url: "),
        ({"format": "TAR"}, "format"),
        ({"hypervisor": "Xen"}, "hypervisor"),
        ({"checksum": "abc"}, "checksum"),
        ({"checksum": f"{{MD5}}{DIGEST}"}, "checksum"),
        ({"isrouting": True}, "isrouting"),
        ({"ostypeid": "none"}, "ostypeid"),
        ({"zoneid": "none"}, "zoneid"),
    ],
)
def test_bad_templates(tenant: Tenant, store: str, change: dict[str, Any], says: str) -> None:
    given = {"name": "x", "url": URL, "zoneid": tenant.zone, **KVM} | change
    assert says in tenant.call.error("registerTemplate", **given)["errortext"]
    assert listed(tenant) == []


def test_without_a_store_it_says_what_to_add(tenant: Tenant) -> None:
    text = tenant.call.error("registerTemplate", name="x", url=URL, zoneid=tenant.zone, **KVM)["errortext"]
    assert "addImageStore" in text


def test_limits_count_templates_and_isos(tenant: Tenant, bob: Tenant, store: str) -> None:
    tenant.call("updateResourceLimit", resourcetype=4, account="bob", domainid=_domain(tenant), max=1)
    id = register(bob)
    text = bob.call.error("registerIso", name="i", url=URL, zoneid=bob.zone, bootable=False, displaytext="i")
    assert text["errorcode"] == 532
    [account] = bob.call("listAccounts")["account"]
    assert (account["templatelimit"], account["templatetotal"], account["templateavailable"]) == ("1", 1, "0")
    bob.run("deleteTemplate", id=id)
    register(bob)


def _domain(tenant: Tenant) -> str:
    id: str = tenant.call("listDomains", name="ROOT")["domain"][0]["id"]
    return id


def test_isos_and_templates_are_apart(tenant: Tenant, acting: ActingRuntime, store: str) -> None:
    template = register(tenant)
    os_type = tenant.call("listOsTypes")["ostype"][0]["id"]
    assert "ostypeid" in tenant.call.error("registerIso", name="i", url=URL, zoneid=tenant.zone)["errortext"]
    made = tenant.call("registerIso", name="disc", url=URL, zoneid=tenant.zone, ostypeid=os_type, displaytext="d")
    iso = made["iso"][0]["id"]
    finish(acting, tenant, template)
    assert [one["name"] for one in tenant.call("listIsos", isofilter="self")["iso"]] == ["disc"]
    assert names(tenant, "self") == {"small"}
    for command in ("deleteTemplate", "updateTemplate", "extractTemplate"):
        assert "does not exist" in tenant.call.error(command, id=iso)["errortext"]
    assert (
        "is an ISO"
        in tenant.call.error("deployVirtualMachine", zoneid=tenant.zone, templateid=iso, serviceofferingid=tenant.size)[
            "errortext"
        ]
    )
    assert tenant.call("updateIso", id=iso, name="cd")["iso"]["name"] == "cd"
    tenant.run("deleteIso", id=iso)
    assert tenant.call("listIsos", isofilter="self") == {}
    assert {type for type, _ in tenant.events()} >= {"ISO.CREATE", "ISO.UPDATE", "ISO.DELETE"}


# --- who may what ---------------------------------------------------------------------------------------------------


def test_filters_and_permissions(tenant: Tenant, bob: Tenant, carol: Tenant, acting: ActingRuntime, store: str) -> None:
    id = register(bob, "mine")
    finish(acting, tenant, id)
    assert names(bob, "self") == names(bob, "selfexecutable") == names(bob, "executable") == {"mine"}
    for filter in ("featured", "community", "executable", "sharedexecutable", "self"):
        assert names(carol, filter) == set()
    assert carol.call.error("deleteTemplate", id=id)["errorcode"] == 531
    bob.call("updateTemplatePermissions", id=id, op="add", accounts="carol")
    assert names(carol, "sharedexecutable") == names(carol, "executable") == {"mine"}
    assert bob.call("listTemplatePermissions", id=id)["templatepermission"]["account"] == ["carol"]
    # to use it is not to change it, to hand it on or to see where it is
    for command, more in (
        ("updateTemplate", {"name": "x"}),
        ("updateTemplatePermissions", {"ispublic": True}),
        ("deleteTemplate", {}),
        ("extractTemplate", {}),
        ("listTemplatePermissions", {}),
    ):
        assert carol.call.error(command, id=id, **more)["errorcode"] == 531, command
    assert "downloaddetails" not in listed(carol, "sharedexecutable")[0]
    assert carol.vm(templateid=id)["templateid"] == id
    bob.call("updateTemplatePermissions", id=id, op="remove", accounts="carol")
    assert names(carol, "executable") == set()
    bob.call("updateTemplatePermissions", id=id, ispublic=True)
    assert names(carol, "community") == names(carol, "executable") == {"mine"}
    assert bob.call.error("updateTemplatePermissions", id=id, isfeatured=True)["errorcode"] == 531
    tenant.call("updateTemplatePermissions", id=id, isfeatured=True)
    assert names(carol, "featured") == {"mine"} and names(carol, "community") == set()
    bob.call("updateTemplatePermissions", id=id, op="reset")
    assert names(carol, "featured") == set()
    assert carol.call.error("listTemplates", templatefilter="all")["errorcode"] == 531
    assert "mine" in names(tenant, "all")
    assert "no account" in bob.call.error("updateTemplatePermissions", id=id, op="add", accounts="nobody")["errortext"]
    tenant.call("updateConfiguration", name="allow.public.user.templates", value="false")
    assert bob.call.error("updateTemplatePermissions", id=id, ispublic=True)["errorcode"] == 531


def test_what_comes_with_the_hypervisor_stays(tenant: Tenant, bob: Tenant) -> None:
    [builtin] = [one for one in listed(bob, "featured") if one["name"] == "builtin"]
    assert (builtin["isready"], builtin["crossZones"], builtin["status"]) == (True, True, "Download Complete")
    assert tenant.call.error("deleteTemplate", id=builtin["id"])["errorcode"] == 531
    assert bob.call.error("updateTemplate", id=builtin["id"], name="x")["errorcode"] == 531
    assert bob.vm()["templatename"] == "builtin"


def test_changes(tenant: Tenant, store: str) -> None:
    id = register(tenant, passwordenabled=True)
    changed = tenant.call(
        "updateTemplate", id=id, name="new", displaytext="text", sshkeyenabled=True, passwordenabled=False
    )["template"]
    assert (changed["name"], changed["displaytext"]) == ("new", "text")
    assert (changed["sshkeyenabled"], changed["passwordenabled"]) == (True, False)
    assert "format" in tenant.call.error("updateTemplate", id=id, format="VHD")["errortext"]


# --- links and uploads ----------------------------------------------------------------------------------------------


def test_a_link_is_a_secret_of_one_answer(
    tenant: Tenant, bob: Tenant, carol: Tenant, acting: ActingRuntime, store: str
) -> None:
    id = register(bob, "big image")
    vm = finish(acting, tenant, id)
    made = bob.call("extractTemplate", id=id, mode="HTTP_DOWNLOAD")
    answer = bob.run("extractTemplate", id=id, mode="HTTP_DOWNLOAD")
    assert answer["url"].startswith("https://203.0.113.10/extract/") and answer["url"].endswith("/big-image.qcow2")
    token = answer["url"].split("/")[4]
    with acting.database.reading() as session:
        rows = list(session.scalars(select(StorageLink)))
        assert hashlib.sha256(token.encode()).hexdigest() in {row.token_hash for row in rows}
        assert {row.appliance_id for row in rows} == {vm}
        assert abs(rows[0].expires - now() - timedelta(seconds=14400)) < timedelta(minutes=1)
    assert token not in json.dumps(made)
    # of the owner's and of administrators; of others when they may
    bob.call("updateTemplatePermissions", id=id, ispublic=True)
    assert carol.call.error("extractTemplate", id=id)["errorcode"] == 531
    bob.call("updateTemplatePermissions", id=id, isextractable=True)
    assert carol.run("extractTemplate", id=id)["extractMode"] == "HTTP_DOWNLOAD"
    # links end with the template
    bob.run("deleteTemplate", id=id)
    with acting.database.reading() as session:
        assert session.scalars(select(StorageLink)).all() == []


def test_uploads_are_awaited_by_the_ssvm(tenant: Tenant, acting: ActingRuntime, store: str) -> None:
    asked = {"name": "up", "zoneid": tenant.zone, **KVM}
    assert "secondary storage VM" in tenant.call.error("getUploadParamsForTemplate", **asked)["errortext"]
    assert listed(tenant) == []
    vm = ssvm(acting, tenant.zone)
    given = tenant.call("getUploadParamsForTemplate", **asked)["getuploadparams"]
    with acting.database.reading() as session:
        job = session.scalars(select(StorageJob)).one()
    assert given["postURL"] == f"https://203.0.113.10/upload/{job.id}"
    assert (job.kind, job.appliance_id) == ("upload", vm)
    assert job.fields["token_hash"] == hashlib.sha256(given["signature"].encode()).hexdigest()
    assert acting.reached and acting.reached[-1][0] == vm
    report(acting, vm, id=job.id, state="failed", failure=Failure(cause="expired", message="nobody uploaded in time"))
    assert listed(tenant)[0]["downloadstate"] == "ABANDONED"
    [event] = tenant.call("listEvents", type="TEMPLATE.UPLOAD.FAILED")["event"]
    assert event["level"] == "WARN"


# --- jobs -----------------------------------------------------------------------------------------------------------


def test_a_gone_ssvm_s_jobs_are_another_s(tenant: Tenant, acting: ActingRuntime, store: str) -> None:
    register(tenant)
    first, second = ssvm(acting, tenant.zone), ssvm(acting, tenant.zone)
    [job] = give(acting, first, tenant.zone)
    assert give(acting, second, tenant.zone) == []
    with acting.database.transaction() as session:
        jobs.release(session, first)
    assert give(acting, second, tenant.zone) == [job]


def test_an_object_is_deleted_after_whatever_else_is_done_to_it(
    tenant: Tenant, acting: ActingRuntime, store: str
) -> None:
    id = register(tenant)
    vm = ssvm(acting, tenant.zone)
    [job] = give(acting, vm, tenant.zone)
    tenant.run("deleteTemplate", id=id)
    with acting.database.reading() as session:
        [one] = session.scalars(select(StorageJob).where(StorageJob.ended.is_(None)))
        assert (one.kind, one.appliance_id) == ("delete", vm)
        assert session.get_one(StorageJob, job).state == "cancelled"
    # the other SSVM's directories do not include those of a store that was added since
    with acting.database.transaction() as session:
        session.get_one(Appliance, vm).shares = []
        session.get_one(StorageJob, one.id).appliance_id = None
    assert give(acting, vm, tenant.zone) == []


def test_a_failed_removal_is_tried_again(tenant: Tenant, acting: ActingRuntime, store: str) -> None:
    id = register(tenant)
    vm = finish(acting, tenant, id)
    tenant.run("deleteTemplate", id=id)
    [job] = give(acting, vm, tenant.zone)
    report(acting, vm, id=job, state="failed", failure=Failure(cause="store", message="Input/output error"))
    with acting.database.reading() as session:
        row = session.get_one(StorageJob, job)
        assert (row.ended, row.attempt) == (None, 2)


# --- copies ---------------------------------------------------------------------------------------------------------


def test_a_copy_is_made_by_two_ssvms(tenant: Tenant, acting: ActingRuntime, store: str) -> None:
    id = register(tenant)
    first = finish(acting, tenant, id)
    other = tenant.call("createZone", name="z2", networktype="Advanced", dns1="192.0.2.53", internaldns1="192.0.2.53")[
        "zone"
    ]["id"]
    assert "addImageStore" in tenant.call.error("copyTemplate", id=id, destzoneid=other)["errortext"]
    tenant.call("addImageStore", provider="Local", zoneid=other)
    assert "already" in tenant.call.error("copyTemplate", id=id, destzoneid=tenant.zone)["errortext"]
    tenant.call("copyTemplate", id=id, sourcezoneid=tenant.zone, destzoneid=other)
    assert tenant.call.error("copyTemplate", id=id, destzoneid=other)["errorcode"] == 536
    with acting.database.reading() as session:
        image = session.scalars(select(StoredImage).where(StoredImage.zone_id == other)).one()
        [job] = jobs.live(session, image.id)
        assert job.fields["checksum"] == f"sha256:{DIGEST}" and job.fields["size"] == 1000
        assert images.ready(session, "Template", id, tenant.zone) is not None
    assert "copied" in tenant.call.error("deleteTemplate", id=id, zoneid=tenant.zone)["errortext"]
    assert {entry["zoneid"] for entry in listed(tenant)} == {tenant.zone, other}
    # the target is told when the source knows it, and not before
    with acting.database.transaction() as session:
        source, target = session.get_one(Appliance, first), Appliance(id="target", shares=[job.store_id])
        source.observed_generation = source.desired_generation
        for expected in (None, None):
            copies.pair(session, other, [target], lambda zone_id: [source])
            assert session.get_one(StorageJob, job.id).appliance_id is expected
        link = session.scalars(select(StorageLink)).one()
        assert (link.appliance_id, link.peer, link.token_hash) == (first, "target", None)
        assert session.get_one(StorageJob, job.id).fields["generation"] > source.observed_generation


# --- what the SSVM is told ------------------------------------------------------------------------------------------


def document(acting: ActingRuntime, appliance_id: str) -> dict[str, Any]:
    """The valid document of an SSVM."""
    core = core_of(acting)
    with acting.database.transaction() as session:
        intent.prepare(session, session.get_one(Appliance, appliance_id), core)
    with acting.database.reading() as session:
        body = compile_ssvm(intent.load(session, appliance_id, core), Memo())
    SsvmDocument.model_validate_json(body)
    state: dict[str, Any] = json.loads(body)["state"]
    return state


def test_the_document_has_what_there_is_to_do(tenant: Tenant, acting: ActingRuntime, store: str) -> None:
    tenant.call("addImageStore", provider="NFS", url="nfs://10.1.2.3/export/images", zoneid=tenant.zone)
    tenant.call("addSwift", url="https://10.9.9.9:8080/auth/v1.0", account="AUTH", username="gate", key="sw1ft")
    for name, value in (
        ("secstorage.allowed.internal.sites", "10.5.0.0/16, 10.6.0.7"),
        ("secstorage.origins", "https://cloud.example.com"),
        ("secstorage.bandwidth", "1024"),
        ("secstorage.proxy", "http://203.0.113.5:3128"),
    ):
        tenant.call("updateConfiguration", name=name, value=value)
    for value in ("intranet", "10.1.2.3/16", "10.1.2.0/24,"):
        text = tenant.call.error("updateConfiguration", name="secstorage.allowed.internal.sites", value=value)
        assert "10.1.2.0/24" in text["errortext"]
    id = register(tenant, checksum=f"{{SHA-256}}{DIGEST}")
    vm = ssvm(acting, tenant.zone)
    [job] = give(acting, vm, tenant.zone)
    state = document(acting, vm)
    storage = state["storage"]
    kinds = {each["id"]: each for each in storage["stores"]}
    assert kinds[store] == {"kind": "directory", "id": store, "path": f"/var/lib/gatehouse/stores/{store}"}
    assert kinds["exchange"]["path"] == "/var/lib/gatehouse/stores/exchange"
    assert {each["kind"] for each in kinds.values()} == {"directory", "nfs", "swift"}
    [told] = storage["jobs"]
    assert (told["id"], told["url"], told["checksum"]) == (job, URL, f"sha256:{DIGEST}")
    assert told["size_limit"] == 50 << 30 and id in told["path"]
    assert storage["internal_sites"] == ["10.5.0.0/16", "10.6.0.7/32"]
    assert storage["storage_networks"] == ["10.1.2.3/32", "10.9.9.9/32"]
    assert (storage["bandwidth"], storage["origins"]) == (1 << 20, ["https://cloud.example.com"])
    # what is not public is behind the host, and nothing else
    routes = {route["destination"]: route["gateway"] for route in state["interfaces"]["routes"]}
    assert routes == dict.fromkeys(["10.5.0.0/16", "10.6.0.7/32", "10.1.2.3/32", "10.9.9.9/32"], "169.254.0.1")
    assert f"{vm}.peer" in _names(storage["peer"]["certificate"])


def _names(certificate: str) -> list[str]:
    found = x509.load_pem_x509_certificate(certificate.encode()).extensions
    names = found.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def test_templates_isos_and_volumes_take_of_secondary_storage(
    tenant: Tenant, bob: Tenant, acting: ActingRuntime, store: str
) -> None:
    """What an account has left is the most that its next image may have; nothing is begun when nothing is left."""
    domain = _domain(tenant)
    tenant.call("updateResourceLimit", resourcetype=11, account="bob", domainid=domain, max=3)
    first = register(bob)

    def limit() -> int:
        with acting.database.reading() as session:
            newest = select(StorageJob).where(StorageJob.kind == "download").order_by(StorageJob.created.desc())
            return int(session.scalars(newest).first().fields["size_limit"])  # type: ignore[union-attr]

    assert limit() == 3 << 30
    _take(acting, first, (1 << 30) + 1)
    second = bob.call("registerIso", name="i", url=URL, zoneid=bob.zone, bootable=False, displaytext="i")["iso"][0]
    assert limit() == 1 << 30, "two are begun"
    _take(acting, second["id"], 1 << 30)
    asked = {"name": "x", "zoneid": bob.zone}
    for command, more in (
        ("registerTemplate", {"url": URL, **KVM}),
        ("registerIso", {"url": URL, "bootable": False, "displaytext": "i"}),
        ("uploadVolume", {"url": URL, "format": "QCOW2"}),
    ):
        refused = bob.call.error(command, **asked, **more)
        assert refused["errorcode"] == 532 and "delete snapshots, templates or ISOs" in refused["errortext"], command
    bob.run("deleteIso", id=second["id"])
    register(bob)
    assert limit() == 1 << 30


def _take(acting: ActingRuntime, owner_id: str, size: int) -> None:
    """Its image is that large."""
    with acting.database.transaction() as session:
        for image in session.scalars(select(StoredImage).where(StoredImage.owner_id == owner_id)):
            image.state, image.physical_size = "Ready", size


def test_why_an_upload_failed_is_told_of_the_volume(tenant: Tenant, acting: ActingRuntime, store: str) -> None:
    vm = ssvm(acting, tenant.zone)
    made = tenant.call("uploadVolume", name="v", url=URL, zoneid=tenant.zone, format="QCOW2")
    [job] = give(acting, vm, tenant.zone)
    failure = Failure(cause="checksum", message="the file is not what was said")
    report(acting, vm, id=job, state="failed", failure=failure)
    [volume] = tenant.call("listVolumes", id=made["id"])["volume"]
    assert (volume["state"], volume["status"]) == ("UploadError", "the file is not what was said")
