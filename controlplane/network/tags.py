"""Tags of resources that go away in numbers; one that goes alone is ``api.tagging.remove_tags``'s."""

from __future__ import annotations

from sqlalchemy import Select, delete
from sqlalchemy.orm import Session

from controlplane.store.models import Tag


def forget(session: Session, resource_type: str, ids: Select[str]) -> None:
    """Delete the tags of all resources of a type whose ids a query gives; before the resources themselves."""
    statement = delete(Tag).where(Tag.resource_type == resource_type, Tag.resource_id.in_(ids))
    session.execute(statement, execution_options={"synchronize_session": False})
